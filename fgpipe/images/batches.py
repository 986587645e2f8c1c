"""Batches of preprocessed images, in an order and with changes that only the seed decides.

The array is memory-mapped: memory does not grow with the number of images. Every image's
augmentation is keyed by seed, epoch and row, so that a training that resumes at an epoch
sees the very bytes that an undisturbed one sees.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int64, UInt8

from fgpipe.images.transforms import Augmentation

Rows = Int64[np.ndarray, " rows"]
Pixels = UInt8[np.ndarray, "images height width 3"]


def seed_for(*keys: int) -> int:
    """A 32-bit seed that is another one for every sequence of keys."""
    return int(np.random.SeedSequence(keys).generate_state(1)[0])


def training_batches(
    pixels: Pixels,
    *,
    rows: Rows,
    batch_size: int,
    augmentation: Augmentation,
    seed: int,
    epoch: int,
) -> Iterator[tuple[UInt8[np.ndarray, "batch height width 3"], Int64[np.ndarray, " batch"]]]:
    """One epoch: every row once, shuffled, augmented.

    The last batch is smaller, and left out only if it would be a single image, whose
    batch statistics are none.

    Args:
        pixels: All images, memory-mapped.
        rows: Which of them to train on.
        batch_size: Images a batch.
        augmentation: Applied to each image.
        seed: Of order and augmentation.
        epoch: From 1; each has its own order and changes.

    Yields:
        The images and their rows.
    """
    order = np.random.default_rng([seed, epoch]).permutation(rows)
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        if len(chosen) == 1 and start > 0:
            return
        images = [augmentation(pixels[row], seed=seed_for(seed, epoch, int(row))) for row in chosen]
        yield np.stack(images), chosen


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
