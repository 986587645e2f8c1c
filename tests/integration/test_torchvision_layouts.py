"""The layouts that tests make are those torchvision reads, and it reads the same in them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from fgpipe.images.sources.registry import open_source
from tests.support import dataset_layouts as layouts

pytestmark = pytest.mark.integration

Rows = list[tuple[Path, int]]
PARTS = {"trainval": "train", "val": "validation"}


def of_aircraft(dataset: Any) -> Rows:
    return list(zip(map(Path, dataset._image_files), dataset._labels, strict=True))


def of_food(dataset: Any) -> Rows:
    return list(zip(dataset._image_files, dataset._labels, strict=True))


def of_pets(dataset: Any) -> Rows:
    return list(zip(dataset._images, dataset._labels, strict=True))


def of_cars(dataset: Any) -> Rows:
    return [(Path(path), int(target)) for path, target in dataset._samples]


@pytest.mark.parametrize(
    ("name", "make", "inside", "parts", "rows"),
    [
        (
            "FGVCAircraft",
            layouts.aircraft,
            "fgvc-aircraft-2013b",
            ("train", "val", "test"),
            of_aircraft,
        ),
        ("StanfordCars", layouts.cars, "stanford_cars", ("train", "test"), of_cars),
        (
            "Flowers102",
            layouts.flowers,
            "flowers-102",
            ("train", "val", "test"),
            of_food,
        ),
        ("Food101", layouts.food, "food-101", ("train", "test"), of_food),
        ("OxfordIIITPet", layouts.pets, "oxford-iiit-pet", ("trainval", "test"), of_pets),
    ],
)
def test_torchvision_gives_the_same_files_classes_and_splits(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    make: Callable[[Path], Path],
    inside: str,
    parts: Sequence[str],
    rows: Callable[[Any], Rows],
) -> None:
    from torchvision import datasets

    make(tmp_path / inside)
    monkeypatch.setattr(datasets.Flowers102, "_check_integrity", lambda self: True)  # made, not got
    theirs = {
        file: (PARTS.get(part, part), target)
        for part in parts
        for file, target in rows(getattr(datasets, name)(str(tmp_path), split=part))
    }

    source = open_source(tmp_path, kind=None, work=tmp_path / "work")

    ours = {image.file: (image.split, image.label) for image in source.images}
    assert {file: split for file, (split, _) in ours.items()} == {
        file: split for file, (split, _) in theirs.items()
    }
    paired = {(ours[file][1], theirs[file][1]) for file in ours}
    assert len(paired) == len({label for label, _ in paired}) == len({id_ for _, id_ in paired})


def test_the_names_of_the_flowers_are_torchvisions() -> None:
    from torchvision.datasets import Flowers102

    from fgpipe.images.sources.flower_names import FLOWER_NAMES

    assert list(FLOWER_NAMES) == list(Flowers102.classes)
