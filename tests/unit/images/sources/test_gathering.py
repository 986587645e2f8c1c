"""Paths that are safe everywhere and each image's own."""

from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fgpipe.errors import DataError
from fgpipe.images.sources.gathering import (
    box_from_corners,
    distinct_names,
    distinct_paths,
    gather,
)
from fgpipe.images.sources.source import SourceImage


def test_plain_paths_stay() -> None:
    paths = ["images/a/1.jpg", "images/Éclair au café/x (2).png", "images/b-c_d/1.2.jpg"]

    assert distinct_paths(paths) == paths


def test_paths_that_differ_by_case_alone_are_told_apart() -> None:
    one, other, third = distinct_paths(["images/A/x.jpg", "images/a/X.jpg", "images/a/x.JPG"])

    assert one == "images/A/x.jpg"
    assert other.startswith("images/a/X~")
    assert other.endswith(".jpg")
    assert len({one.casefold(), other.casefold(), third.casefold()}) == 3


@pytest.mark.parametrize(
    ("given_", "safe"),
    [
        ("images/a:b/x?.jpg", "images/a_b/x_.jpg"),
        ("images/ a /\tx.jpg", "images/a/_x.jpg"),
        ("images/.hidden/x.jpg", "images/_.hidden/x.jpg"),
        ("images/a\\b.jpg", "images/a_b.jpg"),
        ("images/e\u0301.jpg", "images/\u00e9.jpg"),
    ],
)
def test_names_that_some_file_system_refuses_are_changed(given_: str, safe: str) -> None:
    assert distinct_paths([given_]) == [safe]


def test_a_name_too_long_is_cut_and_keeps_its_extension() -> None:
    (path,) = distinct_paths([f"images/{'ß' * 150}.jpg"])

    assert len(path.encode()) < 200
    assert path.endswith(".jpg")


@pytest.mark.parametrize("path", ["../x.jpg", "images/../../x.jpg", "/etc/x.jpg"])
def test_paths_that_lead_out_are_refused(path: str) -> None:
    with pytest.raises(DataError, match="is not a path inside its folder"):
        distinct_paths([path])


PARTS = st.text(min_size=1, max_size=8).filter(lambda part: "/" not in part and part.strip(".\0"))


@given(st.lists(st.lists(PARTS, min_size=1, max_size=3).map("/".join), max_size=8))
def test_whatever_the_names_the_paths_are_safe_and_distinct(names: list[str]) -> None:
    paths = distinct_paths([f"images/{name}.jpg" for name in names])

    assert len({path.casefold() for path in paths}) == len(names)
    for path in paths:
        pure = PurePosixPath(path)
        assert pure.as_posix() == path
        assert not {"..", "."} & set(pure.parts)
        assert not any(part.startswith(".") or part != part.strip() for part in pure.parts)


def image(name: str, **said: str) -> SourceImage:
    return SourceImage(file=Path("set") / name, path=f"images/{name}", **said)  # type: ignore[arg-type]


def test_labels_parents_and_groups_are_composed_and_lose_white_space() -> None:
    images = [
        image("1.jpg", label=" ole\u0301 ", parent="e\u0301 ", group=" g"),
        image("2.jpg", label="ol\u00e9", parent="\u00e9"),
        image("3.jpg", label="tea ", parent=" "),
    ]

    source = gather("set", images, seen=True)

    assert [(row.label, row.parent, row.group) for row in source.images] == [
        ("ol\u00e9", "\u00e9", "g"),
        ("ol\u00e9", "\u00e9", None),
        ("tea", None, None),
    ]


def test_a_label_of_white_space_is_none() -> None:
    with pytest.raises(DataError, match=r"images/2.jpg has no label"):
        gather("set", [image("1.jpg", label="a"), image("2.jpg", label=" ")], seen=True)


@pytest.mark.parametrize("within", ["set", "."])
def test_files_within_a_relative_folder_are_inside(within: str) -> None:
    images = [image("1.jpg", label="a"), image("2.jpg", label="b")]

    assert len(gather("set", images, within=Path(within), seen=True).images) == 2


def test_a_name_of_several_ids_gets_the_id() -> None:
    names = distinct_names({"1": "finch", "2": "finch", "3": "wren"})

    assert names == {"1": "finch (1)", "2": "finch (2)", "3": "wren"}


def test_corners_count_from_one_and_belong_to_the_box() -> None:
    assert str(box_from_corners(1, 1, 1, 2)) == "0 0 1 2"
