"""Birds in the layout of CUB-200-2011, which NABirds has too, with a hierarchy.

Text files name, by an image's id, its file, its class, its box and its half. NABirds adds
``hierarchy.txt``, which says what each class is a kind of: the parent.

Source: Wah et al., "The Caltech-UCSD Birds-200-2011 Dataset" (2011); Van Horn et al.,
"Building a bird recognition app and large scale dataset with citizen scientists" (2015).
"""

import re
from pathlib import Path

from fgpipe.errors import DataError
from fgpipe.images.sources.annotations import boxes_of, fields_of, looked_up, table_of
from fgpipe.images.sources.gathering import distinct_names, gather
from fgpipe.images.sources.source import Source, SourceImage
from fgpipe.records import Split

CUB_LICENCE = "non-commercial research and education only; the photographers keep their rights"
NABIRDS_LICENCE = "non-commercial research only, by the terms of the Cornell Lab of Ornithology"

HALVES: dict[str, Split] = {"1": "train", "0": "test"}
"""What ``train_test_split.txt`` says of an image."""


def cub(folder: Path) -> Source:
    """The images of CUB-200-2011.

    Args:
        folder: The folder with ``images.txt``.

    Raises:
        DataError: If a file is missing or has a wrong line.
    """
    names = {
        id_: re.sub(r"^\d+\.", "", name)
        for id_, name in table_of(folder / "classes.txt", what="class name").items()
    }
    images = _images(folder, names=names, parents={})
    return gather(str(folder), images, within=folder, licence=CUB_LICENCE)


def nabirds(folder: Path) -> Source:
    """The images of NABirds.

    Args:
        folder: The folder with ``images.txt`` and ``hierarchy.txt``.

    Raises:
        DataError: If a file is missing or has a wrong line.
    """
    names = table_of(folder / "classes.txt", what="class name")
    hierarchy = table_of(folder / "hierarchy.txt", what="class parent")
    parents = {id_: names.get(hierarchy[id_], hierarchy[id_]) for id_ in names if id_ in hierarchy}
    images = _images(folder, names=names, parents=parents)
    return gather(str(folder), images, within=folder, licence=NABIRDS_LICENCE)


def _images(folder: Path, *, names: dict[str, str], parents: dict[str, str]) -> list[SourceImage]:
    files = table_of(folder / "images.txt", what="image path")
    classes_path = folder / "image_class_labels.txt"
    classes = table_of(classes_path, what="image class")
    halves = _halves(folder / "train_test_split.txt")
    boxes = boxes_of(folder / "bounding_boxes.txt", known=files)
    used = set(classes.values())
    labels = distinct_names({id_: name for id_, name in names.items() if id_ in used})
    images = []
    for id_, path in files.items():
        class_ = looked_up(classes, id_, path=classes_path, what="image")
        images.append(
            SourceImage(
                file=folder / "images" / path,
                path=f"images/{path}",
                label=looked_up(labels, class_, path=folder / "classes.txt", what="class"),
                parent=parents.get(class_),
                split=halves.get(id_),
                box=boxes.get(id_),
            )
        )
    return images


def _halves(path: Path) -> dict[str, Split]:
    halves = {}
    for number, (id_, half) in fields_of(path, what="image is_training_image"):
        if half not in HALVES:
            raise DataError(f"{path} line {number}: {half!r} is neither 1 (training) nor 0")
        halves[id_] = HALVES[half]
    return halves
