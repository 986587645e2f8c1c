"""The annotation files that published sets come with; a wrong line is named by its number."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fgpipe.errors import DataError
from fgpipe.images.labels_file import Box


def lines_of(path: Path) -> list[tuple[int, str]]:
    """A text file's lines that are not empty, with their numbers.

    Raises:
        DataError: If it is missing, no UTF-8 or empty.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path} is missing; the set is not whole, unpack it again") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as UTF-8 ({error})") from None
    lines = [(i, line.strip()) for i, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise DataError(f"{path} is empty; the set is not whole, unpack it again")
    return lines


def fields_of(path: Path, *, what: str) -> list[tuple[int, list[str]]]:
    """The fields of each line, split at white space; the last takes what is left.

    Args:
        path: The file.
        what: Names of the fields, as ``id name``, which say how many there are.

    Raises:
        DataError: If the file is missing, or a line has too few.
    """
    n_fields = len(what.split())
    rows = []
    for number, line in lines_of(path):
        fields = line.split(None, n_fields - 1)
        if len(fields) != n_fields:
            raise DataError(f"{path} line {number}: {line!r} is not `{what}`")
        rows.append((number, fields))
    return rows


def table_of(path: Path, *, what: str) -> dict[str, str]:
    """A file of two fields a line, as what the first says of the second.

    Raises:
        DataError: If the file is missing, or a line has one field or a repeated first one.
    """
    table: dict[str, str] = {}
    for number, (key, value) in fields_of(path, what=what):
        if key in table:
            raise DataError(f"{path} line {number}: {key} is there a second time")
        table[key] = value
    return table


def boxes_of(path: Path, *, known: Mapping[str, object]) -> dict[str, Box]:
    """Boxes ``id left top width height``; none where there is no file.

    Args:
        path: The file.
        known: The images' ids.

    Raises:
        DataError: If a line is none, or of an image that is not known.
    """
    if not path.exists():
        return {}
    boxes = {}
    for number, (key, *numbers) in fields_of(path, what="id left top width height"):
        if key not in known:
            raise DataError(f"{path} line {number}: there is no image {key}")
        try:
            boxes[key] = Box.parse(" ".join(numbers))
        except DataError as error:
            raise DataError(f"{path} line {number}: {error}") from None
    return boxes


def looked_up(table: Mapping[str, str], key: str, *, path: Path, what: str) -> str:
    """What a table says of a key.

    Raises:
        DataError: If it says nothing; ``path`` is where it would be.
    """
    try:
        return table[key]
    except KeyError:
        raise DataError(f"{path} has no line for {what} {key}") from None


def json_of(path: Path) -> Any:  # noqa: ANN401 - a foreign file's content
    """A JSON file's content.

    Raises:
        DataError: If it is missing or no JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path} is missing; the set is not whole, unpack it again") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON ({error})") from None
