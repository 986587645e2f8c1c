import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fgpipe.images.augmentations import augmentation
from fgpipe.images.batches import plain_batches, seed_for, training_batches
from fgpipe.training.loop import steps_per_epoch

PIXELS = np.random.default_rng(0).integers(0, 256, (50, 8, 8, 3), dtype=np.uint8)


def rows_of(n_rows: int, batch_size: int, *, seed: int = 0, epoch: int = 1) -> list[np.ndarray]:
    batches = training_batches(
        PIXELS,
        rows=np.arange(n_rows),
        batch_size=batch_size,
        augmentation=augmentation("none"),
        seed=seed,
        epoch=epoch,
    )
    return [rows for _, rows in batches]


@given(st.integers(1, 50), st.integers(2, 20))
def test_an_epoch_has_every_row_once_but_for_a_single_left_over(n_rows: int, size: int) -> None:
    batches = rows_of(n_rows, size)

    seen = np.concatenate(batches)
    alone = n_rows > 1 and n_rows % size == 1
    assert len(batches) == steps_per_epoch(n_rows, batch_size=size)
    assert len(set(seen)) == len(seen) == n_rows - alone


def test_order_depends_on_seed_and_epoch_alone() -> None:
    one = np.concatenate(rows_of(50, 8, seed=1, epoch=2))

    assert np.array_equal(one, np.concatenate(rows_of(50, 10, seed=1, epoch=2)))
    assert not np.array_equal(one, np.concatenate(rows_of(50, 8, seed=1, epoch=3)))
    assert not np.array_equal(one, np.concatenate(rows_of(50, 8, seed=2, epoch=2)))


def test_an_images_changes_do_not_depend_on_the_batch_it_is_in() -> None:
    def images(batch_size: int) -> dict[int, bytes]:
        batches = training_batches(
            PIXELS,
            rows=np.arange(50),
            batch_size=batch_size,
            augmentation=augmentation("square"),
            seed=0,
            epoch=1,
        )
        return {
            int(row): image.tobytes()
            for block, rows in batches
            for image, row in zip(block, rows, strict=True)
        }

    assert images(5) == images(10)


def test_plain_batches_are_the_rows_as_they_are() -> None:
    rows = np.array([4, 2, 9])

    blocks = list(plain_batches(PIXELS, rows=rows, batch_size=2))

    assert np.array_equal(np.concatenate([images for images, _ in blocks]), PIXELS[[4, 2, 9]])


def test_seeds_differ_for_different_keys() -> None:
    seeds = {seed_for(a, b, c) for a in range(5) for b in range(5) for c in range(5)}

    assert len(seeds) == 125
