import json

import cv2
import numpy as np
import pytest

from fgpipe.errors import ConfigError
from fgpipe.images.transforms import Preprocessing, augmentation

IMAGE = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)


def preprocessing(**changes: object) -> Preprocessing:
    options = {"image_size_px": 48, "color_space": "rgb", "resize": "letterbox"} | changes
    return Preprocessing.from_config(**options)


def test_letterbox_keeps_the_aspect_ratio_and_pads_with_black() -> None:
    square = preprocessing()(IMAGE)

    assert square.shape == (48, 48, 3)
    assert square.dtype == np.uint8
    assert not square[:8].any()
    assert not square[40:].any()
    assert np.array_equal(square[8:40], cv2.resize(IMAGE, (48, 32), interpolation=cv2.INTER_AREA))


def test_squash_fills_the_square() -> None:
    square = preprocessing(resize="squash")(IMAGE)

    assert np.array_equal(square, cv2.resize(IMAGE, (48, 48), interpolation=cv2.INTER_AREA))


def test_gray_is_the_luminance_in_all_channels() -> None:
    square = preprocessing(color_space="gray", resize="squash")(IMAGE)

    assert np.array_equal(square[..., 0], square[..., 1])
    assert np.array_equal(square[..., 0], square[..., 2])
    luminance = preprocessing(resize="squash")(IMAGE) @ np.array([0.299, 0.587, 0.114])
    assert np.abs(square[..., 0] - luminance).max() <= 1.5


@pytest.mark.parametrize("resize", ["letterbox", "squash"])
@pytest.mark.parametrize("color_space", ["rgb", "gray"])
def test_what_is_read_from_json_does_the_same(resize: str, color_space: str) -> None:
    original = preprocessing(resize=resize, color_space=color_space)

    restored = Preprocessing.from_json(original.to_json())

    assert restored.to_json() == original.to_json()
    assert restored.image_size_px == 48
    assert np.array_equal(restored(IMAGE), original(IMAGE))


def test_a_transform_of_another_schema_is_refused() -> None:
    content = json.loads(preprocessing().to_json()) | {"schema_version": 99}

    with pytest.raises(ConfigError, match="schema 99"):
        Preprocessing.from_json(json.dumps(content))


@pytest.mark.parametrize("name", ["flips", "square"])
def test_an_augmentation_is_decided_by_its_seed(name: str) -> None:
    square = preprocessing()(IMAGE)
    augment = augmentation(name)

    first = augment(square, seed=5)
    others = [augment(square, seed=seed) for seed in range(20)]

    assert np.array_equal(augment(square, seed=5), first)
    assert np.array_equal(augmentation(name)(square, seed=5), first)
    assert len({other.tobytes() for other in others}) >= 4
    assert all(other.shape == square.shape for other in others)


def test_flips_are_the_four_mirrorings() -> None:
    square = preprocessing()(IMAGE)
    mirrored = {
        image.tobytes() for image in (square, square[::-1], square[:, ::-1], square[::-1, ::-1])
    }

    drawn = {augmentation("flips")(square, seed=seed).tobytes() for seed in range(60)}

    assert drawn == mirrored


def test_none_changes_nothing() -> None:
    square = preprocessing()(IMAGE)

    assert np.array_equal(augmentation("none")(square, seed=1), square)
