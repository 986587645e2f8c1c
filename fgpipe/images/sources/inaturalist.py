"""iNaturalist's competition sets: 2021 by its folders, 2017 to 2019 by their JSON files.

Source: Van Horn et al., "The iNaturalist Species Classification and Detection Dataset"
(2018), and "Benchmarking Representation Learning for Natural World Image Collections" (2021).
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fgpipe.errors import DataError
from fgpipe.images.files import list_images
from fgpipe.images.sources.annotations import json_of
from fgpipe.images.sources.folder import folder_names
from fgpipe.images.sources.gathering import distinct_names, gather
from fgpipe.images.sources.source import Source, SourceImage
from fgpipe.records import Split

LICENCE = "non-commercial research and education only; each photo has its own licence"

RANKS = ("kingdom", "phylum", "class", "order", "family", "genus", "species")
"""What a folder's name of 2021 says, after its number."""

CLASS_FOLDER = re.compile(r"\d{5}(?:_[^_]+){6}_.+")
"""``NNNNN_kingdom_phylum_class_order_family_genus_species``."""

PARTS: dict[str, Split] = {
    "train": "train",
    "2021_train": "train",
    "train_mini": "train",
    "2021_train_mini": "train",
    "val": "validation",
    "2021_valid": "validation",
}
"""The folders above those of the classes, as unpacked and as torchvision calls them."""

ANNOTATIONS = re.compile(r"(train|val)_?(20\d\d)\.json")
"""Files that name images and their classes."""


def has_class_folders(folder: Path) -> bool:
    """Whether a folder holds those of 2021's classes, or has a part in it that does."""
    places = [folder, *(folder / name for name in PARTS)]
    return any(CLASS_FOLDER.fullmatch(name) for place in places for name in _some(place))


def has_annotations(folder: Path) -> bool:
    """Whether a folder holds an annotation file of 2017 to 2019."""
    return any(ANNOTATIONS.fullmatch(path.name) for path in folder.glob("*.json"))


def by_folders(folder: Path) -> Source:
    """The images of 2021: the genus is the parent, the ranks above it are attributes.

    Args:
        folder: The folder with ``train`` (or ``train_mini``) and ``val``, or one of these; so
            with torchvision's names.

    Raises:
        DataError: If a class folder is called otherwise or holds no images.
    """
    there = [name for name in PARTS if (folder / name).is_dir()]
    whole = {f"{name}_mini" for name in there}  # a mini part is some of the whole one
    parts = [name for name in there if name not in whole]
    places: list[tuple[Path, Split | None]] = [(folder / part, PARTS[part]) for part in parts]
    found = [
        (place / name, name, split)
        for place, split in places or [(folder, None)]
        for name in folder_names(place)
    ]
    wrong = [str(path) for path, name, _ in found if not CLASS_FOLDER.fullmatch(name)]
    if wrong:
        raise DataError(f"{wrong[0]} is not called NNNNN_{'_'.join(RANKS)}")
    ranks = {name: name.split("_", 7)[1:] for _, name, _ in found}
    species = {name: f"{parts[-2]} {parts[-1]}" for name, parts in ranks.items()}
    labels = distinct_names(species)
    images = [
        SourceImage(
            file=file,
            path=f"images/{file.relative_to(folder).as_posix()}",
            label=labels[name],
            parent=ranks[name][-2],
            split=split,
            attributes=dict(zip(RANKS[:-2], ranks[name], strict=False)),
        )
        for path, name, split in found
        for file in _not_empty(path)
    ]
    return gather(str(folder), images, within=folder, licence=LICENCE)


def by_annotations(folder: Path) -> Source:
    """The images of 2017 to 2019: the genus, or else the super-category, is the parent.

    Ranks above the genus are attributes, where the categories say them.

    Args:
        folder: The folder with the JSON files and the images' folders; ``categories.json``
            has the classes' names where the others have numbers only.

    Raises:
        DataError: If a file is not as expected.
    """
    files = [path for path in sorted(folder.glob("*.json")) if ANNOTATIONS.fullmatch(path.name)]
    if not files:
        raise DataError(f"{folder} has no train20NN.json or val20NN.json")
    extra = folder / "categories.json"
    named = json_of(extra) if extra.exists() else None
    images = []
    for path in files:
        content = json_of(path)
        split: Split = "train" if path.name.startswith("train") else "validation"
        try:
            images += list(_annotated(folder, content, named or content["categories"], split))
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path} is not as iNaturalist's are (no {error})") from None
    return gather(str(folder), images, within=folder, licence=LICENCE)


def _some(place: Path) -> list[str]:
    return folder_names(place)[:1] if place.is_dir() else []


def _not_empty(folder: Path) -> list[Path]:
    files = list_images(folder)
    if not files:
        raise DataError(f"{folder} holds no images; the set is not whole, unpack it again")
    return files


def _annotated(
    folder: Path, content: Mapping[str, Any], categories: list[dict[str, Any]], split: Split
) -> Iterator[SourceImage]:
    names = distinct_names({str(each["id"]): str(each["name"]) for each in categories})
    parents = {
        str(each["id"]): str(each.get("genus") or each.get("supercategory") or "") or None
        for each in categories
    }
    ranks = [rank for rank in RANKS[:-2] if all(each.get(rank) for each in categories)]
    attributes = {str(each["id"]): {rank: str(each[rank]) for rank in ranks} for each in categories}
    classes = {each["image_id"]: str(each["category_id"]) for each in content["annotations"]}
    for image in content["images"]:
        name, class_ = str(image["file_name"]), classes[image["id"]]
        yield SourceImage(
            file=folder / name,
            path=f"images/{name}",
            label=names[class_],
            parent=parents[class_],
            split=split,
            attributes=attributes[class_],
        )
