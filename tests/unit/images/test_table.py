"""The manifest's table."""

from pathlib import Path

import pandas as pd
import pytest

from fgpipe.errors import NotReadyError
from fgpipe.images import table as table_module
from fgpipe.images.boxes import boxes_of
from fgpipe.images.labels_file import Box
from fgpipe.images.table import TABLE_NAME, read_table, read_table_by_parts, write_table


def columns(*paths: str) -> dict[str, list[object]]:
    """A table's columns; a row's values follow from its path."""
    n = len(paths)
    return {
        "id": [path * 16 for path in paths],
        "path": list(paths),
        "label": ["a"] * n,
        "target": [0] * n,
        "parent": [None] * n,
        "group": ["g"] * n,
        "batch": [2] * n,
        "split": ["train"] * n,
        "box": ["1 2 3 4" if path == "a" else None for path in paths],
        "sha256": ["0" * 64] * n,
        "phash": ["0" * 16] * n,
        "width_px": [ord(path) for path in paths],
        "height_px": [2] * n,
        "channels": [1] * n,
        "n_bytes": [10] * n,
        "brightness": [0.5] * n,
        "contrast": [0.1] * n,
        "sharpness": [40.5] * n,
        "attribute_light": ["day"] * n,
    }


def test_rows_are_sorted_by_path_and_bytes_do_not_depend_on_their_order(tmp_path: Path) -> None:
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()

    write_table(columns("b", "a"), attributes=["light"], payload=tmp_path / "one")
    write_table(columns("a", "b"), attributes=["light"], payload=tmp_path / "other")

    table = read_table(tmp_path / "one")
    assert table["path"].tolist() == ["a", "b"]
    assert table.columns[-1] == "attribute_light"
    assert table["parent"].isna().all()
    assert table["width_px"].tolist() == [97, 98]
    assert boxes_of(table) == [Box(left=1, top=2, width=3, height=4), None]
    assert table["batch"].dtype == "int64"
    assert list(table.columns) == list(columns())
    contents = [(tmp_path / name / TABLE_NAME).read_bytes() for name in ("one", "other")]
    assert contents[0] == contents[1]


def test_parts_are_the_table_in_its_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_module, "ROWS_A_PART", 3)
    write_table(columns(*"abcdefgh"), attributes=["light"], payload=tmp_path)

    parts = list(read_table_by_parts(tmp_path, columns=["path", "width_px"]))

    assert [len(part) for part in parts] == [3, 3, 2]
    whole = read_table(tmp_path)[["path", "width_px"]]
    assert pd.concat(parts, ignore_index=True).equals(whole)
    assert read_table(tmp_path, columns=["path", "width_px"]).equals(whole)


def test_a_missing_or_broken_table_names_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match="dvc repro manifest"):
        read_table(tmp_path)
    (tmp_path / TABLE_NAME).write_bytes(b"PAR1 no")
    with pytest.raises(NotReadyError, match="dvc repro manifest"):
        read_table(tmp_path)
