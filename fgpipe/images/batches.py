"""Batches of preprocessed images, in an order and with changes that only the seed decides.

The array is memory-mapped: memory does not grow with the number of images. Every image's
augmentation is keyed by seed, epoch, row and how often the epoch has shown that row before,
so that a training that resumes at an epoch sees the very bytes that an undisturbed one sees.
"""

from collections.abc import Iterator

import cv2
import numpy as np
from jaxtyping import Int64, UInt8

from fgpipe.images.augmentations import Augmentation

Rows = Int64[np.ndarray, " rows"]
Targets = Int64[np.ndarray, " images"]
Image = UInt8[np.ndarray, "height width 3"]
Pixels = UInt8[np.ndarray, "images height width 3"]


def seed_for(*keys: int) -> int:
    """A 32-bit seed that is another one for every sequence of keys, zeros at its end aside."""
    return int(np.random.SeedSequence(keys).generate_state(1)[0])


def steps_per_epoch(n_images: int, *, batch_size: int, n_parts: int = 1) -> int:
    """Batches of an epoch; a last one that does not do for two images a part is left out.

    The batch statistics of a single image would be none.
    """
    whole, rest = divmod(n_images, batch_size)
    return max(1, whole + (rest >= 2 * n_parts))


def epoch_order(rows: Rows, *, targets: Targets | None, generator: np.random.Generator) -> Rows:
    """The rows of one epoch, shuffled.

    Args:
        rows: What there is to draw from.
        targets: The class of each row, for every class to be drawn as often as any other, up
            to one: the rows of a class are drawn again only when all of them have been. None
            for each row to be drawn once.
        generator: What decides.

    Returns:
        As many rows as there are.
    """
    if targets is None:
        return generator.permutation(rows)
    classes = generator.permutation(np.unique(targets))
    share, n_more = divmod(len(rows), len(classes))
    drawn = [
        _cycled(rows[targets == target], n=share + (position < n_more), generator=generator)
        for position, target in enumerate(classes)
    ]
    return generator.permutation(np.concatenate(drawn))


def _cycled(rows: Rows, *, n: int, generator: np.random.Generator) -> Rows:
    rounds = [generator.permutation(rows) for _ in range(-(-n // len(rows)))]
    return np.concatenate([rows[:0], *rounds])[:n]


def training_batches(  # noqa: PLR0913 - all that a batch depends on
    pixels: Pixels,
    *,
    rows: Rows,
    batch_size: int,
    augmentation: Augmentation,
    seed: int,
    epoch: int,
    targets: Targets | None = None,
    size_px: int | None = None,
    part: tuple[int, int] = (0, 1),
) -> Iterator[tuple[UInt8[np.ndarray, "batch height width 3"], Int64[np.ndarray, " batch"]]]:
    """One epoch: every row once, or every class as often as any other; shuffled, augmented.

    The last batch is smaller; :func:`steps_per_epoch` says how many there are.

    Args:
        pixels: All images, memory-mapped.
        rows: Which of them to train on.
        batch_size: Images a batch.
        augmentation: Applied to each image.
        seed: Of order and augmentation.
        epoch: From 1; each has its own order and changes.
        targets: The class of every image, for classes to be drawn equally often; see
            :func:`epoch_order`.
        size_px: Side to shrink images to before they are changed; None leaves them.
        part: Which part of each batch to make, from 0, and how many there are; the parts
            together are the batches of one part, image by image.

    Yields:
        The images and their rows.
    """
    order = epoch_order(
        rows,
        targets=None if targets is None else targets[rows],
        generator=np.random.default_rng([seed, epoch]),
    )
    shown = np.zeros(len(pixels), dtype=np.uint32)
    first, n_parts = part
    for number in range(steps_per_epoch(len(order), batch_size=batch_size, n_parts=n_parts)):
        chosen = order[number * batch_size : (number + 1) * batch_size]
        images = []
        for position, row in enumerate(map(int, chosen)):
            if position % n_parts == first:
                key = seed_for(seed, epoch, row, int(shown[row]))
                images.append(augmentation(_shrunk(pixels[row], size_px), seed=key))
            shown[row] += 1
        yield np.stack(images), chosen[first::n_parts]


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
