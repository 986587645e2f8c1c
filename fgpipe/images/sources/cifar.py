"""CIFAR-10 and CIFAR-100: 60,000 images of 32 x 32 px, in their binary form.

The form for Python is a pickle, which may run any code when it is read: nothing here reads
one. The binary form has the same images in the same order.

Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images" (2009).
"""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from fgpipe.errors import DataError
from fgpipe.images.sources.annotations import lines_of
from fgpipe.images.sources.gathering import gather
from fgpipe.images.sources.source import Source, SourceImage
from fgpipe.records import Split

LICENCE = "not stated by its publishers"

SIDE_PX = 32
"""Height and width of every image."""

TEN = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")
"""CIFAR-10's files."""

HUNDRED = ("train.bin", "test.bin")
"""CIFAR-100's files."""

PICKLES = (("batches.meta", "data_batch_1"), ("meta", "train", "test"))
"""Files of the two sets' form for Python."""

_RECORDS_AT_ONCE = 1000


def find_10(path: Path) -> Path | None:
    """Where CIFAR-10 is, in either form, at or in a path."""
    return _find(
        path,
        inside=("cifar-10-batches-bin", "cifar-10-batches-py"),
        markers=(("batches.meta.txt",), PICKLES[0]),
    )


def find_100(path: Path) -> Path | None:
    """Where CIFAR-100 is, in either form, at or in a path."""
    return _find(
        path,
        inside=("cifar-100-binary", "cifar-100-python"),
        markers=(("fine_label_names.txt",), PICKLES[1]),
    )


def _find(
    path: Path, *, inside: tuple[str, ...], markers: tuple[tuple[str, ...], ...]
) -> Path | None:
    for place in (path, *(path / name for name in inside)):
        if any(all((place / name).is_file() for name in names) for names in markers):
            return place
    return None


def cifar10(folder: Path, work: Path) -> Source:
    """The images of CIFAR-10, written as PNG.

    Args:
        folder: The folder with ``batches.meta.txt``.
        work: Where images are written.

    Raises:
        DataError: If a file is missing or not whole, or it is the form for Python.
    """
    _refuse_pickles(folder, "cifar-10-binary.tar.gz")
    names = [[line for _, line in lines_of(folder / "batches.meta.txt")]]
    images = [image for part in TEN for image in _part(folder / part, work, names)]
    return gather(str(folder), images, licence=LICENCE, seen=True)


def cifar100(folder: Path, work: Path) -> Source:
    """The images of CIFAR-100, written as PNG; the coarse class is the parent.

    Args:
        folder: The folder with ``fine_label_names.txt``.
        work: Where images are written.

    Raises:
        DataError: If a file is missing or not whole, or it is the form for Python.
    """
    _refuse_pickles(folder, "cifar-100-binary.tar.gz")
    files = ("coarse_label_names.txt", "fine_label_names.txt")
    names = [[line for _, line in lines_of(folder / file)] for file in files]
    images = [image for part in HUNDRED for image in _part(folder / part, work, names)]
    return gather(str(folder), images, licence=LICENCE, seen=True)


def _refuse_pickles(folder: Path, instead: str) -> None:
    if any((folder / names[0]).is_file() for names in PICKLES):
        raise DataError(
            f"{folder} is CIFAR's form for Python, pickles, which may run any code when read; "
            f"get the binary form, {instead}"
        )


def _part(path: Path, work: Path, names: list[list[str]]) -> Iterator[SourceImage]:
    """The images of one file, written; the last of a record's labels is the finest."""
    folder = work / "images" / path.stem
    folder.mkdir(parents=True)
    split: Split = "test" if path.stem.startswith("test") else "train"
    for number, (targets, pixels) in enumerate(_records(path, n_labels=len(names))):
        for target, known in zip(targets, names, strict=True):
            if target >= len(known):
                raise DataError(f"{path}: class {target} is none of the {len(known)}")
        labels = [known[target] for target, known in zip(targets, names, strict=True)]
        file = folder / f"{number:05d}.png"
        image = pixels.reshape(3, SIDE_PX, SIDE_PX)[::-1].transpose(1, 2, 0)
        if not cv2.imwrite(str(file), image):
            raise DataError(f"{file} cannot be written; is there space left?")
        yield SourceImage(
            file=file,
            path=f"images/{path.stem}/{file.name}",
            label=labels[-1],
            parent=labels[0] if len(labels) > 1 else None,
            split=split,
        )


def _records(path: Path, *, n_labels: int) -> Iterator[tuple[list[int], np.ndarray]]:
    """Labels and pixels, red plane first, of each record of a file."""
    size = n_labels + 3 * SIDE_PX * SIDE_PX
    if not path.exists():
        raise DataError(f"{path} is missing; the set is not whole, unpack it again")
    n_bytes = path.stat().st_size
    if n_bytes % size or not n_bytes:
        raise DataError(f"{path} has {n_bytes:,} bytes, no multiple of a record's {size:,}")
    with path.open("rb") as file:
        while data := file.read(size * _RECORDS_AT_ONCE):
            for record in np.frombuffer(data, np.uint8).reshape(-1, size):
                yield record[:n_labels].tolist(), record[n_labels:]
