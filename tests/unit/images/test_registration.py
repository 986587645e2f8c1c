"""Copies stand out from look-alikes once they cover each other."""

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from fgpipe.images.registration import (
    FINE_PX,
    MIN_WINDOW_CORRELATION,
    Placement,
    WindowSearch,
    registered_similarity,
)
from tests.support.synthetic import LABELS, draw

WHOLE = Placement(0.0, 0.0, 1.0, 1.0, mirrored=False)
PHOTO = Image.fromarray(load_sample_image("china.jpg")).crop((60, 40, 360, 340)).convert("L")


def square(image: Image.Image, side_px: int = FINE_PX) -> np.ndarray:
    small = image.resize((side_px, side_px), Image.Resampling.BICUBIC, reducing_gap=3.0)
    return np.asarray(small.convert("L"))


def cut(left: int, top: int, right: int, bottom: int) -> Image.Image:
    return PHOTO.crop((left, top, right, bottom))


def similarity(one: Image.Image, other: Image.Image, start: Placement = WHOLE) -> float:
    return registered_similarity(square(one), square(other), start, enough=0.998)[0]


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_crop_is_found_where_it_was_cut(*, mirrored: bool) -> None:
    part = cut(20, 9, 20 + 276, 9 + 264)
    if mirrored:
        part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    search = WindowSearch(np.stack([square(PHOTO, 32), square(part, 32)]))

    ((whole, other, correlation, start),) = search.fitting(
        [0], [np.array([1])], min_correlation=MIN_WINDOW_CORRELATION
    )
    alike, place = registered_similarity(square(PHOTO), square(part), start, enough=0.998)

    assert (whole, other) == (0, 1)
    assert correlation > MIN_WINDOW_CORRELATION
    assert alike >= 0.998
    assert place.mirrored == mirrored
    assert not place.is_whole
    np.testing.assert_allclose(place[:4], (9 / 300, 20 / 300, 264 / 300, 276 / 300), atol=0.01)


def test_a_window_fits_as_well_as_the_slow_way_says() -> None:
    part = cut(0, 30, 270, 300)
    search = WindowSearch(np.stack([square(PHOTO, 32), square(part, 32)]))

    ((*_, correlation, start),) = search.fitting([0], [np.array([1])], min_correlation=-1.0)

    assert start == Placement(pytest.approx(0.1), pytest.approx(0), 0.9, 0.9, mirrored=False)
    slow = np.corrcoef(square(part, 8).ravel(), square(cut(0, 30, 270, 300), 8).ravel())[0, 1]
    assert correlation == pytest.approx(slow, abs=0.02)


def test_pictures_that_have_nothing_in_common_are_not_even_roughly_alike() -> None:
    flower = Image.fromarray(load_sample_image("flower.jpg")).crop((150, 60, 450, 360))
    pictures = [PHOTO, cut(30, 30, 300, 300), flower]
    search = WindowSearch(np.stack([square(picture, 32) for picture in pictures]))

    alike = search.roughly_alike(np.array([[0, 1], [0, 2]]))

    assert alike.tolist() == [True, False]


def test_brightness_does_not_part_copies_even_where_it_clips() -> None:
    brighter = PHOTO.point(lambda value: min(255, round(1.3 * value)))
    darker = PHOTO.point(lambda value: round(0.7 * value))

    assert (np.asarray(brighter) == 255).mean() > 0.1
    assert similarity(PHOTO, brighter) >= 0.998
    assert similarity(brighter, PHOTO) >= 0.998
    assert similarity(PHOTO, darker) >= 0.998


def test_a_white_mark_that_only_one_has_parts_them() -> None:
    marked = PHOTO.copy()
    marked.paste(255, (100, 150, 150, 200))

    assert similarity(PHOTO, marked) < 0.99


@pytest.mark.parametrize(("label", "index"), [(LABELS[1], 0), (LABELS[2], 0), (LABELS[0], 1)])
def test_look_alikes_are_not_alike_in_pixels(label: str, index: int) -> None:
    one = Image.fromarray(draw(LABELS[0], group=0, size_px=200))
    other = Image.fromarray(draw(label, group=0, index=index, size_px=200))

    assert similarity(one, other) < 0.99


def test_a_flat_picture_is_like_none() -> None:
    flat = Image.new("L", (300, 300), 90)

    assert similarity(flat, flat) == 0
    assert similarity(PHOTO, flat) == 0


def test_what_is_cut_more_than_is_looked_for_is_not_confirmed() -> None:
    half = cut(0, 0, 150, 150)

    assert similarity(PHOTO, half) < 0.9
