"""Batches of preprocessed images, in an order and with changes that only the seed decides.

The array is memory-mapped: memory does not grow with the number of images. Every image's
augmentation is keyed by seed, epoch and row, so that a training that resumes at an epoch
sees the very bytes that an undisturbed one sees.
"""

from collections.abc import Iterator

import cv2
import numpy as np
from jaxtyping import Int64, UInt8

from fgpipe.images.transforms import Augmentation

Rows = Int64[np.ndarray, " rows"]
Image = UInt8[np.ndarray, "height width 3"]
Pixels = UInt8[np.ndarray, "images height width 3"]


def seed_for(*keys: int) -> int:
    """A 32-bit seed that is another one for every sequence of keys."""
    return int(np.random.SeedSequence(keys).generate_state(1)[0])


def steps_per_epoch(n_images: int, *, batch_size: int) -> int:
    """Batches of an epoch; a last one of a single image is left out.

    Its batch statistics would be none.
    """
    whole, rest = divmod(n_images, batch_size)
    return max(1, whole + (rest > 1))


def training_batches(
    pixels: Pixels,
    *,
    rows: Rows,
    batch_size: int,
    augmentation: Augmentation,
    seed: int,
    epoch: int,
    size_px: int | None = None,
) -> Iterator[tuple[UInt8[np.ndarray, "batch height width 3"], Int64[np.ndarray, " batch"]]]:
    """One epoch: every row once, shuffled, augmented.

    The last batch is smaller; :func:`steps_per_epoch` says how many there are.

    Args:
        pixels: All images, memory-mapped.
        rows: Which of them to train on.
        batch_size: Images a batch.
        augmentation: Applied to each image.
        seed: Of order and augmentation.
        epoch: From 1; each has its own order and changes.
        size_px: Side to shrink images to before they are changed; None leaves them.

    Yields:
        The images and their rows.
    """
    order = np.random.default_rng([seed, epoch]).permutation(rows)
    for number in range(steps_per_epoch(len(order), batch_size=batch_size)):
        chosen = order[number * batch_size : (number + 1) * batch_size]
        images = [
            augmentation(_shrunk(pixels[row], size_px), seed=seed_for(seed, epoch, int(row)))
            for row in chosen
        ]
        yield np.stack(images), chosen


def _shrunk(image: Image, size_px: int | None) -> Image:
    if size_px is None:
        return image
    shrunk: Image = cv2.resize(image, (size_px, size_px), interpolation=cv2.INTER_AREA)
    return shrunk


def plain_batches(
    pixels: Pixels, *, rows: Rows, batch_size: int
) -> Iterator[tuple[UInt8[np.ndarray, "batch height width 3"], Int64[np.ndarray, " batch"]]]:
    """Every row once, in order, as it is.

    Yields:
        The images and their rows.
    """
    for start in range(0, len(rows), batch_size):
        chosen = rows[start : start + batch_size]
        yield np.asarray(pixels[chosen]), chosen
