"""What lies at a path is found out, or said; what cannot be is told apart."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fgpipe.errors import DataError, InputError, UnavailableError
from fgpipe.images.sources import download
from fgpipe.images.sources.registry import SOURCES, fetch_source, open_source
from tests.support import dataset_layouts as layouts
from tests.support.dataset_layouts import put, text

LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "aircraft": layouts.aircraft,
    "cars": layouts.cars,
    "cifar10": layouts.cifar10,
    "cifar100": layouts.cifar100,
    "cub": layouts.cub,
    "flowers": layouts.flowers,
    "food": layouts.food,
    "hugging_face": layouts.hugging_face,
    "inaturalist": layouts.inaturalist_2018,
    "inaturalist2021": layouts.inaturalist_2021,
    "nabirds": layouts.nabirds,
    "pets": layouts.pets,
}


def class_folders(folder: Path) -> Path:
    put(folder / "cat" / "1.jpg", 0)
    put(folder / "dog" / "1.jpg", 1)
    return folder


@pytest.mark.parametrize("kind", sorted(LAYOUTS))
def test_each_layout_is_known_as_itself_alone(tmp_path: Path, kind: str) -> None:
    folder = LAYOUTS[kind](tmp_path / "set")

    found = {name for name, each in SOURCES.items() if each.find(folder) is not None}

    assert found == {kind, "folder"}


def test_every_published_layout_has_a_test_of_its_own() -> None:
    assert set(SOURCES) == {*LAYOUTS, "folder", "table", "archive", "elpv"}


@pytest.mark.parametrize("kind", ["folder", None])
def test_class_folders_are_what_remains(tmp_path: Path, kind: str | None) -> None:
    source = open_source(class_folders(tmp_path / "set"), kind=kind, work=tmp_path / "work")

    assert [image.label for image in source.images] == ["cat", "dog"]


def test_a_folder_with_a_table_that_names_its_images_is_the_table(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "set")
    text(folder / "list.csv", "path,label", "cat/1.jpg,tom", "dog/1.jpg,rex")
    text(folder / "other.csv", "something,else", "1,2")

    source = open_source(folder, kind=None, work=tmp_path / "work")

    assert [image.label for image in source.images] == ["tom", "rex"]


def test_several_tables_in_a_folder_ask_for_one(tmp_path: Path) -> None:
    text(tmp_path / "a.csv", "path,label", "1.jpg,x")
    text(tmp_path / "b.tsv", "path\tlabel", "1.jpg\tx")

    with pytest.raises(DataError, match=r"several tables, a.csv, b.tsv; name one"):
        open_source(tmp_path, kind=None, work=tmp_path / "work")


def test_two_layouts_in_one_folder_ask_which(tmp_path: Path) -> None:
    layouts.cub(tmp_path)
    layouts.pets(tmp_path)

    with pytest.raises(DataError, match=r"could be cub, pets; say which with `--as KIND`"):
        open_source(tmp_path, kind=None, work=tmp_path / "work")

    assert len(open_source(tmp_path, kind="pets", work=tmp_path / "work").images) == 4


def test_what_is_nothing_known_is_answered_with_all_that_was_looked_for(tmp_path: Path) -> None:
    path = text(tmp_path / "notes.txt", "no images")

    with pytest.raises(DataError) as caught:
        open_source(path, kind=None, work=tmp_path / "work")

    assert "notes.txt is nothing that is known; looked for:" in str(caught.value)
    assert all(f"  {name}: {each.layout}" in str(caught.value) for name, each in SOURCES.items())


@pytest.mark.parametrize("kind", [None, "cub"])
def test_a_path_that_is_not_there_is_refused(tmp_path: Path, kind: str | None) -> None:
    with pytest.raises(DataError, match="gone does not exist"):
        open_source(tmp_path / "gone", kind=kind, work=tmp_path / "work")


def test_a_path_that_the_system_refuses_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read, or unpacked to"):
        open_source(tmp_path / ("x" * 300), kind=None, work=tmp_path / "work")


def test_a_kind_that_the_path_is_not_is_answered_with_its_layout(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is no cub; that is images.txt, image_class_labels.txt"):
        open_source(class_folders(tmp_path), kind="cub", work=tmp_path / "work")


def test_an_unknown_kind_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no source is called 'cup'; there is aircraft, archive"):
        open_source(tmp_path, kind="cup", work=tmp_path / "work")


@pytest.mark.parametrize("name", ["aircraft", "cifar10", "cifar100", "flowers", "food", "pets"])
def test_without_a_network_a_download_names_the_ways_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delenv("FGPIPE_ONLINE", raising=False)

    with pytest.raises(UnavailableError) as caught:
        fetch_source(name, downloads=tmp_path / "downloads", work=tmp_path)

    assert "FGPIPE_ONLINE=1" in str(caught.value)
    assert f"`fgpipe data import FOLDER --as {name}`" in str(caught.value)
    assert not (tmp_path / "downloads").exists()


def test_what_cannot_be_fetched_names_those_that_can(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nabirds cannot be fetched, aircraft, cifar10.* can"):
        fetch_source("nabirds", downloads=tmp_path, work=tmp_path)


def test_a_download_is_made_once_and_a_failed_one_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FGPIPE_ONLINE", "1")
    calls = []

    def get(folder: Path) -> None:
        calls.append(folder)
        if len(calls) == 1:
            raise OSError("name resolution failed")
        layouts.pets(folder / "oxford-iiit-pet")

    with pytest.raises(UnavailableError, match=r"pets cannot be downloaded \(name resolution"):
        download.fetched("pets", tmp_path / "pets", get=get)
    for _ in range(2):
        assert download.fetched("pets", tmp_path / "pets", get=get) == tmp_path / "pets"

    assert len(calls) == 2


def test_what_a_download_cut_short_unpacked_is_not_taken_for_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FGPIPE_ONLINE", "1")
    half = put(tmp_path / "pets" / "oxford-iiit-pet" / "images" / "Abyssinian_1.jpg")
    packed = text(tmp_path / "pets" / "images.tar.gz", "kept, as its bytes are checked")

    download.fetched("pets", tmp_path / "pets", get=lambda folder: None)

    assert not half.exists()
    assert packed.exists()
