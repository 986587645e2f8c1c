"""The manifest's table."""

from pathlib import Path

import pytest

from fgpipe.errors import NotReadyError
from fgpipe.images.table import TABLE_NAME, read_table, write_table


def row(path: str) -> dict[str, object]:
    return {
        "id": "0" * 16,
        "path": path,
        "label": "a",
        "target": 0,
        "parent": None,
        "group": "g",
        "split": "train",
        "sha256": "0" * 64,
        "phash": "0" * 16,
        "width_px": 3,
        "height_px": 2,
        "channels": 1,
        "n_bytes": 10,
        "brightness": 0.5,
        "contrast": 0.1,
        "attribute_light": "day",
    }


def test_rows_are_sorted_by_path_and_bytes_do_not_depend_on_their_order(tmp_path: Path) -> None:
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()

    write_table([row("b"), row("a")], attributes=["light"], payload=tmp_path / "one")
    write_table([row("a"), row("b")], attributes=["light"], payload=tmp_path / "other")

    table = read_table(tmp_path / "one")
    assert table["path"].tolist() == ["a", "b"]
    assert table.columns[-1] == "attribute_light"
    assert table["parent"].isna().all()
    contents = [(tmp_path / name / TABLE_NAME).read_bytes() for name in ("one", "other")]
    assert contents[0] == contents[1]


def test_a_missing_or_broken_table_names_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match="dvc repro manifest"):
        read_table(tmp_path)
    (tmp_path / TABLE_NAME).write_bytes(b"PAR1 no")
    with pytest.raises(NotReadyError, match="dvc repro manifest"):
        read_table(tmp_path)
