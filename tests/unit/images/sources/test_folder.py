"""Class folders, with and without the splits' folders above them."""

from pathlib import Path

import pytest

from fgpipe.errors import DataError
from fgpipe.images.sources.folder import class_folders
from fgpipe.records import Split
from tests.support.dataset_layouts import put


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"),
        ("Training", "train"),
        ("val", "validation"),
        ("valid", "validation"),
        ("validation", "validation"),
        ("test", "test"),
        ("testing", "test"),
    ],
)
def test_folders_called_like_splits_say_the_split(tmp_path: Path, name: str, split: Split) -> None:
    put(tmp_path / name / "cat" / "deep" / "1.jpg")
    put(tmp_path / name / "dog" / "1.jpg")

    source = class_folders(tmp_path)

    assert [(image.path, image.label, image.split) for image in source.images] == [
        (f"images/{name}/cat/deep/1.jpg", "cat", split),
        (f"images/{name}/dog/1.jpg", "dog", split),
    ]


def test_a_class_may_be_in_one_split_only(tmp_path: Path) -> None:
    for name in ("train/cat/1.jpg", "train/dog/1.jpg", "test/cat/2.jpg"):
        put(tmp_path / name)

    source = class_folders(tmp_path)

    assert [(image.label, image.split) for image in source.images] == [
        ("cat", "test"),
        ("cat", "train"),
        ("dog", "train"),
    ]


def test_a_class_called_train_beside_others_is_a_class(tmp_path: Path) -> None:
    put(tmp_path / "train" / "1.jpg")
    put(tmp_path / "bus" / "1.jpg")

    source = class_folders(tmp_path)

    assert [(image.label, image.split) for image in source.images] == [
        ("bus", None),
        ("train", None),
    ]


def test_a_split_with_images_but_no_class_folders_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "train" / "cat" / "1.jpg")
    put(tmp_path / "test" / "1.jpg")

    with pytest.raises(DataError, match=r"test holds no class folders; put images in"):
        class_folders(tmp_path)


def test_one_class_may_come_alone_as_a_later_batch_does(tmp_path: Path) -> None:
    put(tmp_path / "cat" / "1.jpg")

    assert [image.label for image in class_folders(tmp_path).images] == ["cat"]


def test_a_relative_folder_gives_the_same_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "cat" / "1.jpg")
    put(tmp_path / "dog" / "1.jpg")
    monkeypatch.chdir(tmp_path)

    source = class_folders(Path())

    assert [image.path for image in source.images] == ["images/cat/1.jpg", "images/dog/1.jpg"]


@pytest.mark.parametrize("other", ["sample", "eval"])
def test_splits_beside_another_folder_are_not_taken_for_classes(tmp_path: Path, other: str) -> None:
    for name in ("train", "test", other):
        put(tmp_path / name / "cat" / "1.jpg")

    with pytest.raises(DataError, match=f"called like a split, but beside it there is {other};"):
        class_folders(tmp_path)


def test_what_macos_adds_to_archives_is_no_class(tmp_path: Path) -> None:
    put(tmp_path / "train" / "cat" / "1.jpg")
    put(tmp_path / "__MACOSX" / "train" / "cat" / "._1.jpg")

    source = class_folders(tmp_path)

    assert [(image.label, image.split) for image in source.images] == [("cat", "train")]
