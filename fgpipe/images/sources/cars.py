"""Stanford Cars: photos of 196 models of cars, with boxes.

Source: Krause et al., "3D Object Representations for Fine-Grained Categorization" (2013).
"""

from pathlib import Path
from typing import Any

from fgpipe.errors import DataError
from fgpipe.images.sources.gathering import box_from_corners, gather
from fgpipe.images.sources.matlab import matlab_of
from fgpipe.images.sources.source import Source, SourceImage
from fgpipe.records import Split

LICENCE = "non-commercial research only; the photographers keep their rights"

FIELDS = ("fname", "class", "bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")
"""What is read of an annotation."""


def cars(folder: Path) -> Source:
    """The images of Stanford Cars; without its labels of the test half, the other half.

    Args:
        folder: The folder with ``devkit`` and ``cars_train``.

    Raises:
        DataError: If a file is missing or has a wrong row.
    """
    train = folder / "devkit" / "cars_train_annos.mat"
    test = [place / "cars_test_annos_withlabels.mat" for place in (folder, folder / "devkit")]
    halves: dict[Path, Split] = {train: "train"}
    halves |= dict.fromkeys([path for path in test if path.exists()][:1], "test")
    meta = {folder / "devkit" / "cars_meta.mat": ["class_names"]}
    names, *found = matlab_of(meta | {path: ["annotations"] for path in halves})
    labels = [str(name) for name in names["class_names"]]
    images = [
        image
        for (path, split), half in zip(halves.items(), found, strict=True)
        for image in _half(folder, path, half["annotations"], labels=labels, split=split)
    ]
    whole = len(halves) > 1
    note = None if whole else f"no {test[0].name}: the test half has no labels, and is left out"
    return gather(str(folder), images, within=folder, licence=LICENCE, note=note)


def _half(
    folder: Path, path: Path, annotations: list[Any], *, labels: list[str], split: Split
) -> list[SourceImage]:
    images = []
    for number, row in enumerate(annotations, 1):
        missing = [name for name in FIELDS if not isinstance(row, dict) or name not in row]
        if missing:
            raise DataError(f"{path} annotation {number} has no {missing[0]!r}")
        try:
            images.append(_image(folder, row, labels, split=split))
        except (ValueError, TypeError, OverflowError, DataError) as error:
            raise DataError(f"{path} annotation {number}: {error}") from None
    return images


def _image(folder: Path, row: dict[str, Any], labels: list[str], *, split: Split) -> SourceImage:
    name, class_, *corners = (row[field] for field in FIELDS)
    if not 1 <= int(class_) <= len(labels):
        raise DataError(f"class {int(class_)} is none of the {len(labels)}")
    left, top, right, bottom = (float(corner) for corner in corners)
    return SourceImage(
        file=folder / f"cars_{split}" / str(name),
        path=f"images/{split}/{name}",
        label=labels[int(class_) - 1],
        split=split,
        box=box_from_corners(left, top, right, bottom),
    )
