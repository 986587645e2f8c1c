import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from typing import get_args

import cv2
import numpy as np
import pytest

from fgpipe.errors import ConfigError, DataError
from fgpipe.images.labels_file import Box
from fgpipe.images.transforms import Contrast, Preprocessing, Resize

IMAGE = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)


def preprocessing(**changes: object) -> Preprocessing:
    options = {"image_size_px": 48} | changes
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


def test_padding_stays_black_where_contrast_is_equalised() -> None:
    square = preprocessing(contrast="clahe")(IMAGE)

    assert not square[:8].any()
    assert not square[40:].any()


def test_shortest_side_keeps_the_centre() -> None:
    square = preprocessing(resize="shortest_side")(IMAGE)

    centre = IMAGE[:, 15:75]
    assert np.array_equal(square, cv2.resize(centre, (48, 48), interpolation=cv2.INTER_AREA))


def test_shortest_side_of_a_strip_takes_no_memory_to_speak_of() -> None:
    strip = np.full((1, 2_000_000, 3), 7, dtype=np.uint8)

    square = preprocessing(resize="shortest_side", image_size_px=224)(strip)

    assert (square == 7).all()


BOX = Box(left=20, top=10, width=40, height=20)


def test_a_box_is_cut_out_and_then_fitted() -> None:
    square = preprocessing(resize="box")(IMAGE, BOX)

    assert np.array_equal(square, preprocessing()(IMAGE[10:30, 20:60]))


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [
        (BOX, (5, 35), (10, 70)),
        (Box(left=0, top=0, width=10, height=10), (0, 13), (0, 13)),
        (Box(left=80, top=50, width=40, height=40), (40, 60), (70, 90)),
        (Box(left=89, top=59, width=1, height=1), (58, 60), (88, 90)),
        (Box(left=0, top=0, width=10**9, height=10**9), (0, 60), (0, 90)),
        (None, (0, 60), (0, 90)),
    ],
)
def test_a_box_gets_its_margin_as_far_as_the_image_goes(
    box: Box | None, rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    square = preprocessing(resize="box", box_margin=0.25)(IMAGE, box)

    assert np.array_equal(square, preprocessing()(IMAGE[slice(*rows), slice(*columns)]))


@pytest.mark.parametrize(("left", "top"), [(90, 0), (0, 60), (500, 500)])
def test_a_box_outside_the_image_is_refused_where_boxes_are_used(left: int, top: int) -> None:
    box = Box(left=left, top=top, width=5, height=5)

    with pytest.raises(DataError, match=rf"box {left} {top} 5 5 is outside .* 90 x 60 px"):
        preprocessing(resize="box")(IMAGE, box)
    assert np.array_equal(preprocessing()(IMAGE, box), preprocessing()(IMAGE))


def test_clahe_equalises_the_lightness_of_what_was_resized() -> None:
    dull = (IMAGE // 4 + 90).astype(np.uint8)

    square = preprocessing(
        resize="squash", contrast="clahe", clahe_clip_limit=3.0, clahe_grid=4, image_size_px=64
    )(dull)

    lab = cv2.cvtColor(preprocessing(resize="squash", image_size_px=64)(dull), cv2.COLOR_RGB2LAB)
    equaliser = cv2.createCLAHE(clipLimit=3.0, tileGridSize=(4, 4))
    lab[..., 0] = equaliser.apply(np.ascontiguousarray(lab[..., 0]))
    assert np.array_equal(square, cv2.cvtColor(lab, cv2.COLOR_LAB2RGB))
    assert square.std() > 1.5 * preprocessing(resize="squash", image_size_px=64)(dull).std()


COMBINATIONS = list(itertools.product(get_args(Resize), get_args(Contrast)))


@pytest.mark.parametrize(("resize", "contrast"), COMBINATIONS)
def test_what_is_read_from_json_does_the_same(resize: str, contrast: str) -> None:
    original = preprocessing(
        resize=resize,
        box_margin=0.15,
        contrast=contrast,
        clahe_clip_limit=2.5,
        clahe_grid=3,
    )

    restored = Preprocessing.from_json(original.to_json())

    assert restored.to_json() == original.to_json()
    assert restored.image_size_px == 48
    assert restored.uses_box == original.uses_box == (resize == "box")
    for shape in ((60, 90), (1, 1), (1, 300), (301, 2), (48, 48), (7, 5)):
        image = np.ascontiguousarray(np.resize(IMAGE, (*shape, 3)))
        for box in (None, Box(left=0, top=0, width=3, height=40)):
            square = original(image, box)
            assert square.shape == (48, 48, 3)
            assert square.dtype == np.uint8
            assert np.array_equal(restored(image, box), square), (shape, box)


def test_every_option_changes_what_the_network_is_given() -> None:
    squares = {
        preprocessing(resize=resize, contrast=contrast)(IMAGE, BOX).tobytes()
        for resize, contrast in COMBINATIONS
    }

    assert len(squares) == len(COMBINATIONS)


def test_threads_that_share_a_transform_each_get_their_own_image() -> None:
    transform = preprocessing(resize="box", contrast="clahe")
    images = [np.roll(IMAGE, shift, axis=1)[: 20 + shift] for shift in range(30)]
    boxes = [Box(left=shift, top=0, width=10, height=10 + shift) for shift in range(30)]
    expected = [transform(image, box) for image, box in zip(images, boxes, strict=True)]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(transform, images, boxes))

    assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))


RELEASED = """
{"albumentations": {"__version__": "2.0.8", "transform": {"__class_fullname__": "Compose",
"additional_targets": {}, "bbox_params": null, "is_check_shapes": true, "keypoint_params": null,
"p": 1.0, "transforms": [
{"__class_fullname__": "ToGray", "method": "weighted_average", "num_output_channels": 3, "p": 1.0},
{"__class_fullname__": "LongestMaxSize", "area_for_downscale": "image", "interpolation": 1,
"mask_interpolation": 0, "max_size": 48, "max_size_hw": null, "p": 1.0},
{"__class_fullname__": "PadIfNeeded", "border_mode": 0, "fill": 0.0, "fill_mask": 0.0,
"min_height": 48, "min_width": 48, "p": 1.0, "pad_height_divisor": null,
"pad_width_divisor": null, "padding": 0, "position": "center"}]}},
"image_size_px": 48, "schema_version": 2}
"""
"""What version 0.1.0 wrote for gray and letterbox: it converted before the resize."""


def test_a_transform_of_version_0_1_does_what_it_did() -> None:
    square = Preprocessing.from_json(RELEASED)(IMAGE)

    grey = cv2.cvtColor(IMAGE, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (48, 32), interpolation=cv2.INTER_AREA)
    assert np.array_equal(square[8:40], np.repeat(small[..., None], 3, axis=2))


def test_the_default_is_written_as_version_0_1_wrote_it() -> None:
    released = json.loads(RELEASED)
    del released["albumentations"]["transform"]["transforms"][0]

    assert json.loads(preprocessing().to_json()) == released


@pytest.mark.parametrize("schema_version", [1, 2])
def test_a_transform_that_has_a_colour_space_in_it_is_refused(schema_version: int) -> None:
    content = json.loads(preprocessing().to_json()) | {"schema_version": schema_version}
    before = Preprocessing.from_json(json.dumps(content))
    step = {"__class_fullname__": "ToColorSpace", "color_space": "lab", "p": 1.0}
    content["albumentations"]["transform"]["transforms"].append(step)

    assert np.array_equal(before(IMAGE), preprocessing()(IMAGE))
    with pytest.raises(ConfigError, match=r"schema . with a colour space in it, .* `dvc repro`"):
        Preprocessing.from_json(json.dumps(content))


def test_a_transform_of_another_schema_is_refused() -> None:
    content = json.loads(preprocessing().to_json()) | {"schema_version": 99}

    with pytest.raises(ConfigError, match="schema 99"):
        Preprocessing.from_json(json.dumps(content))
