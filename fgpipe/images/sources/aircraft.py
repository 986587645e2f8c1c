"""FGVC-Aircraft: photos of 100 variants of aircraft, of 70 families, of 30 manufacturers.

Source: Maji et al., "Fine-Grained Visual Classification of Aircraft" (2013).
"""

from pathlib import Path

from fgpipe.errors import DataError
from fgpipe.images.labels_file import Box
from fgpipe.images.sources.annotations import fields_of, looked_up, table_of
from fgpipe.images.sources.gathering import box_from_corners, gather
from fgpipe.images.sources.source import Source, SourceImage
from fgpipe.records import Split

LICENCE = "non-commercial research only; the photographers keep their rights"

PARTS: dict[str, Split] = {"train": "train", "val": "validation", "test": "test"}
"""The set's own names of its parts."""


def aircraft(folder: Path) -> Source:
    """The images of FGVC-Aircraft, by variant.

    Args:
        folder: The folder with ``variants.txt`` and ``images``.

    Raises:
        DataError: If a file is missing or has a wrong line.
    """
    boxes = _boxes(folder / "images_box.txt")
    images = []
    for part, split in PARTS.items():
        variants = _part(folder, "variant", part)
        families = _part(folder, "family", part)
        makers = _part(folder, "manufacturer", part)
        for name, variant in variants.items():
            images.append(
                SourceImage(
                    file=folder / "images" / f"{name}.jpg",
                    path=f"images/{name}.jpg",
                    label=variant,
                    parent=looked_up(
                        families, name, path=_path(folder, "family", part), what="image"
                    ),
                    split=split,
                    box=boxes.get(name),
                    attributes={
                        "manufacturer": looked_up(
                            makers, name, path=_path(folder, "manufacturer", part), what="image"
                        )
                    },
                )
            )
    return gather(
        str(folder),
        images,
        within=folder,
        licence=LICENCE,
        note="the lowest 20 rows of each photo name its owner; crop to the boxes to lose them",
    )


def _path(folder: Path, level: str, part: str) -> Path:
    return folder / f"images_{level}_{part}.txt"


def _part(folder: Path, level: str, part: str) -> dict[str, str]:
    return table_of(_path(folder, level, part), what=f"image {level}")


def _boxes(path: Path) -> dict[str, Box]:
    if not path.exists():
        return {}
    boxes = {}
    for number, (name, *corners) in fields_of(path, what="image xmin ymin xmax ymax"):
        try:
            left, top, right, bottom = map(float, corners)
            boxes[name] = box_from_corners(left, top, right, bottom)
        except (ValueError, DataError):
            raise DataError(f"{path} line {number}: {' '.join(corners)!r} is no box") from None
    return boxes
