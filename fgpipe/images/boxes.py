"""Boxes: which part of an image they mean, and those of a manifest's table."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fgpipe.errors import DataError
from fgpipe.images.labels_file import Box

if TYPE_CHECKING:
    import pandas as pd  # the endpoint's environment has none

Region = tuple[slice, slice]
"""Rows and columns."""


def box_region(box: Box | None, *, shape: Sequence[int], margin: float) -> Region:
    """Rows and columns that a box and its margin cover, as far as the image goes.

    Args:
        box: Where the object is; None stands for the whole image.
        shape: Height and width of the image first.
        margin: Added on each side, as a fraction of the box's width or height.

    Raises:
        DataError: If no pixel of the box is inside the image.
    """
    height, width = shape[:2]
    if box is None:
        return slice(0, height), slice(0, width)
    if box.left >= width or box.top >= height:
        raise DataError(f"box {box} is outside the image, which is {width} x {height} px")
    across, down = margin * box.width, margin * box.height
    return (
        slice(
            max(0, math.floor(box.top - down)),
            min(height, math.ceil(box.top + box.height + down)),
        ),
        slice(
            max(0, math.floor(box.left - across)),
            min(width, math.ceil(box.left + box.width + across)),
        ),
    )


def boxes_of(table: "pd.DataFrame") -> list[Box | None]:
    """Each row's box, or None where the data give none.

    Args:
        table: Rows of the manifest's table.

    Raises:
        DataError: If a box is none.
    """
    if "box" not in table:
        return [None] * len(table)
    return [Box.parse(text) if isinstance(text, str) and text else None for text in table["box"]]
