"""``groups.csv``: every image that ever came in, by content, and its group.

``fgpipe data`` commands write it; rows are added and never removed, and nothing of a row
changes but its status, once, when the image is forgotten: so an image never changes split.
A group's id is the smallest sha256 of its first batch.
"""

import re
import sys
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from fgpipe.errors import DataError
from fgpipe.images.collector import without_collector
from fgpipe.images.files import listed
from fgpipe.images.labels_file import read_cells, rows_text

GROUPS_NAME = "groups.csv"
STATUSES = ("active", "removed")

_HASH = re.compile("[0-9a-f]{64}")
_NUMBER = re.compile("[1-9][0-9]*")

_WAY_OUT = (
    "nothing but `fgpipe data` writes this file: bring it back with `dvc checkout data/raw`, "
    "or remove data/raw and run `fgpipe data import FOLDER` again"
)


class GroupRow(NamedTuple):
    """One row."""

    sha256: str
    """The image."""
    group: str
    """What no two splits share."""
    batch: int
    """When it was added, from 1."""
    stratum: str
    """What every split should have its share of: ``class``, or ``class|value|...``."""
    status: str
    """``active``: takes part; ``removed``: forgotten, but its group stays dealt."""


COLUMNS = GroupRow._fields


@without_collector()
def read_groups(raw: Path) -> list[GroupRow]:
    """Read and check ``groups.csv``.

    Args:
        raw: The folder ``data/raw``.

    Raises:
        DataError: If it is missing or not as written.
    """
    if not (raw / GROUPS_NAME).exists():
        raise DataError(f"{raw / GROUPS_NAME} does not exist; {_WAY_OUT}")
    columns, rows = read_cells(raw / GROUPS_NAME, required=COLUMNS)
    cells_of = itemgetter(*map(columns.index, COLUMNS))
    problems = []
    groups: dict[str, GroupRow] = {}
    sound: set[tuple[str, str]] = set()  # batches and statuses repeat
    for line, cells in rows:
        sha256, group, batch, stratum, status = cells_of(cells)
        is_sound = group == sha256 and (batch, status) in sound and _HASH.fullmatch(sha256)
        problem = None if is_sound else _problem(sha256, group, batch, status)
        if not problem:
            sound.add((batch, status))
        if sha256 in groups:
            problem = f"{sha256[:16]} is there twice"
        if problem:
            problems.append(f"line {line}: {problem}")
        else:
            # Of equal texts one is kept: rows come by the hundred thousand.
            group = sha256 if group == sha256 else sys.intern(group)
            groups[sha256] = GroupRow(
                sha256, group, int(batch), sys.intern(stratum), sys.intern(status)
            )
    if problems:
        what = f"{raw / GROUPS_NAME} has {len(problems)} wrong row(s)"
        raise DataError(listed(what, problems, _WAY_OUT))
    return list(groups.values())


def groups_text(rows: Sequence[GroupRow]) -> str:
    """The file's content for these rows."""
    return rows_text(COLUMNS, rows)


def _problem(sha256: str, group: str, batch: str, status: str) -> str | None:
    for name, value in (("sha256", sha256), ("group", group)):
        if not _HASH.fullmatch(value):
            return f"{name} is {value!r}, not 64 hexadecimal digits"
    if not _NUMBER.fullmatch(batch):
        return f"batch is {batch!r}, not a number from 1"
    if status not in STATUSES:
        return f"status is {status!r}, not one of {', '.join(STATUSES)}"
    return None
