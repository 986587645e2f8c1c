"""03 preprocess: decode every image once and keep it as a memory-mapped uint8 array."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Int64, UInt8
from tqdm import tqdm

from fgpipe.config import PreprocessConfig
from fgpipe.errors import DataError
from fgpipe.images.boxes import boxes_of
from fgpipe.images.files import read_image
from fgpipe.images.labels_file import Box
from fgpipe.images.table import read_table
from fgpipe.images.transforms import Preprocessing
from fgpipe.ports import Ports
from fgpipe.records import (
    SPLITS,
    Manifest,
    Preprocessed,
    Protocol,
    Stored,
    Validation,
    file_sha256,
)

Channels = tuple[float, float, float]
Square = UInt8[np.ndarray, "size size 3"]

IMAGES_A_THREAD = 16
"""Images on their way at a time, for each thread: what bounds memory."""


def preprocess(
    *,
    raw: Path,
    manifest: Stored[Manifest],
    validate: Stored[Validation],  # noqa: ARG001 - only valid data are worth the time
    config: PreprocessConfig,
    out: Path,
    ports: Ports,  # noqa: ARG001 - a stage takes them all
) -> Preprocessed:
    """Write ``images.npy``, one row a row of the manifest, and ``transform.json``.

    Raises:
        DataError: If a file does not decode, a box is outside its image, boxes are to be
            cut out and no image has one, or a split has no image.
    """
    table = read_table(manifest.payload)
    _no_split_empty(table, protocol=manifest.record.protocol)
    in_training = (table["split"] == "train").tolist()
    transform = Preprocessing.from_config(**config.of_the_array())
    boxes = boxes_of(table)
    n_without_box = sum(box is None for box in boxes) if transform.uses_box else None
    if n_without_box == len(table):
        raise DataError(
            "preprocess.resize is box, but no image has one; add a column `box` (left top width "
            "height, in pixels) to the source and import it, or set preprocess.resize to "
            "letterbox, shortest_side or squash"
        )
    progress = tqdm(
        _transformed(table["path"].tolist(), boxes=boxes, raw=raw, transform=transform),
        total=len(table),
        desc="preprocess",
        unit="image",
        disable=None,
    )
    array_path = out / "payload" / "images.npy"
    mean, std = write_images(
        array_path,
        progress,
        n_images=len(table),
        size_px=config.image_size_px,
        counted=in_training,
    )
    transform_path = out / "payload" / "transform.json"
    transform_path.write_text(transform.to_json())
    return Preprocessed(
        manifest_sha256=manifest.record.sha256(),
        n_images=len(table),
        image_size_px=config.image_size_px,
        color_space=config.color_space,
        n_without_box=n_without_box,
        channel_mean=mean,
        channel_std=std,
        array_sha256=file_sha256(array_path),
        transform_sha256=file_sha256(transform_path),
    )


def _no_split_empty(table: pd.DataFrame, *, protocol: Protocol) -> None:
    """Training needs two splits and evaluation the others; refused before an hour is spent."""
    empty = [split for split in SPLITS if not (table["split"] == split).any()]
    if not empty:
        return
    way_out = (
        "mend the column `split` of labels.csv, or set manifest.protocol to stable"
        if protocol == "given"
        else "`fgpipe data add PATH` brings in more groups of images; or raise manifest.fractions"
    )
    raise DataError(
        f"none of {len(table)} images is in the split {' or '.join(empty)} "
        f"(manifest.protocol is {protocol}); {way_out}"
    )


def _transformed(
    paths: Sequence[str], *, boxes: Sequence[Box | None], raw: Path, transform: Preprocessing
) -> Iterator[Square]:
    """Each path's image, in order, a bounded number of them in memory."""

    def one(path: str, box: Box | None) -> Square:
        image = read_image(raw / path, name=path)
        try:
            return transform(image, box)
        except DataError as error:
            raise DataError(f"{path}: {error}; mend its row in labels.csv") from None

    n_threads = cpu_count() or 1
    chunk = IMAGES_A_THREAD * n_threads
    with ThreadPoolExecutor(n_threads) as pool:
        for start in range(0, len(paths), chunk):
            part = slice(start, start + chunk)
            yield from pool.map(one, paths[part], boxes[part])


def write_images(
    path: Path, images: Iterable[Square], *, n_images: int, size_px: int, counted: Sequence[bool]
) -> tuple[Channels, Channels]:
    """Write an ``.npy`` file image by image; mean and deviation of the channels of some.

    Written as a file and not through a memory map, whose pages would count as this
    process's memory: 15 GB at 100,000 images.

    Args:
        path: The file.
        images: Its rows.
        n_images: How many there are.
        size_px: Height and width of each.
        counted: Whether an image counts for the statistics.

    Returns:
        Mean and standard deviation of each channel, on the scale 0 to 1. Their sums are
        integers, so that they do not depend on the order of images.
    """
    shape = (n_images, size_px, size_px, 3)
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    histograms = np.zeros((3, 256), dtype=np.int64)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for image, counts in zip(images, counted, strict=True):
            file.write(np.ascontiguousarray(image).data)
            if counts:
                histograms += histograms_of(image)
    return statistics_of(histograms)


def histograms_of(image: Square) -> Int64[np.ndarray, "3 256"]:
    """How often each channel has each value."""
    return np.stack([np.bincount(image[..., c].ravel(), minlength=256) for c in range(3)])


def statistics_of(histograms: Int64[np.ndarray, "3 256"]) -> tuple[Channels, Channels]:
    """Mean and standard deviation of each channel, on the scale 0 to 1."""
    values = np.arange(256, dtype=np.int64)
    n = histograms.sum(axis=1)
    mean = histograms @ values / n
    std = np.sqrt(np.maximum(histograms @ values**2 / n - mean**2, 0))
    return _rounded(mean), _rounded(std)


def _rounded(values: np.ndarray) -> Channels:
    red, green, blue = (round(float(value) / 255, 6) for value in values)
    return red, green, blue
