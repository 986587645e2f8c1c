import numpy as np
import pytest

from fgpipe.images.views import view_augmentation, view_batches

IMAGES = np.random.default_rng(0).integers(0, 256, (10, 40, 40, 3), dtype=np.uint8)

PLAIN = {"size_px": 32, "min_scale": 0.3, "jitter": 0.0, "blur": 0.0}


def batches(images: np.ndarray = IMAGES, *, epoch: int = 1, batch_size: int = 4) -> list:
    augmentation = view_augmentation(size_px=32, min_scale=0.3, jitter=0.4, blur=0.5)
    return list(
        view_batches(images, batch_size=batch_size, augmentation=augmentation, seed=3, epoch=epoch)
    )


def joined(found: list) -> tuple[np.ndarray, np.ndarray]:
    return tuple(np.concatenate([pair[view] for pair in found]) for view in (0, 1))


def as_set(views: np.ndarray) -> set[bytes]:
    return {view.tobytes() for view in views}


def test_an_epoch_shows_every_image_once_in_two_views() -> None:
    first, second = joined(batches())

    assert first.shape == second.shape == (10, 32, 32, 3)
    assert len(as_set(first) | as_set(second)) == 20


def test_both_views_in_a_place_are_of_one_image() -> None:
    shades = np.arange(0, 250, 25, dtype=np.uint8)
    plain = np.ones((10, 40, 40, 3), dtype=np.uint8) * shades[:, None, None, None]
    augmentation = view_augmentation(**PLAIN)

    found = view_batches(plain, batch_size=4, augmentation=augmentation, seed=3, epoch=1)

    first, second = joined(list(found))
    assert np.array_equal(first, second)
    assert sorted(first[:, 0, 0, 0]) == shades.tolist()
    assert first[:, 0, 0, 0].tolist() != shades.tolist()


def test_equal_keys_give_equal_bytes_and_another_epoch_others() -> None:
    one, again, other = joined(batches()), joined(batches()), joined(batches(epoch=2))

    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
    assert not as_set(one[0]) & as_set(other[0])


def test_a_view_does_not_depend_on_the_size_of_batches() -> None:
    small, large = joined(batches(batch_size=2)), joined(batches(batch_size=10))

    assert all(np.array_equal(a, b) for a, b in zip(small, large, strict=True))


def test_a_last_batch_of_one_image_is_left_out() -> None:
    assert [len(first) for first, _ in batches(batch_size=3)] == [3, 3, 3]


@pytest.mark.parametrize(("changed", "value"), [("jitter", 0.8), ("blur", 1.0)])
def test_jitter_and_blur_change_views_and_are_left_out_at_0(changed: str, value: float) -> None:
    options = PLAIN | {"size_px": 224}  # a blur of 2 px there is none at 32
    plain, other = view_augmentation(**options), view_augmentation(**options | {changed: value})

    n_equal = sum(
        np.array_equal(plain(image, seed=5 + i), other(image, seed=5 + i))
        for i, image in enumerate(IMAGES)
    )

    assert n_equal < 5
