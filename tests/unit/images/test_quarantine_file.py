"""quarantine.csv is read as it was written, and by its own rules only."""

from dataclasses import replace
from pathlib import Path

import pytest

from fgpipe.errors import DataError
from fgpipe.images.quarantine_file import QuarantinedImage, quarantine_text, read_quarantine

ROW = QuarantinedImage(
    sha256="a" * 64,
    path=f"quarantine/{'a' * 16}.jpg",
    source="images/b, c.jpg",
    label='the "x"',
    kind="damaged",
    reason="damaged (Premature end of JPEG file)",
    batch=2,
)
UNREADABLE = replace(ROW, sha256="", path="", source="images/a.jpg", kind="unreadable")


def test_what_is_written_is_read_sorted_by_source(tmp_path: Path) -> None:
    text = quarantine_text([ROW, UNREADABLE])

    (tmp_path / "quarantine.csv").write_text(text)

    assert text.startswith("sha256,path,source,label,kind,reason,batch\n")
    assert read_quarantine(tmp_path) == [UNREADABLE, ROW]


def test_no_file_is_no_image(tmp_path: Path) -> None:
    assert read_quarantine(tmp_path) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kind": "odd"}, "kind is 'odd', not one of unreadable, damaged, bridge"),
        ({"batch": 0}, "batch is '0', not a number from 1"),
        ({"sha256": "abc"}, "sha256 is 'abc', not 64 hexadecimal digits"),
        ({"path": "../../precious.png"}, "path is '../../precious.png', not in quarantine/"),
        ({"path": "quarantine/../labels.csv"}, "not in quarantine/"),
        ({"path": "quarantine/.."}, "not in quarantine/"),
        ({"path": "images/a.png"}, "path is 'images/a.png', not in quarantine/"),
    ],
)
def test_a_row_against_the_rules_is_refused_by_its_line(
    tmp_path: Path, change: dict[str, object], says: str
) -> None:
    (tmp_path / "quarantine.csv").write_text(quarantine_text([replace(ROW, **change)]))

    with pytest.raises(DataError) as caught:
        read_quarantine(tmp_path)

    assert f"line 2: {says}" in str(caught.value) or says in str(caught.value)
    assert "`dvc checkout data/raw`" in str(caught.value)
