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
import pyarrow.compute as pc
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
_IDENTITY = ("inode", "n_bytes", "modified_ns", "changed_ns")

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
        self._folder = os.path.join(folder, "")  # noqa: PTH118 - quick
        self._latest_ns = time.time_ns() - UNSURE_NS
        self._before = _SCHEMA.empty_table()

    def unchanged(self, names: Sequence[str]) -> dict[str, str]:
        """Those of ``names`` that are as they were, with the sha256 they had then."""
        if self._file is None:
            return {}
        self._before = _read(self._file)
        there = pc.index_in(pa.array(names, pa.string()), self._before["name"]).to_pylist()
        columns = [self._before[name].to_numpy().tolist() for name in _IDENTITY]
        remembered = list(zip(*columns, strict=True))
        hashes = self._before["sha256"].to_numpy().tolist()
        return {
            name: hashes[row]
            for name, row in zip(names, there, strict=True)
            if row is not None and self._identity(name) == remembered[row]
        }

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
        found = {name: self._identity(name) for name in names}
        return {
            name: identity
            for name, identity in found.items()
            if identity is not None and max(identity[2:]) < self._latest_ns
        }

    def _identity(self, name: str) -> Identity | None:
        try:
            status = os.stat(self._folder + name)  # noqa: PTH116 - quick
        except OSError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _read(file: Path) -> pa.Table:
    try:
        table = pq.ParquetFile(pa.BufferReader(file.read_bytes())).read()
    except (OSError, pa.ArrowException):
        return _SCHEMA.empty_table()
    return table if table.schema == _SCHEMA else _SCHEMA.empty_table()
