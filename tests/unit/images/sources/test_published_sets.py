"""Published sets in their own layouts: found, read as their authors mean them, or refused."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fgpipe.errors import DataError
from fgpipe.images.labels_file import Box
from fgpipe.images.sources import hugging_face
from fgpipe.images.sources.registry import open_source
from fgpipe.images.sources.source import Source, SourceImage
from tests.support import dataset_layouts as layouts

Make = Callable[[Path], Path]


def opened(path: Path, *, kind: str | None = None) -> Source:
    work = path.parent / "work"
    work.mkdir(exist_ok=True)
    return open_source(path, kind=kind, work=work)


def row(image: SourceImage) -> tuple[str, str | None, str | None, str]:
    return image.label, image.parent, image.split, str(image.box or "")


def rows(source: Source) -> list[tuple[str, str | None, str | None, str]]:
    assert all(image.file.is_file() for image in source.images)
    assert all(image.path.startswith("images/") for image in source.images)
    assert len({image.path for image in source.images}) == len(source.images)
    return sorted(map(row, source.images), key=str)


def test_cub_gives_species_halves_and_boxes(tmp_path: Path) -> None:
    layouts.cub(tmp_path / "CUB_200_2011")

    source = opened(tmp_path)

    assert rows(source) == [
        ("Black_footed_Albatross", None, "test", "60 27 325 304"),
        ("Black_footed_Albatross", None, "train", "139 30 153 264"),
        ("Laysan_Albatross", None, "train", "14 112 388 186"),
    ]
    assert source.images[0].path == (
        "images/001.Black_footed_Albatross/Black_Footed_Albatross_0009_34.jpg"
    )
    assert "non-commercial" in (source.licence or "")


def test_nabirds_gives_parents_and_tells_classes_of_one_name_apart(tmp_path: Path) -> None:
    source = opened(layouts.nabirds(tmp_path / "nabirds"))

    assert rows(source) == [
        ("House Finch (860)", "Perching Birds", "train", "83 59 128 228"),
        ("House Finch (900)", "Perching Birds", "train", "83 59 128 228"),
        ("Oak Titmouse", "Perching Birds", "test", "83 59 128 228"),
    ]


def test_aircraft_gives_variants_with_family_maker_and_boxes_counted_from_one(
    tmp_path: Path,
) -> None:
    source = opened(layouts.aircraft(tmp_path / "fgvc-aircraft-2013b"))

    assert rows(source) == [
        ("707-320", "Boeing 707", "test", "43 169 927 351"),
        ("707-320", "Boeing 707", "train", "2 143 996 288"),
        ("A300B4", "A300", "validation", "7 253 991 407"),
    ]
    assert {image.label: image.attributes["manufacturer"] for image in source.images} == {
        "707-320": "Boeing",
        "A300B4": "Airbus",
    }
    assert source.images[0].box == Box(left=7, top=253, width=991, height=407)


def test_cars_gives_models_and_boxes_of_both_halves(tmp_path: Path) -> None:
    source = opened(layouts.cars(tmp_path / "stanford_cars"))

    assert rows(source) == [
        ("AM General Hummer SUV 2000", None, "test", "99 18 477 185"),
        ("AM General Hummer SUV 2000", None, "train", "38 115 531 260"),
        ("Acura RL Sedan 2012", None, "test", "29 51 217 96"),
        ("Acura RL Sedan 2012", None, "train", "35 115 833 472"),
    ]


def test_cars_without_labels_of_the_test_half_says_so(tmp_path: Path) -> None:
    source = opened(layouts.cars(tmp_path / "cars", with_test=False))

    assert {image.split for image in source.images} == {"train"}
    assert "test half has no labels" in (source.note or "")


def test_cars_whose_test_labels_lie_in_both_places_count_once(tmp_path: Path) -> None:
    folder = layouts.cars(tmp_path / "cars")
    name = "cars_test_annos_withlabels.mat"
    (folder / "devkit" / name).write_bytes((folder / name).read_bytes())

    assert len(opened(folder).images) == 4


def test_flowers_gives_names_and_three_splits(tmp_path: Path) -> None:
    source = opened(layouts.flowers(tmp_path / "flowers-102"))

    assert [(image.path, image.label, image.split) for image in source.images] == [
        ("images/image_00001.jpg", "passion flower", "train"),
        ("images/image_00002.jpg", "passion flower", "validation"),
        ("images/image_00003.jpg", "pink primrose", "train"),
        ("images/image_00004.jpg", "blackberry lily", "test"),
        ("images/image_00005.jpg", "pink primrose", "validation"),
        ("images/image_00006.jpg", "blackberry lily", "test"),
    ]


def test_pets_gives_breeds_and_species(tmp_path: Path) -> None:
    source = opened(layouts.pets(tmp_path / "oxford-iiit-pet"))

    assert rows(source) == [
        ("Abyssinian", "cat", "test", ""),
        ("Abyssinian", "cat", "train", ""),
        ("american_bulldog", "dog", "test", ""),
        ("american_bulldog", "dog", "train", ""),
    ]


def test_food_gives_dishes_and_halves(tmp_path: Path) -> None:
    source = opened(layouts.food(tmp_path / "food-101"))

    assert [(image.path, image.split) for image in source.images] == [
        ("images/apple_pie/1005649.jpg", "train"),
        ("images/apple_pie/1011328.jpg", "test"),
        ("images/baby_back_ribs/1005293.jpg", "train"),
        ("images/baby_back_ribs/104095.jpg", "test"),
    ]


def test_cifar10_gives_its_pixels_as_png(tmp_path: Path) -> None:
    source = opened(layouts.cifar10(tmp_path / "cifar-10-batches-bin"))

    assert len(source.images) == 12
    assert [image.split for image in source.images].count("test") == 2
    assert [image.label for image in source.images][:4] == [
        "airplane",
        "automobile",
        "bird",
        "airplane",
    ]
    for number, image in enumerate(source.images):
        with Image.open(image.file) as file:
            assert np.array_equal(np.asarray(file), layouts.planes(number))


def test_cifar100_gives_the_coarse_class_as_parent(tmp_path: Path) -> None:
    layouts.cifar100(tmp_path / "cifar-100-binary")

    source = opened(tmp_path)

    assert rows(source) == [
        ("apple", "fruit_and_vegetables", "test", ""),
        ("apple", "fruit_and_vegetables", "train", ""),
        ("aquarium_fish", "fish", "test", ""),
        ("aquarium_fish", "fish", "train", ""),
    ]


def test_cifar_as_pickles_is_refused_unread(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in ("batches.meta", "data_batch_1"):
        (folder / name).write_bytes(b"cos\nabort\n(tR.")

    with pytest.raises(DataError, match=r"pickles, which may run any code.*cifar-10-binary"):
        opened(tmp_path)


def test_cifar100_as_pickles_is_refused_unread(tmp_path: Path) -> None:
    for name in ("meta", "train", "test"):
        (tmp_path / name).write_bytes(b"cos\nabort\n(tR.")

    with pytest.raises(DataError, match=r"pickles, which may run any code.*cifar-100-binary"):
        opened(tmp_path)


def test_a_file_called_meta_makes_no_cifar(tmp_path: Path) -> None:
    layouts.put(tmp_path / "set" / "cat" / "1.jpg", 0)
    layouts.put(tmp_path / "set" / "dog" / "1.jpg", 1)
    layouts.text(tmp_path / "set" / "meta", "notes")

    assert [image.label for image in opened(tmp_path / "set").images] == ["cat", "dog"]


def test_inaturalist_2021_gives_species_genus_and_ranks(tmp_path: Path) -> None:
    source = opened(layouts.inaturalist_2021(tmp_path / "inat"))

    assert rows(source) == [
        ("Lumbricus terrestris", "Lumbricus", "train", ""),
        ("Lumbricus terrestris", "Lumbricus", "validation", ""),
        ("Sabella spallanzanii", "Sabella", "train", ""),
        ("Sabella spallanzanii", "Sabella", "validation", ""),
    ]
    assert source.images[0].attributes == {
        "kingdom": "Animalia",
        "phylum": "Annelida",
        "class": "Clitellata",
        "order": "Haplotaxida",
        "family": "Lumbricidae",
    }


def test_one_part_of_inaturalist_2021_has_no_split(tmp_path: Path) -> None:
    source = opened(layouts.inaturalist_2021(tmp_path / "inat") / "val")

    assert [image.split for image in source.images] == [None, None]


@pytest.mark.parametrize(
    ("categories", "labels"),
    [
        (True, {("Amanita muscaria", "Amanita"), ("Pica pica", "Pica")}),
        (False, {("8142", "Fungi"), ("8143", "Aves")}),
    ],
)
def test_inaturalist_2018_gives_names_where_there_are_any(
    tmp_path: Path, *, categories: bool, labels: set[tuple[str, str]]
) -> None:
    source = opened(layouts.inaturalist_2018(tmp_path / "inat", categories=categories))

    assert {(image.label, image.parent) for image in source.images} == labels
    assert [image.split for image in source.images].count("validation") == 2


def test_a_hugging_face_folder_gives_its_bytes_names_and_splits(tmp_path: Path) -> None:
    source = opened(layouts.hugging_face(tmp_path / "beans"))

    assert [(image.path, image.label, image.split) for image in source.images] == [
        ("images/train-00000-of-00001/0000001.jpg", "angular_leaf_spot", "train"),
        ("images/train-00000-of-00001/0000002.png", "healthy", "train"),
        ("images/train-00000-of-00001/0000003.jpg", "healthy", "train"),
        ("images/validation-00000-of-00001/0000001.jpg", "angular_leaf_spot", "validation"),
        ("images/validation-00000-of-00001/0000002.png", "healthy", "validation"),
        ("images/validation-00000-of-00001/0000003.jpg", "healthy", "validation"),
    ]
    assert source.images[1].file.read_bytes() == layouts.picture(1, "PNG")


@pytest.mark.parametrize(
    ("make", "kind", "lost", "says"),
    [
        (layouts.cub, "cub", "classes.txt", "classes.txt is missing"),
        (layouts.nabirds, "nabirds", "train_test_split.txt", "train_test_split.txt is missing"),
        (layouts.aircraft, "aircraft", "data/images_family_val.txt", "family_val.txt is missing"),
        (layouts.cars, "cars", "devkit/cars_train_annos.mat", "annos.mat is missing"),
        (layouts.flowers, "flowers", "setid.mat", "setid.mat is missing"),
        (layouts.pets, "pets", "annotations/test.txt", "test.txt is missing"),
        (layouts.food, "food", "meta/test.json", "test.json is missing"),
        (layouts.cifar10, "cifar10", "data_batch_3.bin", "data_batch_3.bin is missing"),
        (layouts.cifar100, "cifar100", "coarse_label_names.txt", "names.txt is missing"),
        (layouts.aircraft, "aircraft", "data/images/1025794.jpg", "1 images are missing"),
        (layouts.cars, "cars", "cars_test/00002.jpg", "1 images are missing"),
        (layouts.flowers, "flowers", "jpg/image_00002.jpg", "1 images are missing"),
        (layouts.pets, "pets", "images/Abyssinian_201.jpg", "1 images are missing"),
        (layouts.food, "food", "images/apple_pie/1005649.jpg", "1 images are missing"),
    ],
)
def test_what_a_set_lacks_is_named(
    tmp_path: Path, make: Make, kind: str, lost: str, says: str
) -> None:
    folder = make(tmp_path / kind)
    (folder / lost).unlink()

    with pytest.raises(DataError) as caught:
        opened(folder, kind=kind)

    assert says in str(caught.value)
    assert Path(lost).name in str(caught.value)


@pytest.mark.parametrize(
    ("make", "file", "content", "says"),
    [
        (layouts.cub, "images.txt", "1\n", "images.txt line 1: '1' is not `image path`"),
        (layouts.cub, "image_class_labels.txt", "1 1\n", "has no line for image 2"),
        (layouts.cub, "image_class_labels.txt", "1 1\n2 1\n3 9\n", "has no line for class 9"),
        (layouts.cub, "image_class_labels.txt", "1 1\n1 2\n", "line 2: 1 is there a second time"),
        (layouts.cub, "train_test_split.txt", "1 2\n", "line 1: '2' is neither 1"),
        (layouts.cub, "bounding_boxes.txt", "1 0 0 0 9\n", "line 1: box is"),
        (layouts.cub, "bounding_boxes.txt", "7 0 0 9 9\n", "there is no image 7"),
        (layouts.cub, "images.txt", "", "images.txt is empty"),
        (layouts.cub, "images.txt", "1 ../a.jpg\n2 b.jpg\n3 c.jpg\n", "1 images are outside of it"),
        (layouts.nabirds, "hierarchy.txt", "817\n", "line 1: '817' is not `class parent`"),
        (layouts.aircraft, "data/images_variant_val.txt", "x\n", "is not `image variant`"),
        (layouts.aircraft, "data/images_box.txt", "\n1025794 9 9 1 1\n", "line 2: '9 9 1 1' is no"),
        (layouts.cars, "devkit/cars_meta.mat", "text", "is no Matlab file"),
        (layouts.flowers, "setid.mat", "", "is no Matlab file"),
        (layouts.pets, "annotations/test.txt", "Bombay_1 3 3 1\n", "species 3 is neither"),
        (layouts.pets, "annotations/test.txt", "Bombay_1 3\n", "is not `image class species"),
        (layouts.food, "meta/train.json", "{", "is no JSON"),
        (layouts.food, "meta/train.json", "[1]", "does not list images by class"),
        (layouts.cifar10, "test_batch.bin", "short", "no multiple of a record's 3,073"),
        (layouts.cifar10, "batches.meta.txt", "airplane\n", "class 1 is none of the 1"),
        (layouts.inaturalist_2018, "val2018.json", "{}", "not as iNaturalist's are"),
        (layouts.inaturalist_2018, "val2018.json", "nothing", "is no JSON"),
        (layouts.hugging_face, "data/train-00000-of-00001.parquet", "PAR1", "cannot be read"),
    ],
)
def test_a_wrong_annotation_is_named_by_its_place(
    tmp_path: Path, make: Make, file: str, content: str, says: str
) -> None:
    folder = make(tmp_path / "set")
    (folder / file).write_text(content)

    with pytest.raises(DataError) as caught:
        opened(folder)

    assert says in str(caught.value)


def test_a_label_that_is_no_flower_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="label 103 is none of 1 to 102"):
        opened(layouts.flowers(tmp_path / "set", labels=(1, 2, 103, 4, 5, 6)))


@pytest.mark.parametrize(
    ("label", "says"),
    [(2, "label 2 is none of the 2"), (-1, "has no label"), (None, "has no label")],
)
def test_a_parquet_label_that_names_no_class_is_refused(
    tmp_path: Path, label: int | None, says: str
) -> None:
    with pytest.raises(DataError, match=rf"row 2.* {says}"):
        opened(layouts.hugging_face(tmp_path / "set", labels=(0, label, 1)))


def test_a_parquet_folder_of_files_that_are_only_named_is_refused(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    rows_ = [{"image": {"bytes": None, "path": os.devnull}, "label": "a"}]
    parquet.write_table(pa.Table.from_pylist(rows_), tmp_path / "train-00000-of-00001.parquet")

    with pytest.raises(DataError, match="row 1 has no image bytes"):
        opened(tmp_path)


@pytest.mark.parametrize("leads", ["../secret.jpg", "{folder}/../secret.jpg", "{tmp}/secret.jpg"])
def test_an_image_outside_the_set_is_refused(tmp_path: Path, leads: str) -> None:
    layouts.put(tmp_path / "secret.jpg")
    inaturalist = layouts.inaturalist_2018(tmp_path / "inaturalist")
    content = json.loads((inaturalist / "val2018.json").read_text())
    content["images"][0]["file_name"] = leads.format(folder=inaturalist, tmp=tmp_path)
    (inaturalist / "val2018.json").write_text(json.dumps(content))
    cub = layouts.cub(tmp_path / "cub")
    name = leads.format(folder=cub, tmp=tmp_path).replace("../", "../../", 1)
    names = (cub / "images.txt").read_text().splitlines()[1:]
    layouts.text(cub / "images.txt", f"1 {name}", *names)

    for folder in (inaturalist, cub):
        with pytest.raises(DataError, match="1 images are outside of it"):
            opened(folder)


def test_inaturalist_2018_gives_the_ranks_that_all_its_categories_have(tmp_path: Path) -> None:
    folder = layouts.inaturalist_2018(tmp_path / "inat")
    kinds = json.loads((folder / "categories.json").read_text())
    kinds = [each | {"order": f"order {each['id']}", "family": "f"} for each in kinds]
    del kinds[1]["family"]
    (folder / "categories.json").write_text(json.dumps(kinds))

    source = opened(folder)

    assert {image.label: image.attributes for image in source.images} == {
        "Amanita muscaria": {"order": "order 0"},
        "Pica pica": {"order": "order 1"},
    }


def test_a_parquet_file_is_not_held_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    path = tmp_path / "set" / "train-00000-of-00001.parquet"
    path.parent.mkdir()
    noise = [{"bytes": os.urandom(20_000)} for _ in range(1000)]
    labels = [str(i % 2) for i in range(1000)]
    parquet.write_table(pa.table({"image": noise, "label": labels}), path, row_group_size=100)
    write, held = hugging_face._write, []

    def counted(*arguments: Any) -> Path:
        held.append(pa.total_allocated_bytes() - before)
        return write(*arguments)

    monkeypatch.setattr(hugging_face, "_write", counted)
    del noise
    before = pa.total_allocated_bytes()

    opened(path.parent)

    assert len(held) == 1000
    assert max(held) < path.stat().st_size / 2


@pytest.mark.parametrize(
    "entry", ["", "- config_name: other\n  features: []\n- config_name: data\n"]
)
def test_names_that_only_the_card_has_are_read_there(tmp_path: Path, entry: str) -> None:
    folder = layouts.hugging_face(tmp_path / "beans")
    layouts.without_metadata(folder)
    (folder / "README.md").write_text(layouts.HUGGING_FACE_CARD.format(entry=entry))

    source = opened(folder)

    assert [image.label for image in source.images][:3] == ["sick", "well", "well"]


@pytest.mark.parametrize("card", [None, "# Beans\n", "---\nlicense: mit\n---\n", ""])
def test_without_names_anywhere_the_numbers_are_the_labels(
    tmp_path: Path, card: str | None
) -> None:
    folder = layouts.hugging_face(tmp_path / "beans")
    layouts.without_metadata(folder)
    if card is not None:
        (folder / "README.md").write_text(card)

    assert {image.label for image in opened(folder).images} == {"0", "1"}


@pytest.mark.parametrize(
    ("card", "says"),
    [
        ("---\n{\n---\n", "README.md does not open with YAML"),
        (
            layouts.HUGGING_FACE_CARD.format(entry="").replace("'1': well", "'2': well"),
            "numbers its classes 0, 2",
        ),
    ],
)
def test_a_broken_card_is_named(tmp_path: Path, card: str, says: str) -> None:
    folder = layouts.hugging_face(tmp_path / "beans")
    layouts.without_metadata(folder)
    (folder / "README.md").write_text(card)

    with pytest.raises(DataError, match=says):
        opened(folder)


def test_the_only_configuration_beside_a_card_is_found_and_of_several_one_is_asked(
    tmp_path: Path,
) -> None:
    folder = layouts.hugging_face(tmp_path / "cifar10")
    (folder / "data").rename(folder / "plain_text")
    layouts.text(folder / "README.md", "# CIFAR-10")
    assert len(opened(folder).images) == 6

    layouts.hugging_face(folder / "more")
    (folder / "more" / "data").rename(folder / "small")

    with pytest.raises(DataError, match="several configurations, plain_text, small; name one"):
        opened(folder)

    (folder / "small").rename(folder / "default")

    with pytest.raises(DataError, match="several configurations, default, plain_text; name one"):
        opened(folder)


def test_inaturalist_2021_as_torchvision_unpacks_it_is_the_same(tmp_path: Path) -> None:
    folder = layouts.inaturalist_2021(tmp_path / "inat")
    expected = rows(opened(folder))
    (folder / "train_mini").rename(folder / "2021_train_mini")
    (folder / "val").rename(folder / "2021_valid")

    assert rows(opened(folder)) == expected


@pytest.mark.parametrize("prefix", ["", "2021_"])
def test_the_mini_part_of_inaturalist_2021_is_left_out_beside_the_whole(
    tmp_path: Path, prefix: str
) -> None:
    folder = layouts.inaturalist_2021(tmp_path / "inat")
    shutil.copytree(folder / "train_mini", folder / f"{prefix}train")
    (folder / "train_mini").rename(folder / f"{prefix}train_mini")

    paths = [image.path for image in opened(folder).images if image.split == "train"]

    assert len(paths) == 2
    assert not [path for path in paths if "mini" in path]


@pytest.mark.parametrize("named", ["", "default"])
@pytest.mark.parametrize("part", ["train", "partial-train"])
def test_a_set_that_the_hub_converted_is_read(tmp_path: Path, named: str, part: str) -> None:
    folder = layouts.hugging_face(tmp_path / "beans")
    expected = rows(opened(folder))
    for old, new in (("train", part), ("validation", "validation")):
        (folder / "default" / new).mkdir(parents=True)
        file = folder / "data" / f"{old}-00000-of-00001.parquet"
        file.rename(folder / "default" / new / "0000.parquet")
    (folder / "data").rmdir()

    assert rows(opened(folder / named)) == expected
