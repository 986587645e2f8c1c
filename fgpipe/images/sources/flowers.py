"""Oxford Flowers-102: photos of 102 flowers of Britain; the largest part is the test's.

Source: Nilsback and Zisserman, "Automated flower classification over a large number of
classes" (2008).
"""

from pathlib import Path
from typing import Any

from fgpipe.errors import DataError
from fgpipe.images.sources.flower_names import FLOWER_NAMES
from fgpipe.images.sources.gathering import gather
from fgpipe.images.sources.matlab import matlab_of
from fgpipe.images.sources.source import Source, SourceImage
from fgpipe.records import Split

LICENCE = "not stated by its publishers"

PARTS: dict[str, Split] = {"trnid": "train", "valid": "validation", "tstid": "test"}
"""The variables of ``setid.mat``."""


def flowers(folder: Path) -> Source:
    """The images of Flowers-102.

    Args:
        folder: The folder with ``imagelabels.mat``, ``setid.mat`` and ``jpg``.

    Raises:
        DataError: If a file is missing or not as expected.
    """
    path, parts_path = folder / "imagelabels.mat", folder / "setid.mat"
    found, parts = matlab_of({path: ["labels"], parts_path: list(PARTS)})
    labels = _integers(found["labels"], path)
    wrong = [label for label in labels if not 1 <= label <= len(FLOWER_NAMES)]
    if wrong:
        raise DataError(f"{path}: label {wrong[0]} is none of 1 to {len(FLOWER_NAMES)}")
    images = []
    for name, split in PARTS.items():
        for id_ in _integers(parts[name], parts_path):
            if not 1 <= id_ <= len(labels):
                raise DataError(f"{parts_path}: there is no image {id_}")
            file = f"image_{id_:05d}.jpg"
            images.append(
                SourceImage(
                    file=folder / "jpg" / file,
                    path=f"images/{file}",
                    label=FLOWER_NAMES[labels[id_ - 1] - 1],
                    split=split,
                )
            )
    return gather(str(folder), images, within=folder, licence=LICENCE)


def _integers(values: list[Any], path: Path) -> list[int]:
    try:
        return [int(value) for value in values]
    except (ValueError, TypeError, OverflowError):
        raise DataError(f"{path} holds something else than numbers") from None
