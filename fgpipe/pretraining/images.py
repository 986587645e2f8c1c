"""What there is to learn from without labels: the training split, and images beside it.

Images beside it lie anywhere below ``data/unlabelled``. One whose bytes are those of an
image of the manifest is left out: it is learnt from already, or it must not be, being in
another split.
"""

import hashlib
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from os import cpu_count
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from fgpipe.errors import DataError
from fgpipe.images.batches import Pixels, Rows
from fgpipe.images.content import read_below
from fgpipe.images.files import list_names, listed, read_image
from fgpipe.images.transforms import Preprocessing

Image = UInt8[np.ndarray, "height width 3"]

IMAGES_AT_ONCE = 64
"""That are decoded together, which bounds memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlabelled:
    """Images without labels, each content once."""

    paths: dict[str, Path]
    """By the sha256 of their bytes, in its order: neither names nor folders count."""
    n_left_out: int
    """Files that are not among them: in the manifest, or there under two names."""


def find_unlabelled(folder: Path, *, known: Collection[str]) -> Unlabelled:
    """Every image below a folder whose bytes are not known.

    Args:
        folder: Where to look; none is as good as an empty one.
        known: sha256 of all images of the manifest.

    Raises:
        DataError: If a file cannot be read.
    """
    names = list_names(folder)
    found = {hashlib.sha256(read_below(folder, name)).hexdigest(): name for name in reversed(names)}
    paths = {sha256: folder / found[sha256] for sha256 in sorted(found) if sha256 not in known}
    return Unlabelled(paths=paths, n_left_out=len(names) - len(paths))


def decode_unlabelled(unlabelled: Unlabelled, *, transform: Preprocessing, file: Path) -> Pixels:
    """Preprocess images as labelled ones are, into a memory-mapped file; once.

    Args:
        unlabelled: Which ones, at least one. Boxes come with none: they are taken whole.
        transform: What preprocessing did to the others.
        file: Where they are kept, for the caller to remove; taken as it is if it is there.

    Raises:
        DataError: If some cannot be read: the first five with reasons.
    """
    if not file.exists():
        size_px = transform.image_size_px
        partial = file.with_suffix(".partial")
        file.parent.mkdir(parents=True, exist_ok=True)
        shape = (len(unlabelled.paths), size_px, size_px, 3)
        try:
            with partial.open("wb") as target:
                header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(target, header)
                for image in _decoded(list(unlabelled.paths.values()), transform=transform):
                    target.write(np.ascontiguousarray(image).data)
            partial.replace(file)
        except BaseException:  # with other images the folder would be another
            partial.unlink(missing_ok=True)
            with suppress(OSError):
                file.parent.rmdir()
            raise
    pixels: Pixels = np.load(file, mmap_mode="r")
    return pixels


def _decoded(paths: list[Path], *, transform: Preprocessing) -> Iterator[Image]:
    def one(path: Path) -> Image | DataError:
        try:
            return transform(read_image(path))
        except DataError as error:
            return error

    bad: list[DataError] = []
    with ThreadPoolExecutor(cpu_count()) as pool:
        for start in range(0, len(paths), IMAGES_AT_ONCE):
            for result in pool.map(one, paths[start : start + IMAGES_AT_ONCE]):
                if isinstance(result, DataError):
                    bad.append(result)
                else:
                    yield result
    if bad:
        what = f"{len(bad)} of {len(paths)} unlabelled images cannot be used"
        raise DataError(listed(what, bad, "mend them, or move them out of data/unlabelled"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """All images to learn from, in one row, as if they were one array."""

    labelled: Pixels
    """All of the manifest's."""
    train: Rows
    """Which of them to learn from: the first."""
    unlabelled: Pixels | None
    """The others, if there are any."""

    def __len__(self) -> int:
        return len(self.train) + (0 if self.unlabelled is None else len(self.unlabelled))

    def __getitem__(self, position: int) -> Image:
        if position < len(self.train):
            image: Image = self.labelled[self.train[position]]
            return image
        assert self.unlabelled is not None, position
        beside: Image = self.unlabelled[position - len(self.train)]
        return beside
