import colorsys
import itertools
import json
import math
from concurrent.futures import ThreadPoolExecutor
from typing import get_args

import cv2
import numpy as np
import pytest

from fgpipe.errors import ConfigError, DataError
from fgpipe.images.labels_file import Box
from fgpipe.images.transforms import ColorSpace, Contrast, Preprocessing, Resize

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


def test_gray_is_the_luminance_in_all_channels() -> None:
    square = preprocessing(color_space="gray", resize="squash")(IMAGE)

    assert np.array_equal(square[..., 0], square[..., 1])
    assert np.array_equal(square[..., 0], square[..., 2])
    luminance = preprocessing(resize="squash")(IMAGE) @ np.array([0.299, 0.587, 0.114])
    assert np.abs(square[..., 0] - luminance).max() <= 1.5


def by_hand(color_space: str, pixel: tuple[int, int, int]) -> list[float]:
    """One pixel's channels from their definitions, before rounding."""
    red, green, blue = (value / 255 for value in pixel)
    if color_space == "hsv":
        hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
        angle = 2 * math.pi * hue
        plane = [128 + 127 * saturation * part for part in (math.cos(angle), math.sin(angle))]
        return [*plane, 255 * value]
    if color_space == "ycrcb":
        luminance = 0.299 * red + 0.587 * green + 0.114 * blue
        return [
            255 * luminance,
            255 * (red - luminance) * 0.713 + 128,
            255 * (blue - luminance) * 0.564 + 128,
        ]
    linear = [
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in (red, green, blue)
    ]
    weights = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
    white = (0.95047, 1.0, 1.08883)
    x, y, z = (
        sum(w * v for w, v in zip(row, linear, strict=True)) / full
        for row, full in zip(weights, white, strict=True)
    )
    fx, fy, fz = (t ** (1 / 3) if t > 216 / 24389 else t * 841 / 108 + 4 / 29 for t in (x, y, z))
    return [(116 * fy - 16) * 2.55, 500 * (fx - fy) + 128, 200 * (fy - fz) + 128]


@pytest.mark.parametrize("color_space", ["hsv", "lab", "ycrcb"])
def test_a_colour_space_has_the_channels_that_its_definition_gives(color_space: str) -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0), (255, 255, 255), (90, 160, 40)]
    colours += [tuple(colour) for colour in IMAGE.reshape(-1, 3)[:200].tolist()]
    transform = preprocessing(color_space=color_space, image_size_px=32)

    for colour in colours:
        square = transform(np.full((5, 7, 3), colour, dtype=np.uint8))

        difference = np.abs(square[16, 16] - by_hand(color_space, colour))
        assert difference.max() <= 1.6, (colour, square[16, 16], by_hand(color_space, colour))


def test_padding_is_black_in_every_colour_space() -> None:
    for color_space in ("rgb", "gray", "hsv", "lab", "ycrcb"):
        square = preprocessing(color_space=color_space, contrast="clahe")(IMAGE)

        blacks = {"hsv": [128, 128, 0], "lab": [0, 128, 128], "ycrcb": [0, 128, 128]}
        black = blacks.get(color_space, [0, 0, 0])
        assert (square[:8] == black).all(), color_space
        assert (square[40:] == black).all(), color_space


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


COMBINATIONS = list(itertools.product(get_args(ColorSpace), get_args(Resize), get_args(Contrast)))


@pytest.mark.parametrize(("color_space", "resize", "contrast"), COMBINATIONS)
def test_what_is_read_from_json_does_the_same(color_space: str, resize: str, contrast: str) -> None:
    original = preprocessing(
        color_space=color_space,
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
        preprocessing(color_space=color_space, resize=resize, contrast=contrast)(
            IMAGE, BOX
        ).tobytes()
        for color_space, resize, contrast in COMBINATIONS
    }

    assert len(squares) == len(COMBINATIONS)


def test_threads_that_share_a_transform_each_get_their_own_image() -> None:
    transform = preprocessing(resize="box", contrast="clahe", color_space="lab")
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


def test_a_transform_from_before_hsv_changed_is_read_unless_it_has_it() -> None:
    def before(color_space: str) -> str:
        content = json.loads(preprocessing(color_space=color_space).to_json())
        return json.dumps(content | {"schema_version": 1})

    lab = preprocessing(color_space="lab")
    assert np.array_equal(Preprocessing.from_json(before("lab"))(IMAGE), lab(IMAGE))
    with pytest.raises(ConfigError, match=r"schema 1 with another hsv, .* reads 2"):
        Preprocessing.from_json(before("hsv"))


def test_a_transform_of_another_schema_is_refused() -> None:
    content = json.loads(preprocessing().to_json()) | {"schema_version": 99}

    with pytest.raises(ConfigError, match="schema 99"):
        Preprocessing.from_json(json.dumps(content))
