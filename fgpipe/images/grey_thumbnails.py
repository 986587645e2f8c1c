"""Small grey copies of image files, for comparing them pixel by pixel."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from fgpipe.images.files import read_reduced


def grey_thumbnails(
    folder: Path, names: Sequence[str], *, side_px: int
) -> UInt8[np.ndarray, "images side side"]:
    """Images in grey, upright, squashed to a square.

    Args:
        folder: Where the files are.
        names: Their paths below it.
        side_px: Height and width.

    Raises:
        DataError: If a file does not decode to its end.
    """

    def one(name: str) -> UInt8[np.ndarray, "side side"]:
        return _grey_thumbnail(folder / name, name=name, side_px=side_px)

    found = np.empty((len(names), side_px, side_px), dtype=np.uint8)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for position, small in enumerate(pool.map(one, names)):
            found[position] = small
    return found


def _grey_thumbnail(path: Path, *, name: str, side_px: int) -> UInt8[np.ndarray, "side side"]:
    grey = read_reduced(path, name=name, side_px=side_px, mode="L")
    # Bicubic also where it grows: a box would make steps that another copy does not have.
    small = grey.resize((side_px, side_px), Image.Resampling.BICUBIC, reducing_gap=3.0)
    return np.asarray(small)
