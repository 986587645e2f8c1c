from collections import Counter, defaultdict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fgpipe.images.augmentations import augmentation
from fgpipe.images.batches import (
    epoch_order,
    plain_batches,
    seed_for,
    steps_per_epoch,
    training_batches,
)

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


@given(st.lists(st.integers(0, 6), min_size=1, max_size=60), st.integers(0, 2**32 - 1))
def test_a_balanced_epoch_has_each_class_as_often_and_its_rows_in_turn(
    targets: list[int], seed: int
) -> None:
    of = np.array(targets)
    rows = 100 + 3 * np.arange(len(of))

    order = epoch_order(rows, targets=of, generator=np.random.default_rng(seed))

    target_of = dict(zip(rows.tolist(), targets, strict=True))
    per_class = Counter(target_of[row] for row in order.tolist())
    assert len(order) == len(rows)
    drawn = [per_class[target] for target in set(targets)]
    assert max(drawn) - min(drawn) <= 1
    per_row: dict[int, list[int]] = defaultdict(list)
    times = Counter(order.tolist())
    for row, target in target_of.items():
        per_row[target].append(times[row])
    for counts in per_row.values():
        assert max(counts) - min(counts) <= 1, "none twice before each once"


def balanced(batch_size: int, *, seed: int = 0, epoch: int = 1) -> list[tuple[int, bytes]]:
    """Rows and images of an epoch of 45 images of one class and 5 of another."""
    batches = training_batches(
        PIXELS,
        rows=np.arange(50),
        batch_size=batch_size,
        augmentation=augmentation("square"),
        seed=seed,
        epoch=epoch,
        targets=(np.arange(50) >= 45).astype(np.int64),
    )
    return [
        (int(row), image.tobytes())
        for block, rows in batches
        for image, row in zip(block, rows, strict=True)
    ]


def test_a_row_that_is_drawn_again_is_changed_anew() -> None:
    images: dict[int, list[bytes]] = defaultdict(list)
    for row, image in balanced(10):
        images[row].append(image)

    rare = [images[row] for row in range(45, 50)]

    assert [len(each) for each in rare] == [5] * 5
    assert all(len(set(each)) >= 4 for each in rare)


def test_a_balanced_epoch_depends_on_seed_and_epoch_alone() -> None:
    one = balanced(10, seed=1, epoch=2)

    assert one == balanced(25, seed=1, epoch=2)
    assert one != balanced(10, seed=1, epoch=3)
    assert one != balanced(10, seed=2, epoch=2)


def test_rare_and_common_rows_are_mixed_over_the_epoch() -> None:
    is_rare = np.array([row >= 45 for row, _ in balanced(10)])

    assert 5 < is_rare[:25].sum() < 20


def test_of_a_common_class_other_rows_are_left_out_in_other_epochs() -> None:
    seen = [{row for row, _ in balanced(10, epoch=epoch)} for epoch in range(1, 9)]

    assert all(len(rows) == 30 for rows in seen)
    assert set.union(*seen) == set(range(50))


def test_plain_batches_are_the_rows_as_they_are() -> None:
    rows = np.array([4, 2, 9])

    blocks = list(plain_batches(PIXELS, rows=rows, batch_size=2))

    assert np.array_equal(np.concatenate([images for images, _ in blocks]), PIXELS[[4, 2, 9]])


def test_seeds_differ_for_different_keys() -> None:
    seeds = {seed_for(a, b, c) for a in range(5) for b in range(5) for c in range(5)}

    assert len(seeds) == 125
