"""labels.csv as people write it."""

from pathlib import Path

import pytest

from fgpipe.errors import DataError
from fgpipe.images.labels_file import Box, labels_text, read_labels

HEADER = "path,label,parent,light\n"


def write(raw: Path, text: str) -> Path:
    (raw / "labels.csv").write_text(text, encoding="utf-8")
    return raw


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    text = HEADER + 'images/a.png,"oak, old",tree,day\nimages/b.png,fern,,night\n'

    images = read_labels(write(tmp_path, text))

    assert images[0].label == "oak, old"
    assert (images[0].parent, images[1].parent, images[0].group) == ("tree", None, None)
    assert images[1].attributes == {"light": "night"}
    assert labels_text(images) == text


def test_given_splits_and_boxes_are_read_back(tmp_path: Path) -> None:
    text = "path,label,split,box\na.png,oak,test,0 1 20 30\nb.png,fern,,\n"

    images = read_labels(write(tmp_path, text))

    assert (images[0].split, images[0].box) == ("test", Box(left=0, top=1, width=20, height=30))
    assert (images[1].split, images[1].box) == (None, None)
    assert labels_text(images) == text


def test_a_byte_order_mark_spaces_and_blank_lines_do_no_harm(tmp_path: Path) -> None:
    images = read_labels(write(tmp_path, "\ufeffpath, label\r\n\r\nimages/a.png, oak \r\n"))

    assert [(image.path, image.label) for image in images] == [("images/a.png", "oak")]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no column 'path'; it has none"),
        ("path,class\na,b\n", "no column 'label'; it has path, class"),
        ("path,label\n", "names no image"),
        ("path,label,light,light\na,b,c,d\n", "distinct name"),
        ("path,label,\na,b,c\n", "distinct name"),
        ("path,label\na,b,c\n", "line 2: 3 cells in 2 columns"),
        ("path,label\n,oak\n", "line 2: empty path"),
        ("path,label\na.png,\n", "line 2: a.png has no label"),
        ("path,label\na.png,x\na.png,x\n", "line 3: a.png was named in line 2 already"),
        ("path,label,parent\na,oak,tree\nb,oak,shrub\n", "oak has two parents, tree and shrub"),
        ("path,label,parent\na,oak,tree\nb,oak,\n", "oak has two parents, tree and none"),
        ("path,label\n../a.png,x\n", "line 2: ../a.png is not a path inside data/raw"),
        ("path,label\n/etc/a.png,x\n", "not a path inside"),
        ("path,label\nimages/../../a.png,x\n", "not a path inside"),
        ("path,label\nimages\\a.png,x\n", "not a path inside"),
        ("path,label\nimages//a.png,x\n", "not a path inside"),
        ("path,label\nlinked/a.png,x\n", "not a path inside"),
        ("path,label\nlinked/deep/a.png,x\n", "not a path inside"),
        ('path,label\n"a', "cells"),
        ("path,label,split\na,oak,val\n", "line 2: split is 'val', not one of train, "),
        ("path,label,box\na,oak,1 2 3\n", "line 2: box is '1 2 3', not `left top width height`"),
        ("path,label,box\na,oak,1 2 0 3\n", "line 2: box is '1 2 0 3', which has no area"),
        ("path,label,box\na,oak,1 2 1.7e308 3\n", "box is '1 2 1.7e308 3', which is larger than"),
    ],
)
def test_a_wrong_file_is_refused_with_the_line(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "linked").symlink_to(tmp_path.parent)

    with pytest.raises(DataError) as caught:
        read_labels(write(tmp_path, text))

    assert says in str(caught.value)


def test_many_wrong_rows_are_counted_and_five_are_shown(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_labels(write(tmp_path, "path,label\n" + "a.png,\n" * 9))

    assert "has 9 wrong row(s)" in str(caught.value)
    assert "and 4 more" in str(caught.value)


def test_a_file_that_is_missing_or_no_utf8_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="data import"):
        read_labels(tmp_path)
    (tmp_path / "labels.csv").write_bytes(b"path,label\na.png,\xff\xfe\n")
    with pytest.raises(DataError, match="UTF-8"):
        read_labels(tmp_path)
