from pathlib import Path

import pytest

from fgpipe.errors import NotReadyError
from fgpipe.serving.seen import Seen, seen_groups


def test_a_group_is_seen_by_its_name_or_by_one_of_its_images() -> None:
    first = Seen(hashes=frozenset(), groups=frozenset({"a"}))
    second = Seen(hashes=frozenset({"hash3"}), groups=frozenset({"z"}))

    seen = seen_groups(
        ["a", "a", "b", "b", "c"],
        ["hash0", "hash1", "hash2", "hash3", "hash4"],
        by=(model for model in (first, second)),
    )

    assert seen == {"a", "b"}


def test_what_was_seen_is_read_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "seen.csv"
    path.write_text('sha256,group,split\naa,"one, two",train\nbb,three,validation\n')

    seen = Seen.load(path)

    assert seen == Seen(hashes=frozenset({"aa", "bb"}), groups=frozenset({"one, two", "three"}))


@pytest.mark.parametrize("text", [None, "sha256,split\naa,train\n"])
def test_a_missing_file_or_column_is_refused(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "seen.csv"
    if text is not None:
        path.write_text(text)

    with pytest.raises(NotReadyError, match=r"seen\.csv"):
        Seen.load(path)
