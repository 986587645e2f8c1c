import cv2
import numpy as np
import pytest

from fgpipe.images import recolouring
from fgpipe.images.recolouring import with_turned_hues, without_color


def photo() -> np.ndarray:
    """Soft colours, which stay within what a screen has when their hues are turned."""
    generator = np.random.default_rng(0)
    return generator.integers(100, 156, (20, 30, 3), dtype=np.uint8)


def lab_of(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)


def test_without_color_every_pixel_is_its_luminance() -> None:
    image = photo()

    grey = without_color(image)

    expected = image @ np.array([0.299, 0.587, 0.114])
    for channel in range(3):
        assert np.abs(grey[..., channel] - expected).max() <= 1


def test_turned_hues_are_as_light_and_as_strong_and_a_third_of_the_circle_away() -> None:
    image = photo()

    before, after = lab_of(image), lab_of(with_turned_hues(image))

    strong = np.hypot(before[..., 1], before[..., 2]) > 5
    turn = [np.rad2deg(np.arctan2(lab[..., 2], lab[..., 1])) for lab in (before, after)]
    turned = (turn[1] - turn[0])[strong] % 360
    assert np.abs(before[..., 0] - after[..., 0]).max() < 1
    assert np.abs(turned - 120).max() < 10
    assert strong.sum() > 300


def test_a_large_image_is_turned_in_strips_as_it_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(0).integers(0, 256, (50, 30, 3), dtype=np.uint8)
    whole = with_turned_hues(image)
    monkeypatch.setattr(recolouring, "_PIXELS_AT_ONCE", 7 * 30)

    assert np.array_equal(with_turned_hues(image), whole)


def test_grey_images_stay_as_they_are() -> None:
    grey = without_color(photo())

    assert np.abs(without_color(grey).astype(int) - grey).max() <= 1
    assert np.abs(with_turned_hues(grey).astype(int) - grey).max() <= 1
