"""``labels.csv``: which image is of which class.

UTF-8 with commas and a header. ``path`` (relative to ``data/raw``) and ``label`` are
required; ``parent`` names a coarser class, ``group`` what an image shares with others,
``split`` where its publisher put it, ``box`` where in it the object is (``left top width
height`` in pixels of the upright image); every other column is an attribute, by whose
values figures are sliced.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import NamedTuple, Self, TypeVar

from fgpipe.errors import DataError
from fgpipe.images.collector import without_collector
from fgpipe.images.csv_file import read_columns, rows_text
from fgpipe.images.files import listed
from fgpipe.records import SPLITS, Split

T = TypeVar("T")

LABELS_NAME = "labels.csv"
REQUIRED = ("path", "label")
OPTIONAL = ("parent", "group", "split", "box")

MAX_BOX_PX = 10**9
"""Largest number in a box: far beyond any image, and small enough to compute with."""

_SHOWN_CHARACTERS = 80
_NO_ATTRIBUTES: Mapping[str, str] = MappingProxyType({})

_WAY_OUT = "mend labels.csv, or make it anew with `fgpipe data import FOLDER`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A rectangle in an upright image, in pixels; at least one pixel of it is inside."""

    left: int
    top: int
    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.left} {self.top} {self.width} {self.height}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``left top width height``; fractions are rounded.

        Raises:
            DataError: If it is not four numbers, has no area, or is larger than any image.
        """
        shown = repr(text[:_SHOWN_CHARACTERS])
        try:
            left, top, width, height = (round(float(part)) for part in text.split())
        except (ValueError, OverflowError):
            raise DataError(f"box is {shown}, not `left top width height` in pixels") from None
        if min(left, top) < 0 or min(width, height) < 1:
            raise DataError(f"box is {shown}, which has no area or begins outside the image")
        if max(left, top, width, height) > MAX_BOX_PX:
            raise DataError(f"box is {shown}, which is larger than any image (in pixels)")
        return cls(left=left, top=top, width=width, height=height)


class LabelledImage(NamedTuple):
    """One row."""

    path: str
    """Relative to ``data/raw``, with forward slashes."""
    label: str
    """Its class."""
    parent: str | None
    """The coarser class, if there is one."""
    group: str | None
    """As the source gave it; ``groups.csv`` has what counts."""
    attributes: Mapping[str, str]
    """Every further column."""
    split: Split | None = None
    """As the source gave it; used under ``manifest.protocol: given`` alone."""
    box: Box | None = None
    """Where the object is, if the source says so."""


@without_collector()
def read_labels(raw: Path) -> list[LabelledImage]:
    """Read and check ``labels.csv``.

    Args:
        raw: The folder ``data/raw``.

    Raises:
        DataError: If it is missing, no UTF-8 or without rows, lacks a column, or a row
            has an empty or repeated path, a path out of the folder, no label, an unknown
            split, a box that is none, or another parent than its class has elsewhere;
            rows are named by their line.
    """
    cells, lines = read_columns(raw / LABELS_NAME, required=REQUIRED)
    nothing = [""] * len(lines)
    path, label, parent, group, split, box = (
        cells.get(name, nothing) for name in (*REQUIRED, *OPTIONAL)
    )
    known = {*REQUIRED, *OPTIONAL}
    attributes = {name: column for name, column in cells.items() if name not in known}
    problems: dict[int, str] = {}
    images = list(
        map(
            LabelledImage,
            path,
            map(sys.intern, label),  # of equal texts one is kept
            [sys.intern(name) or None for name in parent],
            [name or None for name in group],
            _rows(attributes) if attributes else repeat(_NO_ATTRIBUTES),
            _parsed(split, _split, lines=lines, problems=problems),
            _parsed(box, Box.parse, lines=lines, problems=problems),
        )
    )
    problems = _problems(images, lines=lines, raw=raw) | problems
    if problems:
        what = f"{raw / LABELS_NAME} has {len(problems)} wrong row(s)"
        rows = [f"line {line}: {problem}" for line, problem in sorted(problems.items())]
        raise DataError(listed(what, rows, _WAY_OUT))
    return images


def _rows(columns: Mapping[str, Sequence[str]]) -> Iterator[dict[str, str]]:
    interned = [map(sys.intern, column) for column in columns.values()]
    return (dict(zip(columns, values, strict=True)) for values in zip(*interned, strict=True))


def _parsed(
    cells: Sequence[str],
    parse: Callable[[str], T],
    *,
    lines: Sequence[int],
    problems: dict[int, str],
) -> list[T | None]:
    """What cells say, None of empty ones; why one says nothing is added to ``problems``."""
    values: list[T | None] = []
    for line, cell in zip(lines, cells, strict=True):
        value = None
        try:
            value = parse(cell) if cell else None
        except DataError as error:
            problems.setdefault(line, str(error))
        values.append(value)
    return values


def _split(text: str) -> Split:
    for split in SPLITS:
        if text == split:
            return split
    raise DataError(f"split is {text!r}, not one of {', '.join(SPLITS)} (or empty)")


def refuse_mixed_parents(parents: Mapping[str, str | None], *, remark: str) -> None:
    """Refuse classes of which some belong to a coarser one and others to none.

    Args:
        parents: Of each class.
        remark: What is said before the way out.

    Raises:
        DataError: Naming those without.
    """
    without = sorted(label for label, parent in parents.items() if parent is None)
    if without and len(without) < len(parents):
        what = f"{len(without)} of {len(parents)} classes have no parent, the others do"
        raise DataError(listed(what, without, f"{remark}; give all classes one, or none"))


def labels_text(images: Sequence[LabelledImage]) -> str:
    """The file's content for these rows; optional columns only where a row has a value."""
    optional = [name for name in OPTIONAL if any(getattr(image, name) for image in images)]
    attributes = list(images[0].attributes) if images else []
    rows = (
        [
            *(getattr(image, name) or "" for name in (*REQUIRED, *optional)),
            *(image.attributes[name] for name in attributes),
        ]
        for image in images
    )
    return rows_text([*REQUIRED, *optional, *attributes], rows)


def _problems(
    images: Sequence[LabelledImage], *, lines: Sequence[int], raw: Path
) -> dict[int, str]:
    """What is wrong with rows, by line."""
    problems = {}
    first_line: dict[str, int] = {}
    parents: dict[str, str | None] = {}
    plain_folders = _plain_folders(images, raw)
    for line, image in zip(lines, images, strict=True):
        problem = None
        if not image.path:
            problem = "empty path"
        elif not image.label:
            problem = f"{image.path} has no label"
        elif not _is_inside(image.path, plain_folders):
            problem = f"{image.path} is not a path inside data/raw"
        elif image.path in first_line:
            problem = f"{image.path} was named in line {first_line[image.path]} already"
        elif parents.setdefault(image.label, image.parent) != image.parent:
            one, other = parents[image.label] or "none", image.parent or "none"
            problem = f"{image.label} has two parents, {one} and {other}"
        first_line.setdefault(image.path, line)
        if problem:
            problems[line] = problem
    return problems


def _plain_folders(images: Sequence[LabelledImage], raw: Path) -> set[str]:
    """Folders that are written plainly and lie below ``raw``, over no link.

    Single files may be links, into DVC's cache.
    """
    folders = {image.path.rpartition("/")[0] for image in images}
    return {folder for folder in folders if _is_plain(folder, raw=raw)}


def _is_plain(folder: str, *, raw: Path) -> bool:
    if not folder:
        return True
    pure = PurePosixPath(folder)
    is_below = pure.as_posix() == folder and not pure.is_absolute() and ".." not in pure.parts
    if not is_below or {"\\", "\0"} & set(folder):
        return False
    return not any((raw / part).is_symlink() for part in (pure, *pure.parents[:-1]))


def _is_inside(path: str, plain_folders: set[str]) -> bool:
    """Whether a path is written plainly and stays below ``data/raw``."""
    folder, slash, name = path.rpartition("/")
    if folder not in plain_folders or (slash and not folder):
        return False
    return name not in {"", ".", ".."} and "\\" not in name and "\0" not in name
