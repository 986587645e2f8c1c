"""Whatever lies at a path becomes data/raw, and leaves nothing beside it."""

import shutil
import zipfile
from pathlib import Path

import pytest

from fgpipe.errors import DataError, InputError, UnavailableError
from fgpipe.images.labels_file import read_labels
from fgpipe.intake.bringing import add_path, import_fetched, import_path
from fgpipe.intake.transaction import own_folder
from tests.support import dataset_layouts as layouts
from tests.support.intake import TOOLS
from tests.support.synthetic import LABELS, write_class_folders


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return tmp_path / "data" / "raw"


def test_an_archive_comes_in_and_what_it_was_unpacked_to_goes(tmp_path: Path, raw: Path) -> None:
    folder = write_class_folders(tmp_path / "mine")
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as file:
        for path in sorted(folder.rglob("*.*")):
            file.write(path, path.relative_to(tmp_path))

    report = import_path(tmp_path / "mine.zip", kind=None, raw=raw, **TOOLS)

    assert (report.n_images, report.n_labels) == (16, 4)
    assert {image.label for image in read_labels(raw)} == set(LABELS)
    assert [path.name for path in raw.parent.iterdir()] == ["raw"]


def test_given_splits_and_boxes_reach_labels_csv(tmp_path: Path, raw: Path) -> None:
    layouts.cub(tmp_path / "CUB_200_2011")

    import_path(tmp_path, kind="cub", raw=raw, **TOOLS)

    rows = {image.path.rsplit("/", 1)[1]: image for image in read_labels(raw)}
    assert rows["Black_Footed_Albatross_0046_18.jpg"].split == "test"
    assert str(rows["Laysan_Albatross_0002_1027.jpg"].box) == "14 112 388 186"


def test_images_of_one_class_are_added_from_an_archive(tmp_path: Path, raw: Path) -> None:
    import_path(write_class_folders(tmp_path / "mine"), kind=None, raw=raw, **TOOLS)
    with zipfile.ZipFile(tmp_path / "week.zip", "w") as file:
        file.writestr(f"week/{LABELS[1]}/one more.jpg", layouts.picture(9))

    report = add_path(tmp_path / "week.zip", kind=None, raw=raw, new_classes=False, **TOOLS)

    assert report.n_images == 1
    assert [image.label for image in read_labels(raw) if "one more" in image.path] == [LABELS[1]]


def test_one_class_alone_is_no_first_batch(tmp_path: Path, raw: Path) -> None:
    layouts.put(tmp_path / "mine" / "cat" / "1.jpg")

    with pytest.raises(DataError, match="holds one class only, cat"):
        import_path(tmp_path / "mine", kind=None, raw=raw, **TOOLS)


def test_a_folder_of_one_class_can_be_added(tmp_path: Path, raw: Path) -> None:
    import_path(write_class_folders(tmp_path / "mine"), kind=None, raw=raw, **TOOLS)
    more = write_class_folders(tmp_path / "more", n_images_per_label=2, seed=4)
    for label in LABELS[1:]:
        shutil.rmtree(more / label)

    report = add_path(more, kind=None, raw=raw, new_classes=False, **TOOLS)

    assert (report.n_images, report.n_total) == (2, 18)
    assert [path.name for path in raw.parent.iterdir()] == ["raw"]


def test_a_refusal_leaves_nothing(tmp_path: Path, raw: Path) -> None:
    (tmp_path / "bad.zip").write_bytes(b"no archive")

    with pytest.raises(DataError, match="is broken or cut short"):
        import_path(tmp_path / "bad.zip", kind=None, raw=raw, **TOOLS)

    assert list(raw.parent.iterdir()) == []


def test_what_a_killed_import_unpacked_is_cleared_away(raw: Path) -> None:
    stale, running = raw.parent / ".raw.999999999.work", raw.parent / ".raw.1.work"
    for folder in (stale, running):
        folder.mkdir(parents=True)

    with own_folder(raw, kind="work") as work:
        assert work.is_dir()

    assert [path.name for path in raw.parent.iterdir()] == [".raw.1.work"]


def test_an_unknown_source_is_answered_with_the_known_ones(tmp_path: Path, raw: Path) -> None:
    with pytest.raises(InputError, match=r"no source is called 'elvp'; there is .*elpv"):
        import_fetched("elvp", raw=raw, downloads=tmp_path, **TOOLS)


def test_a_package_that_is_not_installed_is_named_with_its_command(
    tmp_path: Path, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(UnavailableError, match=r"pip install 'fgpipe\[demo\]'"):
        import_fetched("elpv", raw=raw, downloads=tmp_path, **TOOLS)
