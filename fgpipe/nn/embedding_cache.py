"""Embeddings by the content they are of, in files that are written once."""

import hashlib
import io
import os
import zipfile
from collections.abc import Container, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float16, UInt8


class EmbeddingCache:
    """A folder of ``.npz`` files; one that cannot be read counts as not there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(
        self, wanted: Container[str]
    ) -> Iterator[tuple[str, Float16[np.ndarray, " features"], UInt8[np.ndarray, "32 32"]]]:
        """What there is of the wanted contents: sha256, row and picture."""
        for path in sorted(self._folder.glob("*.npz")):
            try:
                content = io.BytesIO(path.read_bytes())  # left open by numpy where it is damaged
                with np.load(content, allow_pickle=False) as file:
                    sha256s, rows, tiny = file["sha256s"], file["rows"], file["tiny"]
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
                continue
            if not len(sha256s) == len(rows) == len(tiny):
                continue
            for i, sha256 in enumerate(sha256s.astype(str).tolist()):
                if sha256 in wanted:
                    yield sha256, rows[i], tiny[i]

    def write(
        self,
        sha256s: Sequence[str],
        rows: Float16[np.ndarray, "images features"],
        tiny: UInt8[np.ndarray, "images 32 32"],
    ) -> None:
        """Keep them, whole or not at all."""
        self._folder.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()
        np.savez(content, sha256s=np.array(sha256s, dtype="S64"), rows=rows, tiny=tiny)
        name = hashlib.sha256("".join(sha256s).encode()).hexdigest()[:16]
        partial = self._folder / f".{name}.{os.getpid()}.partial"
        partial.write_bytes(content.getvalue())
        partial.replace(self._folder / f"{name}.npz")
