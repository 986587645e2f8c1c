"""A 64-bit hash that hardly changes when an image is encoded or resized again.

Source: Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions"
(2010), the DCT hash of the pHash library: grey, 32 x 32, two-dimensional DCT, the 8 x 8
lowest frequencies without the constant ones, one bit each for being above their median.
Differs in Lanczos resampling where that library blurs and picks, and in rounding the
coefficients, without which a flat image's bits would be rounding noise.
"""

import numpy as np
from jaxtyping import Float, UInt8, UInt64
from PIL import Image

SIDE_PX = 32
N_FREQUENCIES = 8


def _cosines() -> Float[np.ndarray, "frequencies side"]:
    frequency = np.arange(1, N_FREQUENCIES + 1)[:, None]
    position = np.arange(SIDE_PX)[None, :]
    return np.cos(np.pi * frequency * (2 * position + 1) / (2 * SIDE_PX))


_COSINES = _cosines()

_ODD_COLUMNS = np.uint64(0xAAAAAAAAAAAAAAAA)
"""Bits of horizontal frequencies 1, 3, 5 and 7, row by row from the highest bit."""

_SQUARES_AT_ONCE = 4096


def perceptual_hash(grey: Image.Image) -> int:
    """The hash of a grey image, upright as it is seen.

    Two hashes that differ in few bits are of images alike in their coarse structure;
    whether they show the same thing, only their pixels tell
    (:mod:`fgpipe.images.near_duplicates`).

    Args:
        grey: An image of mode ``L``.

    Returns:
        64 bits, the lowest frequency first (highest bit).
    """
    small = np.asarray(
        grey.resize((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS, reducing_gap=3.0),
        dtype=np.float64,
    )
    coefficients = np.round(_COSINES @ small @ _COSINES.T, 3)
    bits = coefficients > np.median(coefficients)
    return int.from_bytes(np.packbits(bits.ravel()).tobytes(), "big")


def mirrored_hash(hashes: UInt64[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
    """The hashes that the mirrored images have, but for a few bits.

    Mirroring turns the sign of the odd horizontal frequencies. A bit says whether a
    coefficient is above their median, which is near 0: the bits of these frequencies turn
    over, but for coefficients between the median and its opposite.
    """
    return hashes ^ _ODD_COLUMNS


def perceptual_hashes(
    squares: UInt8[np.ndarray, "images 32 32"],
) -> UInt64[np.ndarray, " images"]:
    """The hashes of grey images that are 32 pixels wide and high already."""
    found = np.empty(len(squares), dtype=np.uint64)
    for start in range(0, len(squares), _SQUARES_AT_ONCE):
        chunk = squares[start : start + _SQUARES_AT_ONCE].astype(np.float64)
        coefficients = np.round(_COSINES @ chunk @ _COSINES.T, 3).reshape(len(chunk), 64)
        bits = coefficients > np.median(coefficients, axis=1, keepdims=True)
        found[start : start + len(chunk)] = np.packbits(bits, axis=1).view(">u8")[:, 0]
    return found
