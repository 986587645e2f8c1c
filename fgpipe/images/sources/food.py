"""Food-101: photos of 101 dishes; the training half is not cleaned, on purpose.

Source: Bossard et al., "Food-101 - Mining Discriminative Components with Random Forests"
(2014).
"""

from pathlib import Path

from fgpipe.errors import DataError
from fgpipe.images.sources.annotations import json_of
from fgpipe.images.sources.gathering import gather
from fgpipe.images.sources.source import Source, SourceImage
from fgpipe.records import Split

LICENCE = "research only; the photos are their owners'"

PARTS: tuple[Split, ...] = ("train", "test")
"""The halves, called as here."""


def food(folder: Path) -> Source:
    """The images of Food-101.

    Args:
        folder: The folder with ``meta`` and ``images``.

    Raises:
        DataError: If a file is missing or not as expected.
    """
    images = []
    for split in PARTS:
        path = folder / "meta" / f"{split}.json"
        content = json_of(path)
        if not isinstance(content, dict) or not all(
            isinstance(names, list) and all(isinstance(name, str) for name in names)
            for names in content.values()
        ):
            raise DataError(f"{path} does not list images by class")
        images += [
            SourceImage(
                file=folder / "images" / f"{name}.jpg",
                path=f"images/{name}.jpg",
                label=label,
                split=split,
            )
            for label, names in content.items()
            for name in names
        ]
    return gather(
        str(folder),
        images,
        within=folder,
        licence=LICENCE,
        note="some labels of the training half are wrong, on purpose of its authors",
    )
