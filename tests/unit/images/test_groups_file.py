"""groups.csv, which only fgpipe writes."""

from pathlib import Path

import pytest

from fgpipe.errors import DataError
from fgpipe.images.groups_file import GroupRow, groups_text, read_groups

A, B = "a" * 64, "b" * 64
HEADER = "sha256,group,batch,stratum,status\n"


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    rows = [GroupRow(sha256=A, group=A, batch=1, stratum="x|y", status="active")]
    (tmp_path / "groups.csv").write_text(groups_text(rows))

    assert read_groups(tmp_path) == rows


def test_a_file_that_is_gone_is_told_how_it_comes_back(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"groups\.csv does not exist; .*dvc checkout"):
        read_groups(tmp_path)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (f"{A},{A},1,x,active\n{A},{B},1,x,active", "line 3: aaaaaaaaaaaaaaaa is there twice"),
        (f"abc,{A},1,x,active", "sha256 is 'abc'"),
        (f"{A},,1,x,active", "group is ''"),
        (f"{A},{A},0,x,active", "batch is '0'"),
        (f"{A},{A},one,x,active", "batch is 'one'"),
        (f"{A},{A},1,x,gone", "status is 'gone'"),
    ],
)
def test_a_file_that_was_edited_is_refused_with_the_line(
    tmp_path: Path, row: str, says: str
) -> None:
    (tmp_path / "groups.csv").write_text(HEADER + row + "\n")

    with pytest.raises(DataError) as caught:
        read_groups(tmp_path)

    assert says in str(caught.value)
    assert "dvc checkout" in str(caught.value)
