"""Embeddings kept by content."""

from pathlib import Path

import numpy as np

from fgpipe.nn.embedding_cache import EmbeddingCache

ROWS = np.arange(6, dtype=np.float16).reshape(2, 3)
TINY = np.arange(2 * 32 * 32).reshape(2, 32, 32).astype(np.uint8)


def test_what_was_kept_is_given_back_to_who_wants_it(tmp_path: Path) -> None:
    EmbeddingCache(tmp_path / "rows").write(["a" * 64, "b" * 64], ROWS, TINY)

    ((sha256, row, tiny),) = EmbeddingCache(tmp_path / "rows").read({"b" * 64, "c" * 64})

    assert sha256 == "b" * 64
    assert row.tolist() == [3, 4, 5]
    assert (tiny == TINY[1]).all()
    assert [path.suffix for path in (tmp_path / "rows").iterdir()] == [".npz"]


def test_a_damaged_file_counts_as_not_there(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path)
    for sha256s in (["a" * 64], ["b" * 64], ["c" * 64], ["d" * 64]):
        cache.write(sha256s, ROWS[:1], TINY[:1])
    first, second, third, _ = sorted(tmp_path.iterdir())
    first.write_bytes(first.read_bytes()[:700])
    second.write_bytes(b"")
    np.savez(third, sha256s=np.array(["c" * 64], dtype="S64"))

    found = list(cache.read({letter * 64 for letter in "abcd"}))

    assert len(found) == 1


def test_a_folder_that_does_not_exist_holds_nothing(tmp_path: Path) -> None:
    assert list(EmbeddingCache(tmp_path / "none").read({"a" * 64})) == []
