"""Which images of one batch belong together."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fgpipe.errors import DataError
from fgpipe.images.files import thumbnails
from fgpipe.images.groups_file import GroupRow
from fgpipe.images.labels_file import LabelledImage
from fgpipe.images.near_duplicates import confirmed, joined, pairs_within
from fgpipe.images.splits import SEPARATOR
from fgpipe.intake.reporting import pair_lines

MAX_BRIDGING_FRACTION = 0.01
"""Share of the images that near-duplicates may join to another given group."""

_PAIRS_AT_ONCE = 4096


def near_duplicate_pairs(
    folder: Path, *, paths: Sequence[str], phashes: Sequence[str]
) -> list[tuple[int, int]]:
    """Positions of images that show the same picture: hashes match and pixels confirm.

    Args:
        folder: Where the files are.
        paths: Their paths below it.
        phashes: Their perceptual hashes.
    """
    hashes = np.array([int(phash, 16) for phash in phashes], dtype=np.uint64)
    (textured,) = np.nonzero(hashes)  # flat images all share hash 0 and are never confirmed
    pairs = textured[pairs_within(hashes[textured])]
    wanted, position = np.unique(pairs, return_inverse=True)
    small = thumbnails(folder, [paths[i] for i in wanted])
    found: list[tuple[int, int]] = []
    for start in range(0, len(pairs), _PAIRS_AT_ONCE):
        chunk = slice(start, start + _PAIRS_AT_ONCE)
        left, right = position.reshape(pairs.shape)[chunk].T
        found += [(int(i), int(j)) for i, j in pairs[chunk][confirmed(small[left], small[right])]]
    return found


def group_batch(
    images: Sequence[LabelledImage],
    *,
    sha256s: Sequence[str],
    pairs: Sequence[tuple[int, int]],
    batch: int,
) -> list[GroupRow]:
    """Rows of ``groups.csv`` for one batch: given groups, merged over near-duplicates.

    Args:
        images: The batch.
        sha256s: Hash of each image's bytes.
        pairs: Positions of near-duplicates.
        batch: Number of the batch.

    Returns:
        One row an image, sorted by sha256.

    Raises:
        DataError: If near-duplicates join more than 1 % of the images to another given
            group: then either the groups are wrong or the images are too alike to tell
            copies from them.
    """
    _refuse_bridges(images, pairs)
    links = list(pairs)
    first_of: dict[str, int] = {}
    for position, image in enumerate(images):
        if image.group is not None:
            links.append((first_of.setdefault(image.group, position), position))
    stands_for = joined(range(len(images)), links)
    ids: dict[int, str] = {}
    for position, sha256 in enumerate(sha256s):
        root = stands_for[position]
        ids[root] = min(ids.get(root, sha256), sha256)
    rows = [
        GroupRow(
            sha256=sha256,
            group=ids[stands_for[position]],
            batch=batch,
            stratum=_stratum(image),
            status="active",
        )
        for position, (image, sha256) in enumerate(zip(images, sha256s, strict=True))
    ]
    return sorted(rows, key=lambda row: row.sha256)


def _stratum(image: LabelledImage) -> str:
    parts = [image.label, *image.attributes.values()]
    return SEPARATOR.join(part.replace(SEPARATOR, "/") for part in parts)


def _refuse_bridges(images: Sequence[LabelledImage], pairs: Sequence[tuple[int, int]]) -> None:
    bridges = tuple(
        (images[i].path, images[j].path)
        for i, j in pairs
        if None not in {images[i].group, images[j].group} and images[i].group != images[j].group
    )
    n_joined = len({path for pair in bridges for path in pair})
    if n_joined > MAX_BRIDGING_FRACTION * len(images):
        what = f"near-duplicates join {n_joined} of {len(images)} images to another given group"
        lines = [
            f"{what}, more than {MAX_BRIDGING_FRACTION:.0%}:",
            *pair_lines(bridges),
            "mend the groups, or leave one image of each pair out",
        ]
        raise DataError("\n".join(lines))
