"""``labels.csv``: which image is of which class.

UTF-8 with commas and a header. ``path`` (relative to ``data/raw``) and ``label`` are
required; ``parent`` names a coarser class, ``group`` what an image shares with others;
every other column is an attribute, by whose values figures are sliced.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fgpipe.errors import DataError
from fgpipe.images.files import listed

LABELS_NAME = "labels.csv"
REQUIRED = ("path", "label")
OPTIONAL = ("parent", "group")

_WAY_OUT = "mend labels.csv, or make it anew with `fgpipe data import FOLDER`"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledImage:
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


def read_labels(raw: Path) -> list[LabelledImage]:
    """Read and check ``labels.csv``.

    Args:
        raw: The folder ``data/raw``.

    Raises:
        DataError: If it is missing, no UTF-8 or without rows, lacks a column, or a row
            has an empty or repeated path, a path out of the folder, no label, or another
            parent than its class has elsewhere; rows are named by their line.
    """
    columns, rows = read_rows(raw / LABELS_NAME, required=REQUIRED)
    attributes = [name for name in columns if name not in REQUIRED + OPTIONAL]
    images = [
        LabelledImage(
            path=row["path"],
            label=row["label"],
            parent=row.get("parent") or None,
            group=row.get("group") or None,
            attributes={name: row[name] for name in attributes},
        )
        for _, row in rows
    ]
    problems = _problems(images, lines=[line for line, _ in rows], raw=raw)
    if problems:
        what = f"{raw / LABELS_NAME} has {len(problems)} wrong row(s)"
        raise DataError(listed(what, problems, _WAY_OUT))
    return images


def labels_text(images: Sequence[LabelledImage]) -> str:
    """The file's content for these rows; optional columns only where a row has a value."""
    optional = [name for name in OPTIONAL if any(getattr(image, name) for image in images)]
    attributes = list(images[0].attributes) if images else []
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*REQUIRED, *optional, *attributes])
    for image in images:
        cells = [getattr(image, name) or "" for name in (*REQUIRED, *optional)]
        writer.writerow([*cells, *(image.attributes[name] for name in attributes)])
    return file.getvalue()


def read_rows(
    path: Path, *, required: Sequence[str]
) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """A CSV file's columns, and its rows with the line each ends on.

    Raises:
        DataError: If it is missing, no UTF-8 or without rows, lacks a required column,
            names a column twice, or has a row of another length.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; `fgpipe data import FOLDER` writes it") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as UTF-8 ({error}); save it so") from None
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        columns = [name.strip() for name in next(reader, [])]
        rows = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if cells]
    except csv.Error as error:
        raise DataError(f"{path} line {reader.line_num}: {error}") from None
    for name in required:
        if name not in columns:
            raise DataError(f"{path} has no column {name!r}; it has {', '.join(columns) or 'none'}")
    if len(set(columns)) < len(columns) or "" in columns:
        raise DataError(f"{path} needs a distinct name for each column; it has {columns}")
    if not rows:
        raise DataError(f"{path} names no image")
    for line, cells in rows:
        if len(cells) != len(columns):
            raise DataError(f"{path} line {line}: {len(cells)} cells in {len(columns)} columns")
    return columns, [(line, dict(zip(columns, cells, strict=True))) for line, cells in rows]


def _problems(images: Sequence[LabelledImage], *, lines: Sequence[int], raw: Path) -> list[str]:
    problems = []
    first_line: dict[str, int] = {}
    parents: dict[str, str | None] = {}
    linked = _linked_folders(images, raw)
    for line, image in zip(lines, images, strict=True):
        problem = None
        if not image.path:
            problem = "empty path"
        elif not image.label:
            problem = f"{image.path} has no label"
        elif not _is_inside(image.path, linked):
            problem = f"{image.path} is not a path inside data/raw"
        elif image.path in first_line:
            problem = f"{image.path} was named in line {first_line[image.path]} already"
        elif parents.setdefault(image.label, image.parent) != image.parent:
            one, other = parents[image.label] or "none", image.parent or "none"
            problem = f"{image.label} has two parents, {one} and {other}"
        first_line.setdefault(image.path, line)
        if problem:
            problems.append(f"line {line}: {problem}")
    return problems


def _linked_folders(images: Sequence[LabelledImage], raw: Path) -> set[str]:
    """Folders below ``raw`` that are links; single files may be, into DVC's cache."""
    folders = {parent for image in images for parent in PurePosixPath(image.path).parents}
    return {str(folder) for folder in folders if (raw / folder).is_symlink() and str(folder) != "."}


def _is_inside(path: str, linked: set[str]) -> bool:
    """Whether a path is written plainly and stays below ``data/raw``."""
    pure = PurePosixPath(path)
    plain = pure.as_posix() == path and not pure.is_absolute() and ".." not in pure.parts
    return plain and not {"\\", "\0"} & set(path) and linked.isdisjoint(map(str, pure.parents))
