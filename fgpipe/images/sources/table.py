"""A table of images: CSV, TSV or Parquet with the columns ``path`` and ``label``.

``group``, ``split``, ``parent`` and ``box`` (or ``left``, ``top``, ``width``, ``height``) may
be there too and mean what they mean in ``labels.csv``; every other column is an attribute.
Paths are relative to the table, or absolute.
"""

import csv
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fgpipe.errors import DataError
from fgpipe.images.csv_file import check_columns
from fgpipe.images.files import listed
from fgpipe.images.labels_file import OPTIONAL, REQUIRED, Box
from fgpipe.images.sources.gathering import SPLIT_NAMES, gather
from fgpipe.images.sources.source import Source, SourceImage

SUFFIXES = (".csv", ".tsv", ".parquet")
"""How a table's name ends, in lower case."""

SIDES = ("left", "top", "width", "height")
"""The columns that together are a box."""

Row = tuple[str, dict[str, str]]
"""Where it is in the table, for people, and its cells by column."""


def table_images(path: Path, *, contained: bool = False) -> Source:
    """The images that a table names.

    Args:
        path: The table.
        contained: Whether images must be below the table's folder, as in an archive.

    Raises:
        DataError: If it cannot be read, lacks a column, or has a bad row; rows are named.
    """
    columns = columns_of(path)
    check_columns(path, columns, required=REQUIRED)
    has_sides = set(SIDES) <= set(columns) and "box" not in columns
    known = {*REQUIRED, *OPTIONAL, *(SIDES if has_sides else ())}
    attributes = [name for name in columns if name not in known]
    folder = os.path.abspath(path.parent)  # noqa: PTH100 - links stay as they are
    fields: list[dict[str, Any]] = []
    problems = []
    places: dict[str, str] = {}
    for where, cells in _rows(path, columns):
        try:
            file = _file(cells["path"], folder=folder)
            _check_file(file, cells["path"], places=places, within=folder if contained else None)
            fields.append(_fields(cells, attributes=attributes, has_sides=has_sides))
            places[file] = where
        except DataError as error:
            problems.append(f"{where}: {error}")
    if problems:
        what = f"{path} has {len(problems):,} wrong row(s)"
        raise DataError(listed(what, problems, "mend the table; paths are relative to it"))
    paths = _paths(list(places), folder=folder)
    images = (
        SourceImage(file=Path(file), path=path, **row)
        for file, path, row in zip(places, paths, fields, strict=True)
    )
    return gather(str(path), images, seen=True)


def columns_of(path: Path) -> list[str]:
    """Names of a table's columns.

    Raises:
        DataError: If it cannot be read.
    """
    if path.suffix.lower() == ".parquet":
        from pyarrow import ArrowException, parquet

        try:
            schema = parquet.read_schema(path)
        except (ArrowException, OSError, ValueError) as error:
            raise DataError(f"{path} is no Parquet file ({error})") from None
        for field in schema:
            if field.name != "box" and (field.type.num_fields or "binary" in str(field.type)):
                raise DataError(
                    f"{path}: column {field.name!r} holds {field.type}; leave it out, or name the "
                    "folder if this is a file of Hugging Face datasets"
                )
        return [str(name) for name in schema.names]
    for _, cells in _csv_lines(path):
        return [cell.strip() for cell in cells]
    return []


def _rows(path: Path, columns: list[str]) -> Iterator[Row]:
    if path.suffix.lower() == ".parquet":
        yield from _parquet_rows(path)
        return
    lines = _csv_lines(path)
    next(lines, None)
    for number, cells in lines:
        if len(cells) != len(columns):
            raise DataError(f"{path} line {number}: {len(cells)} cells in {len(columns)} columns")
        yield f"line {number}", dict(zip(columns, map(str.strip, cells), strict=True))


def _csv_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter)
            try:
                yield from ((reader.line_num, cells) for cells in reader if cells)
            except csv.Error as error:
                raise DataError(f"{path} line {reader.line_num}: {error}") from None
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as UTF-8 ({error}); save it so") from None


def _parquet_rows(path: Path) -> Iterator[Row]:
    from pyarrow import ArrowException, parquet

    number = 0
    try:
        with parquet.ParquetFile(path, pre_buffer=False) as file:  # which keeps the whole file
            for batch in file.iter_batches(batch_size=10_000):
                for row in batch.to_pylist():
                    number += 1
                    yield f"row {number}", {key: _text(value) for key, value in row.items()}
    except (ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error})") from None


def _text(value: object) -> str:
    """A Parquet cell as a CSV file has it; four numbers in a list are a box."""
    if value is None or value != value:  # noqa: PLR0124 - not a number
        return ""
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value))
    return str(value).strip()


def _file(path: str, *, folder: str) -> str:
    if not path:
        raise DataError("empty path")
    if "\0" in path:
        raise DataError(f"{path!r} is no path")
    return os.path.normpath(f"{folder}{os.sep}{path}" if path[0] != os.sep else path)


def _fields(
    cells: Mapping[str, str], *, attributes: list[str], has_sides: bool
) -> dict[str, object]:
    """What a row says of its image, but for where it is."""
    if not cells["label"]:
        raise DataError(f"{cells['path']} has no label")
    split = cells.get("split") or None
    if split is not None and split.lower() not in SPLIT_NAMES:
        raise DataError(f"split is {split!r}, not one of {', '.join(SPLIT_NAMES)} (or empty)")
    box = cells.get("box", "")
    if has_sides:
        box = " ".join(cells[name] for name in SIDES).strip()
    return {
        "label": cells["label"],
        "parent": cells.get("parent") or None,
        "group": cells.get("group") or None,
        "split": SPLIT_NAMES[split.lower()] if split else None,
        "box": Box.parse(box) if box else None,
        "attributes": {name: cells[name] for name in attributes},
    }


def _check_file(file: str, path: str, *, places: Mapping[str, str], within: str | None) -> None:
    if within is not None and not file.startswith(f"{within}{os.sep}"):
        raise DataError(f"{path} is outside the archive")
    if file in places:
        raise DataError(f"{path} was named in {places[file]} already")
    if not os.path.isfile(file):  # noqa: PTH113 - half the time of Path.is_file
        hint = "; folders are parted by /" if "\\" in path else ""
        raise DataError(f"{path} does not exist{hint}")


def _paths(files: list[str], *, folder: str) -> Iterator[str]:
    """Below ``images/`` as below the table; elsewhere as below what they have in common."""
    start = f"{folder}{os.sep}"
    outside = [file for file in files if not file.startswith(start)]
    shared = os.path.commonpath([os.path.dirname(file) for file in outside]) if outside else ""  # noqa: PTH120 - as above
    for file in files:
        below = file[len(start) :] if file.startswith(start) else os.path.relpath(file, shared)
        yield f"images/{below.replace(os.sep, '/').removeprefix('images/')}"
