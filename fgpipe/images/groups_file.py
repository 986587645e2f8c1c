"""``groups.csv``: every image that ever came in, by content, and its group.

``fgpipe data`` commands write it; rows are added and never removed, and nothing of a row
changes but its status, once, when the image is forgotten: so an image never changes split.
A group's id is the smallest sha256 of its first batch.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fgpipe.errors import DataError
from fgpipe.images.collector import without_collector
from fgpipe.images.files import listed
from fgpipe.images.labels_file import read_rows, rows_text
from fgpipe.images.splits import GroupedImage

GROUPS_NAME = "groups.csv"
COLUMNS = ("sha256", "group", "batch", "stratum", "status")
STATUSES = ("active", "removed")

_HASH = re.compile("[0-9a-f]{64}")
_NUMBER = re.compile("[1-9][0-9]*")

_WAY_OUT = (
    "nothing but `fgpipe data` writes this file: bring it back with `dvc checkout data/raw`, "
    "or remove data/raw and run `fgpipe data import FOLDER` again"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRow(GroupedImage):
    """One row."""

    status: str
    """``active``: takes part; ``removed``: forgotten, but its group stays dealt."""


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
    _, rows = read_rows(raw / GROUPS_NAME, required=COLUMNS)
    problems = []
    groups: dict[str, GroupRow] = {}
    for line, row in rows:
        problem = _problem(row)
        if row["sha256"] in groups:
            problem = f"{row['sha256'][:16]} is there twice"
        if problem:
            problems.append(f"line {line}: {problem}")
        else:
            groups[row["sha256"]] = GroupRow(
                sha256=row["sha256"],
                group=row["group"],
                batch=int(row["batch"]),
                stratum=row["stratum"],
                status=row["status"],
            )
    if problems:
        what = f"{raw / GROUPS_NAME} has {len(problems)} wrong row(s)"
        raise DataError(listed(what, problems, _WAY_OUT))
    return list(groups.values())


def groups_text(rows: Sequence[GroupRow]) -> str:
    """The file's content for these rows."""
    return rows_text(COLUMNS, ([getattr(row, name) for name in COLUMNS] for row in rows))


def _problem(row: dict[str, str]) -> str | None:
    for name in ("sha256", "group"):
        if not _HASH.fullmatch(row[name]):
            return f"{name} is {row[name]!r}, not 64 hexadecimal digits"
    if not _NUMBER.fullmatch(row["batch"]):
        return f"batch is {row['batch']!r}, not a number from 1"
    if row["status"] not in STATUSES:
        return f"status is {row['status']!r}, not one of {', '.join(STATUSES)}"
    return None
