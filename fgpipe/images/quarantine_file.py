"""``quarantine.csv``: images that came in and cannot be used, with the reason.

``fgpipe data`` commands write it and keep the bytes beside it, so that nothing that came
in is lost or silently dropped. The file is there only where an image is quarantined.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from fgpipe.errors import DataError
from fgpipe.images.csv_file import read_rows, rows_text
from fgpipe.images.files import listed

QUARANTINE_NAME = "quarantine.csv"
QUARANTINE_FOLDER = "quarantine"
KINDS = ("unreadable", "damaged", "bridge")

_WAY_OUT = "nothing but `fgpipe data` writes this file: bring it back with `dvc checkout data/raw`"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantinedImage:
    """One row."""

    sha256: str
    """Hash of its bytes; empty where they cannot be read."""
    path: str
    """Where the bytes are, relative to ``data/raw``; empty where they cannot be read."""
    source: str
    """Where in ``data/raw`` the image would be."""
    label: str
    """The class it came with."""
    kind: str
    """``unreadable``: its bytes are not to be had; ``damaged``: they are no whole image;
    ``bridge``: it is near images of groups that must stay apart."""
    reason: str
    """For a person."""
    batch: int
    """The batch it came with."""


COLUMNS = tuple(field.name for field in fields(QuarantinedImage))


def read_quarantine(raw: Path) -> list[QuarantinedImage]:
    """Read and check ``quarantine.csv``.

    Args:
        raw: The folder ``data/raw``.

    Returns:
        Its rows; none if there is no such file.

    Raises:
        DataError: If it is not as written.
    """
    if not (raw / QUARANTINE_NAME).exists():
        return []
    _, rows = read_rows(raw / QUARANTINE_NAME, required=COLUMNS)
    problems = [
        f"line {line}: {problem}" for line, row in rows if (problem := _problem(row)) is not None
    ]
    if problems:
        what = f"{raw / QUARANTINE_NAME} has {len(problems)} wrong row(s)"
        raise DataError(listed(what, problems, _WAY_OUT))
    return [
        QuarantinedImage(
            sha256=row["sha256"],
            path=row["path"],
            source=row["source"],
            label=row["label"],
            kind=row["kind"],
            reason=row["reason"],
            batch=int(row["batch"]),
        )
        for _, row in rows
    ]


def quarantine_text(rows: Sequence[QuarantinedImage]) -> str:
    """The file's content for these rows, sorted by where the images would be."""
    ordered = sorted(rows, key=lambda row: (row.source, row.batch, row.sha256))
    return rows_text(COLUMNS, ([getattr(row, name) for name in COLUMNS] for row in ordered))


def _problem(row: dict[str, str]) -> str | None:
    if row["kind"] not in KINDS:
        return f"kind is {row['kind']!r}, not one of {', '.join(KINDS)}"
    if not re.fullmatch(r"[1-9][0-9]*", row["batch"]):
        return f"batch is {row['batch']!r}, not a number from 1"
    if row["kind"] != "unreadable" and not re.fullmatch(r"[0-9a-f]{64}", row["sha256"]):
        return f"sha256 is {row['sha256']!r}, not 64 hexadecimal digits"
    if row["path"] and not re.fullmatch(rf"{QUARANTINE_FOLDER}/[^./\\][^/\\]*", row["path"]):
        return f"path is {row['path']!r}, not in {QUARANTINE_FOLDER}/"
    return None
