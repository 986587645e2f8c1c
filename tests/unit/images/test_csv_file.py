"""CSV files are read by columns, the same by the quick way and the careful one."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fgpipe.errors import DataError
from fgpipe.images.csv_file import read_columns, read_rows, rows_text

CELL = st.text(st.sampled_from('abé \t"\n,;\u00a0\u2028\x1d'), max_size=4)


def slowly(path: Path) -> list[tuple[int, list[str]]]:
    """Each row with the line it ends on, by the standard library."""
    text = path.read_text(encoding="utf-8-sig")
    reader = csv.reader(io.StringIO(text, newline=""))
    next(reader)
    return [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if cells]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("csv") / "table.csv"


@given(st.lists(st.tuples(CELL, CELL), min_size=1), st.sampled_from([b"", b"\xef\xbb\xbf"]))
def test_cells_are_those_that_the_standard_library_reads(
    file: Path, rows: list[tuple[str, str]], mark: bytes
) -> None:
    content = rows_text(["path", "label"], rows).encode()
    file.write_bytes(mark + content)

    cells, lines = read_columns(file, required=["path"])

    found = zip(lines, map(list, zip(*cells.values(), strict=True)), strict=True)
    assert list(found) == slowly(file)


PIECES = ["a,b", "c", ",", "\n", "\n\n", "\r", "\r\n", '"', " ", "\0"]


@given(st.lists(st.sampled_from(PIECES), max_size=8).map("".join))
def test_any_text_is_read_as_by_the_standard_library_or_refused_by_line(
    file: Path, text: str
) -> None:
    file.write_text(f"path,label\n{text}", newline="")
    try:
        expected = slowly(file)
    except csv.Error:
        expected = []
    if not expected or any(len(cells) != 2 for _, cells in expected):
        with pytest.raises(DataError, match=r"line \d+|names no image"):
            read_columns(file, required=["path"])
        return

    cells, lines = read_columns(file, required=["path"])

    assert [*zip(lines, map(list, zip(*cells.values(), strict=True)), strict=True)] == expected


def test_rows_are_by_column_with_their_line(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(' path , label\n\na,"b\nc"\n d,e\n')

    columns, rows = read_rows(tmp_path / "t.csv", required=["label"])

    assert columns == ["path", "label"]
    assert rows == [(4, {"path": "a", "label": "b\nc"}), (5, {"path": "d", "label": "e"})]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"a,b\n1,2\n", "has no column 'path'; it has a, b"),
        (b"path;label\n1;2\n", "parted by ';'"),
        (b"path;label\n1;0,5\n", "parted by ';'"),
        (b'\npath,label\n"1",2\n', "has no column 'path'; it has none"),
        (b"path,path\n1,2\n", "needs a distinct name for each column"),
        (b"path,\n1,2\n", "needs a distinct name for each column"),
        (b"path,label\n1,2\n3\n", r"t\.csv line 3: 1 cells in 2 columns"),
        (b'path,label\n1,"2\n2"\n3\n', r"t\.csv line 4: 1 cells in 2 columns"),
        (b"path,label\n", "names no image"),
        (b"", "has no column 'path'; it has none"),
        (b"path,label\n\xff,2\n", "cannot be read as UTF-8"),
    ],
)
def test_a_file_that_is_no_such_table_is_refused(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    (tmp_path / "t.csv").write_bytes(content)

    with pytest.raises(DataError, match=reason):
        read_columns(tmp_path / "t.csv", required=["path"])
