"""Tables of images: CSV, TSV, Parquet."""

import contextlib
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from fgpipe.errors import DataError
from fgpipe.images.labels_file import Box
from fgpipe.images.sources.table import table_images
from tests.support.dataset_layouts import put, text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i, name in enumerate(("a.jpg", "b.jpg", "deep er/ç.png")):
        put(tmp_path / "mine" / name, i)
    return tmp_path / "mine"


HEADER = "path,label,parent,group,split,box,light"
ROWS = (
    "a.jpg,cat,pet,g1,train,1 2 3 4,day",
    "b.jpg,wolf,,g2,val,,night",
    "deep er/ç.png,cat,pet,,Test,,",
)


def test_every_column_means_what_it_means_in_labels_csv(folder: Path) -> None:
    source = table_images(text(folder / "table.csv", HEADER, *ROWS))

    one, other, third = source.images
    assert (one.path, one.label, one.parent, one.group) == ("images/a.jpg", "cat", "pet", "g1")
    assert (one.split, one.box) == ("train", Box(left=1, top=2, width=3, height=4))
    assert (other.split, other.box, other.parent) == ("validation", None, None)
    assert (third.path, third.split, third.group) == ("images/deep er/ç.png", "test", None)
    assert [image.attributes for image in source.images] == [
        {"light": "day"},
        {"light": "night"},
        {"light": ""},
    ]
    assert third.file == folder / "deep er" / "ç.png"


def test_tsv_and_parquet_give_the_same(folder: Path) -> None:
    expected = table_images(text(folder / "table.csv", HEADER, *ROWS)).images
    tsv = text(folder / "table.tsv", *(row.replace(",", "\t") for row in (HEADER, *ROWS)))
    cells = [dict(zip(HEADER.split(","), row.split(","), strict=True)) for row in ROWS]
    rows = [{key: value or None for key, value in row.items()} for row in cells]
    parquet.write_table(pa.Table.from_pylist(rows), folder / "table.parquet")

    assert table_images(tsv).images == expected
    assert table_images(folder / "table.parquet").images == expected


def test_four_columns_are_a_box(folder: Path) -> None:
    rows = ("a.jpg,cat,1,2,3.6,4", "b.jpg,dog,,,,")

    source = table_images(text(folder / "t.csv", "path,label,left,top,width,height", *rows))

    assert [str(image.box or "") for image in source.images] == ["1 2 4 4", ""]
    assert source.images[0].attributes == {}


def test_a_list_in_parquet_is_a_box(folder: Path) -> None:
    rows = [
        {"path": "a.jpg", "label": 7, "box": [1.0, 2.0, 3.0, 4.0]},
        {"path": "b.jpg", "label": 8, "box": None},
    ]
    parquet.write_table(pa.Table.from_pylist(rows), folder / "t.parquet")

    source = table_images(folder / "t.parquet")

    assert [(image.label, str(image.box or "")) for image in source.images] == [
        ("7", "1 2 3 4"),
        ("8", ""),
    ]


def test_images_elsewhere_come_in_by_what_they_have_in_common(folder: Path, tmp_path: Path) -> None:
    put(tmp_path / "else" / "where" / "1.jpg")
    put(tmp_path / "else" / "here" / "1.jpg")
    rows = (f"{tmp_path}/else/where/1.jpg,cat", "../else/here/1.jpg,dog", "a.jpg,dog")

    source = table_images(text(folder / "t.csv", "path,label", *rows))

    assert [image.path for image in source.images] == [
        "images/a.jpg",
        "images/here/1.jpg",
        "images/where/1.jpg",
    ]


def test_a_data_raw_comes_in_as_it_was(folder: Path) -> None:
    put(folder / "images" / "x" / "1.jpg")
    put(folder / "images" / "y" / "1.jpg")
    rows = ("images/x/1.jpg,x", "images/y/1.jpg,y")

    source = table_images(text(folder / "labels.csv", "path,label", *rows))

    assert [image.path for image in source.images] == ["images/x/1.jpg", "images/y/1.jpg"]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("gone.jpg,cat,,,,,", "line 2: gone.jpg does not exist"),
        ("cats\\gone.jpg,cat,,,,,", "cats\\gone.jpg does not exist; folders are parted by /"),
        (",cat,,,,,", "line 2: empty path"),
        ("a.jpg,,,,,,", "line 2: a.jpg has no label"),
        ("a.jpg,cat,,,weekly,,", "line 2: split is 'weekly', not one of train"),
        ("a.jpg,cat,,,,1 2 3,", "line 2: box is '1 2 3'"),
        ("a.jpg,cat,,,,1 2 0 4,", "line 2: box is '1 2 0 4', which has no area"),
        ("a.jpg,cat", "line 2: 2 cells in 7 columns"),
        ("b.jpg,cat,,,,,", "line 3: b.jpg was named in line 2 already"),
        ("a.jpg,wolf,pet,,,,", "wolf has two parents, pet and none"),
    ],
)
def test_a_bad_row_is_named_by_its_line(folder: Path, row: str, says: str) -> None:
    with pytest.raises(DataError) as caught:
        table_images(text(folder / "t.csv", HEADER, row, ROWS[1]))

    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (("path,class", "a.jpg,cat"), "has no column 'label'; it has path, class"),
        (("path;label", "a.jpg;cat"), "has path;label (parted by ';'; save it with commas)"),
        (("path\tlabel", "a.jpg\tcat"), "(parted by '\\t'; save it with commas)"),
        (("path,label,label", "a.jpg,cat,x"), "needs a distinct name for each column"),
        ((), "has no column 'path'; it has none"),
        (("path,label",), "names no image"),
    ],
)
def test_a_table_without_its_columns_or_rows_is_refused(
    folder: Path, lines: tuple[str, ...], says: str
) -> None:
    with pytest.raises(DataError) as caught:
        table_images(text(folder / "t.csv", *lines))

    assert says in str(caught.value)


def test_what_is_no_text_or_no_parquet_is_refused(folder: Path) -> None:
    (folder / "t.csv").write_bytes(b"path,label\n\xff\xfe,x\n")
    (folder / "t.parquet").write_bytes(b"no parquet")

    with pytest.raises(DataError, match="cannot be read as UTF-8"):
        table_images(folder / "t.csv")
    with pytest.raises(DataError, match="is no Parquet file"):
        table_images(folder / "t.parquet")


@pytest.mark.parametrize(
    ("value", "says"),
    [(b"x", "binary"), ([1, 2], "list<"), ({"a": 1}, "struct<")],
)
def test_a_parquet_column_of_more_than_one_value_a_cell_is_refused(
    folder: Path, value: object, says: str
) -> None:
    rows = [{"path": f"{name}.jpg", "label": name, "extra": value} for name in "ab"]
    parquet.write_table(pa.Table.from_pylist(rows), folder / "t.parquet")

    with pytest.raises(DataError, match=f"column 'extra' holds {says}.*; leave it out"):
        table_images(folder / "t.parquet")


def test_a_parquet_file_with_any_wrong_byte_is_read_or_refused(folder: Path) -> None:
    rows = [{"path": "a.jpg", "label": "x"}, {"path": "b.jpg", "label": "y"}]
    parquet.write_table(pa.Table.from_pylist(rows), folder / "t.parquet")
    whole = (folder / "t.parquet").read_bytes()

    for at in range(0, len(whole), 7):
        data = bytearray(whole)
        data[at] ^= 0xA0
        (folder / "t.parquet").write_bytes(data)
        with contextlib.suppress(DataError):
            table_images(folder / "t.parquet")


def test_a_file_that_is_no_image_by_its_name_is_refused(folder: Path) -> None:
    text(folder / "notes.doc", "x")

    with pytest.raises(DataError, match="1 files have no image's extension"):
        table_images(text(folder / "t.csv", "path,label", "notes.doc,x", "a.jpg,y"))
