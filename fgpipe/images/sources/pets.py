"""Oxford-IIIT Pet: photos of 37 breeds of cats and dogs.

Source: Parkhi et al., "Cats and Dogs" (2012).
"""

from pathlib import Path

from fgpipe.errors import DataError
from fgpipe.images.sources.annotations import fields_of
from fgpipe.images.sources.gathering import gather
from fgpipe.images.sources.source import Source, SourceImage
from fgpipe.records import Split

LICENCE = "CC BY-SA 4.0"

SPECIES = {"1": "cat", "2": "dog"}
"""The parent."""

PARTS: dict[str, Split] = {"trainval": "train", "test": "test"}
"""The set's own names of its halves."""


def pets(folder: Path) -> Source:
    """The images of Oxford-IIIT Pet, by breed; the species is the parent.

    Args:
        folder: The folder with ``annotations`` and ``images``.

    Raises:
        DataError: If a file is missing or has a wrong line.
    """
    images = []
    for part, split in PARTS.items():
        path = folder / "annotations" / f"{part}.txt"
        rows = fields_of(path, what="image class species breed")
        for number, (name, _, species, _) in rows:
            if species not in SPECIES:
                raise DataError(f"{path} line {number}: species {species} is neither 1 nor 2")
            images.append(
                SourceImage(
                    file=folder / "images" / f"{name}.jpg",
                    path=f"images/{name}.jpg",
                    label=name.rsplit("_", 1)[0],
                    parent=SPECIES[species],
                    split=split,
                )
            )
    return gather(str(folder), images, within=folder, licence=LICENCE)
