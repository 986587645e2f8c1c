"""A reviewed list of labels is applied as a whole or not at all."""

import shutil
from pathlib import Path

import pytest

from fgpipe.errors import DataError
from fgpipe.images.groups_file import read_groups
from fgpipe.images.labels_file import read_labels
from fgpipe.intake.relabelling import relabel
from fgpipe.records import file_sha256
from tests.support.intake import content, import_folder
from tests.support.synthetic import LABELS, write_class_folders, write_world

A, B, C, D = LABELS


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    import_folder(write_class_folders(tmp_path / "mine"), raw=tmp_path / "data" / "raw")
    return tmp_path / "data" / "raw"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "list.csv"


def label_of(raw: Path, path: str) -> str:
    return next(image.label for image in read_labels(raw) if image.path == path)


def test_only_labels_csv_changes_and_strata_stay_as_added(raw: Path, table: Path) -> None:
    table.write_text(f"path,label,why\nimages/{A}/000.png,{B},ring\nimages/{C}/001.jpg,{D},\n")
    before, groups = content(raw), read_groups(raw)

    report = relabel(table, raw=raw, new_classes=False)

    assert report.changes == {(A, B): 1, (C, D): 1}
    assert str(report).startswith("2 images relabelled")
    after = content(raw)
    assert {path for path in before if before[path] != after[path]} == {"labels.csv"}
    assert after.keys() == before.keys()
    assert read_groups(raw) == groups
    assert label_of(raw, f"images/{A}/000.png") == B


def test_a_reviewed_list_of_suspects_is_taken_as_it_is(raw: Path, table: Path) -> None:
    paths = [f"images/{A}/00{n}.{e}" for n, e in enumerate(["png", "jpg", "png"])]
    hashes = [file_sha256(raw / path) for path in paths]
    decided = [B, A, ""]
    rows = [
        f"{path},{sha256},{A},{B},0.1,0.9,0.8,{label}"
        for path, sha256, label in zip(paths, hashes, decided, strict=True)
    ]
    names = "path,sha256,given_label,suggested_label,given_probability"
    table.write_text("\n".join([f"{names},suggested_probability,margin,label", *rows]) + "\n")

    report = relabel(table, raw=raw, new_classes=False)

    assert report.changes == {(A, B): 1}
    assert (report.n_as_there, report.n_undecided) == (1, 1)
    assert relabel(table, raw=raw, new_classes=False).changes == {}


def test_images_may_be_named_by_hash_alone(raw: Path, table: Path) -> None:
    sha256 = file_sha256(raw / "images" / A / "000.png")
    table.write_text(f"sha256,label,old_label\n{sha256},{B},{A}\n")

    relabel(table, raw=raw, new_classes=False)

    assert label_of(raw, f"images/{A}/000.png") == B


WRONG = {
    "no such path": (f"path,label\nimages/x.png,{B}\n", "line 2: images/x.png is not in data/raw"),
    "no such hash": (f"sha256,label\n{'0' * 64},{B}\n", f"line 2: {'0' * 64} is not in data/raw"),
    "another old label": (
        f"path,label,old_label\nimages/{A}/000.png,{B},{C}\n",
        f"was {C} when it was reviewed and is {A}",
    ),
    "other bytes": (
        f"path,sha256,label\nimages/{A}/000.png,{'0' * 64},{B}\n",
        "has other bytes than were reviewed",
    ),
    "a class that is not there": (f"path,label\nimages/{A}/000.png,crack\n", "`--new-classes`"),
    "two labels": (
        f"path,label\nimages/{A}/000.png,{B}\nimages/{A}/000.png,{C}\n",
        f"is to be both {B} and {C}",
    ),
    "a class that differs in case": (
        f"path,label\nimages/{A}/000.png,{B.upper()}\n",
        f"{B.upper()} (there is {B})",
    ),
    "no label column": (f"path,klass\nimages/{A}/000.png,{B}\n", "no column 'label'"),
    "no name column": (f"file,label\nimages/{A}/000.png,{B}\n", "neither a column 'path'"),
    "not a table": ("", "no column 'label'"),
}


def test_a_list_that_is_not_there_is_told_what_it_would_be(raw: Path, table: Path) -> None:
    with pytest.raises(DataError, match=r"list.csv is no file; .*`fgpipe data label-errors`"):
        relabel(table, raw=raw, new_classes=False)


@pytest.mark.parametrize("how", ["stray", "missing"])
def test_what_was_changed_by_hand_does_not_become_a_version(
    raw: Path, table: Path, how: str
) -> None:
    table.write_text(f"path,label\nimages/{A}/000.png,{B}\n")
    if how == "stray":
        shutil.copy(raw / f"images/{A}/000.png", raw / "images" / "stray.png")
    else:
        (raw / f"images/{C}/000.png").unlink()
    before = content(raw.parent)

    with pytest.raises(DataError, match=r"stray\.png" if how == "stray" else f"images/{C}/000.png"):
        relabel(table, raw=raw, new_classes=False)

    assert content(raw.parent) == before


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_row_is_named_and_nothing_changes(raw: Path, table: Path, case: str) -> None:
    text, says = WRONG[case]
    table.write_text(text)
    before = content(raw.parent)

    with pytest.raises(DataError) as caught:
        relabel(table, raw=raw, new_classes=False)

    assert says in str(caught.value)
    assert content(raw.parent) == before


def test_a_class_may_vanish_but_not_the_last_but_one(raw: Path, table: Path) -> None:
    rows = [f"{image.path},{A}" for image in read_labels(raw)]
    table.write_text("\n".join(["path,label", *rows]) + "\n")

    with pytest.raises(DataError, match="only one class would be left"):
        relabel(table, raw=raw, new_classes=False)


def test_a_new_class_has_one_parent_whatever_row_names_it(tmp_path: Path, table: Path) -> None:
    raw = tmp_path / "raw"
    write_world(raw, n_groups_per_label=1, images_per_group=2, size_px=32)
    one, other, *_ = (image.path for image in read_labels(raw))
    table.write_text(f"path,label,parent\n{one},crack,flaw\n{other},crack,dirt\n")

    with pytest.raises(DataError, match="crack: dirt, flaw"):
        relabel(table, raw=raw, new_classes=True)
    table.write_text(f"path,label,parent\n{one},crack,flaw\n{other},crack,\n")
    relabel(table, raw=raw, new_classes=True)

    assert {image.parent for image in read_labels(raw) if image.label == "crack"} == {"flaw"}


def test_a_new_class_needs_a_parent_where_the_others_have_one(tmp_path: Path, table: Path) -> None:
    raw = tmp_path / "raw"
    write_world(raw, n_groups_per_label=1, images_per_group=1, size_px=32)
    path = read_labels(raw)[0].path
    table.write_text(f"path,label\n{path},crack\n")

    with pytest.raises(DataError, match="1 of 4 classes have no parent"):
        relabel(table, raw=raw, new_classes=True)
    table.write_text(f"path,label,parent\n{path},crack,flaw\n")
    relabel(table, raw=raw, new_classes=True)

    assert (read_labels(raw)[0].label, read_labels(raw)[0].parent) == ("crack", "flaw")
    moved = read_labels(raw)[1].path
    table.write_text(f"path,label\n{moved},crack\n")
    relabel(table, raw=raw, new_classes=False)
    assert read_labels(raw)[1].parent == "flaw"
