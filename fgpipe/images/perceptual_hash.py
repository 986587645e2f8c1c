"""A 64-bit hash that hardly changes when an image is encoded or resized again.

Source: Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions"
(2010), the DCT hash of the pHash library: grey, 32 x 32, two-dimensional DCT, the 8 x 8
lowest frequencies without the constant ones, one bit each for being above their median.
Differs in Lanczos resampling where that library blurs and picks, and in rounding the
coefficients, without which a flat image's bits would be rounding noise.
"""

import numpy as np
from jaxtyping import Float
from PIL import Image

SIDE_PX = 32
N_FREQUENCIES = 8


def _cosines() -> Float[np.ndarray, "frequencies side"]:
    frequency = np.arange(1, N_FREQUENCIES + 1)[:, None]
    position = np.arange(SIDE_PX)[None, :]
    return np.cos(np.pi * frequency * (2 * position + 1) / (2 * SIDE_PX))


_COSINES = _cosines()


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
