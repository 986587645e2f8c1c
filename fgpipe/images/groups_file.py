"""``groups.csv``: every image that ever came in, by content, and its group.

``fgpipe data`` commands write it; rows are added and never removed, and nothing of a row
changes but its status, once, when the image is forgotten: so an image never changes split.
A group's id is the smallest sha256 of its first batch.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fgpipe.errors import DataError
from fgpipe.images.collector import without_collector
from fgpipe.images.csv_file import read_columns, rows_text
from fgpipe.images.files import listed

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
    cells, lines = read_columns(raw / GROUPS_NAME, required=COLUMNS)
    columns = [cells[name] for name in COLUMNS]
    if problems := _problems(*columns, lines=lines):
        what = f"{raw / GROUPS_NAME} has {len(problems)} wrong row(s)"
        raise DataError(listed(what, problems, _WAY_OUT))
    # Of equal texts one is kept: rows come by the hundred thousand.
    one_of = {sha256: sha256 for sha256 in columns[0]}
    numbers = {batch: int(batch) for batch in set(columns[2])}
    return list(
        map(
            GroupRow,
            columns[0],
            [one_of.get(group) or sys.intern(group) for group in columns[1]],
            map(numbers.__getitem__, columns[2]),
            map(sys.intern, columns[3]),
            map(sys.intern, columns[4]),
        )
    )


def groups_text(rows: Sequence[GroupRow]) -> str:
    """The file's content for these rows."""
    return rows_text(COLUMNS, rows)


def _problems(
    hashes: Sequence[str],
    groups: Sequence[str],
    batches: Sequence[str],
    strata: Sequence[str],
    statuses: Sequence[str],
    *,
    lines: Sequence[int],
) -> list[str]:
    """What is wrong with rows: at first with all that they say, and only then with each."""
    named = {*hashes, *groups}
    is_sound = (
        all(map(_HASH.fullmatch, named))
        and all(map(_NUMBER.fullmatch, set(batches)))
        and set(statuses) <= set(STATUSES)
        and len(set(hashes)) == len(hashes)
    )
    if is_sound:
        return []
    problems = []
    seen: set[str] = set()
    for line, sha256, *others in zip(lines, hashes, groups, batches, strata, statuses, strict=True):
        problem = f"{sha256[:16]} is there twice" if sha256 in seen else None
        seen.add(sha256)
        if problem := _problem(sha256, *others) or problem:
            problems.append(f"line {line}: {problem}")
    return problems


def _problem(sha256: str, group: str, batch: str, _stratum: str, status: str) -> str | None:
    for name, value in (("sha256", sha256), ("group", group)):
        if not _HASH.fullmatch(value):
            return f"{name} is {value!r}, not 64 hexadecimal digits"
    if not _NUMBER.fullmatch(batch):
        return f"batch is {batch!r}, not a number from 1"
    if status not in STATUSES:
        return f"status is {status!r}, not one of {', '.join(STATUSES)}"
    return None
