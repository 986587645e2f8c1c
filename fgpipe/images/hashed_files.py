"""Which files are as they were when they were last hashed, so that they need not be read.

A file is taken for unchanged while its inode, size, time of modification and time of change
are. The last of them moves whenever the bytes or what is known of them are touched, and no
program can set it back. A file that changed less than :data:`UNSURE_NS` before it was looked
at is not remembered: another change within the same tick of the clock would not show.

What is remembered is one Parquet file a folder, among the local cache of measures. Where it
is lost or damaged, files are hashed anew.
"""

import contextlib
import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fgpipe.records import write_atomically

UNSURE_NS = 2_000_000_000
"""The coarsest clock of a file system in use, FAT's."""

_SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("inode", pa.uint64()),
        ("n_bytes", pa.int64()),
        ("modified_ns", pa.int64()),
        ("changed_ns", pa.int64()),
        ("sha256", pa.string()),
    ]
)


Identity = tuple[int, int, int, int]
"""Inode, size in bytes, and when it was modified and changed, in nanoseconds."""


class HashedFiles:
    """What is remembered of the files below a folder.

    Args:
        memory: Folder in which it is kept; None keeps nothing.
        folder: Where the files are.
    """

    def __init__(self, memory: Path | None, folder: Path) -> None:
        name = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:32]
        self._file = None if memory is None else memory / f"{name}.parquet"
        self._folder = folder
        self._latest_ns = time.time_ns() - UNSURE_NS
        self._before = _SCHEMA.empty_table()

    def unchanged(self, names: Sequence[str]) -> dict[str, str]:
        """Those of ``names`` that are as they were, with the sha256 they had then."""
        if self._file is None:
            return {}
        self._before = _read(self._file)
        columns = [column.to_pylist() for column in self._before.columns]
        remembered = dict(zip(columns[0], zip(*columns[1:], strict=True), strict=True))
        stat, folder = os.stat, os.path.join(self._folder, "")  # noqa: PTH118 - quick
        found = {}
        for name in names:
            if name not in remembered:
                continue
            inode, n_bytes, modified, changed, sha256 = remembered[name]
            try:
                status = stat(folder + name)
            except OSError:
                continue
            if (
                status.st_ctime_ns == changed
                and status.st_mtime_ns == modified
                and status.st_size == n_bytes
                and status.st_ino == inode
            ):
                found[name] = sha256
        return found

    def remember(self, hashes: Mapping[str, str]) -> None:
        """Keep the sha256 of files that were read since this was made.

        Those that changed meanwhile are left out: their times say so.

        Args:
            hashes: By name; what is remembered of other names stays.
        """
        if self._file is None or not hashes:
            return
        identities = self._identified(list(hashes))
        rows = [(name, *identity, hashes[name]) for name, identity in identities.items()]
        columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in _SCHEMA]
        others = [name not in hashes for name in self._before["name"].to_pylist()]
        tables = [self._before.filter(pa.array(others, pa.bool_())), pa.table(columns, _SCHEMA)]
        sink = pa.BufferOutputStream()
        pq.write_table(pa.concat_tables(tables), sink)
        with contextlib.suppress(OSError):  # a disk that is full costs time alone
            write_atomically(self._file, sink.getvalue().to_pybytes())

    def _identified(self, names: Sequence[str]) -> dict[str, Identity]:
        """Each file that is there and has not changed since, or just before, this was made."""
        found = {}
        for name in names:
            try:
                status = os.stat(os.path.join(self._folder, name))  # noqa: PTH116, PTH118 - quick
            except OSError:
                continue
            modified, changed = status.st_mtime_ns, status.st_ctime_ns
            if modified < self._latest_ns and changed < self._latest_ns:
                found[name] = (status.st_ino, status.st_size, modified, changed)
        return found


def _read(file: Path) -> pa.Table:
    try:
        table = pq.read_table(pa.BufferReader(file.read_bytes()))
    except (OSError, pa.ArrowException):
        return _SCHEMA.empty_table()
    return table if table.schema == _SCHEMA else _SCHEMA.empty_table()
