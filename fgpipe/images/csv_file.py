"""CSV files: UTF-8 with commas and a header, read by columns."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import pyarrow as pa
from pyarrow import csv as quick_csv

from fgpipe.errors import DataError
from fgpipe.images.collector import without_collector

_NOT_PLAIN = (b'"', b"\r", b"\n\n")
"""What is in no file whose every line is a row, and every comma the end of a cell."""


Rows: TypeAlias = tuple[Iterable[Sequence[str]], Sequence[int]]
"""The columns below the header, and the line that each row ends on."""


class Columns(NamedTuple):
    """What a file holds, without white space around cells."""

    cells: dict[str, list[str]]
    """By column, one entry a row."""
    lines: Sequence[int]
    """The line that each row ends on, from 1."""


def rows_text(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """What :func:`read_columns` reads.

    Args:
        columns: Their names.
        rows: Cells in the order of the columns.
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return file.getvalue()


def read_rows(
    path: Path, *, required: Sequence[str]
) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """A CSV file's columns, and its rows by column with the line each ends on.

    Raises:
        DataError: As :func:`read_columns` does.
    """
    cells, lines = read_columns(path, required=required)
    rows = zip(*cells.values(), strict=True)
    return list(cells), [
        (line, dict(zip(cells, row, strict=True))) for line, row in zip(lines, rows, strict=True)
    ]


@without_collector()
def read_columns(path: Path, *, required: Sequence[str]) -> Columns:
    """A CSV file's cells by column.

    Raises:
        DataError: If it is missing, no UTF-8 or without rows, lacks a required column,
            names a column twice, or has a row of another length.
    """
    try:
        content = path.read_bytes()
        content.decode()
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; `fgpipe data import FOLDER` writes it") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as UTF-8 ({error}); save it so") from None
    reader = csv.reader(io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig"))
    try:
        names = [name.strip() for name in next(reader, [])]
        check_columns(path, names, required=required)
        rows = _quickly(content, n_columns=len(names))
        columns, lines = rows or _carefully(reader, n_columns=len(names), path=path)
    except csv.Error as error:
        raise DataError(f"{path} line {reader.line_num}: {error}") from None
    if not lines:
        raise DataError(f"{path} names no image")
    cells = {
        name: list(map(str.strip, column)) for name, column in zip(names, columns, strict=True)
    }
    return Columns(cells, lines)


def _quickly(content: bytes, *, n_columns: int) -> Rows | None:
    """By pyarrow, a third of the time; None for a file that is not plain, or is wrong.

    Cells may be longer than Python's csv module takes them.
    """
    if any(mark in content for mark in _NOT_PLAIN):
        return None
    names = list(map(str, range(n_columns)))
    try:
        table = quick_csv.read_csv(
            pa.BufferReader(content),
            read_options=quick_csv.ReadOptions(skip_rows=1, column_names=names),
            convert_options=quick_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string())
            ),
        )
    except pa.ArrowInvalid:
        return None
    columns = (column.to_numpy().tolist() for column in table.columns)
    return columns, range(2, 2 + table.num_rows)


def _carefully(reader: Any, *, n_columns: int, path: Path) -> Rows:  # noqa: ANN401 - csv's own
    rows, lines = [], []
    for cells in reader:
        if cells:
            rows.append(cells)
            lines.append(reader.line_num)
    for line, cells in zip(lines, rows, strict=True):
        if len(cells) != n_columns:
            raise DataError(f"{path} line {line}: {len(cells)} cells in {n_columns} columns")
    return list(zip(*rows, strict=True)) or [()] * n_columns, lines


def check_columns(path: Path, columns: Sequence[str], *, required: Sequence[str]) -> None:
    """Hold a table's columns against what it needs.

    Args:
        path: What an error calls the table.
        columns: Their names.
        required: Those it must have.

    Raises:
        DataError: If one is missing, or two are called alike or one by nothing.
    """
    for name in required:
        if name not in columns:
            parted = next((mark for mark in (";", "\t") if mark in "".join(columns)), None)
            hint = f" (parted by {parted!r}; save it with commas)" if parted else ""
            there = ", ".join(columns) or "none"
            raise DataError(f"{path} has no column {name!r}; it has {there}{hint}")
    if len(set(columns)) < len(columns) or "" in columns:
        raise DataError(f"{path} needs a distinct name for each column; it has {columns}")
