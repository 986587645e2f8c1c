import colorsys
import math
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import openvino
import pytest
import torch

from fgpipe.nn.pixel_input import PixelInput
from fgpipe.records import ColorSpace

COLOR_SPACES = get_args(ColorSpace)
UNSCALED = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
CORNERS = [(red, green, blue) for red in (0, 255) for green in (0, 255) for blue in (0, 255)]
GREYS = [(level, level, level) for level in range(0, 256, 5)]
IMAGE = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)


def channels(color_space: str, image: np.ndarray, **scale: Any) -> np.ndarray:
    """What the network is given of one image, channels last."""
    pixel_input = PixelInput(color_space=color_space, **(UNSCALED | scale))
    return pixel_input(torch.from_numpy(image)[None])[0].permute(1, 2, 0).numpy()


def by_hand(color_space: str, pixel: tuple[int, int, int]) -> list[float]:
    """One pixel's channels from their definitions."""
    red, green, blue = (value / 255 for value in pixel)
    luminance = 0.299 * red + 0.587 * green + 0.114 * blue
    if color_space == "rgb":
        return [red, green, blue]
    if color_space == "gray":
        return [luminance] * 3
    if color_space == "hsv":
        hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
        angle = 2 * math.pi * hue
        plane = [(1 + saturation * part) / 2 for part in (math.cos(angle), math.sin(angle))]
        return [*plane, value]
    if color_space == "ycrcb":
        return [luminance, (red - luminance) * 0.713 + 0.5, (blue - luminance) * 0.564 + 0.5]
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
    lab = 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)
    return [lab[0] / 100, (lab[1] + 128) / 255, (lab[2] + 128) / 255]


@pytest.mark.parametrize("color_space", COLOR_SPACES)
def test_channels_are_what_their_definitions_give(color_space: str) -> None:
    colours = np.array(CORNERS + GREYS + IMAGE[:5].reshape(-1, 3).tolist(), dtype=np.uint8)

    found = channels(color_space, colours[None])[0]

    expected = [by_hand(color_space, tuple(colour)) for colour in colours.tolist()]
    # CIE's table of weights has four digits, ours seven.
    tolerance = 3e-4 if color_space == "lab" else 1e-6
    assert np.abs(found - expected).max() <= tolerance
    assert -1e-6 <= found.min() <= found.max() <= 1 + 1e-6


def by_opencv(color_space: str, image: np.ndarray) -> np.ndarray:
    floats = image.astype(np.float32) / 255
    if color_space == "gray":
        return np.repeat(cv2.cvtColor(floats, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    if color_space == "ycrcb":
        return cv2.cvtColor(floats, cv2.COLOR_RGB2YCrCb)
    if color_space == "lab":
        lab = cv2.cvtColor(floats, cv2.COLOR_RGB2LAB)
        return (lab + np.array([0, 128, 128])) / [100, 255, 255]
    degrees, saturation, value = cv2.split(cv2.cvtColor(floats, cv2.COLOR_RGB2HSV))
    plane = cv2.polarToCart(saturation, degrees, angleInDegrees=True)
    return np.stack([*((1 + part) / 2 for part in plane), value], axis=-1)


@pytest.mark.parametrize("color_space", ["gray", "hsv", "lab", "ycrcb"])
def test_channels_are_opencvs(color_space: str) -> None:
    difference = np.abs(channels(color_space, IMAGE) - by_opencv(color_space, IMAGE))

    # OpenCV interpolates the curves of L*a*b*, and has other last digits.
    assert difference.max() <= 5e-3
    assert difference.mean() <= 5e-4


def test_normalisation_comes_after_the_colour_space() -> None:
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)

    found = channels("hsv", IMAGE, mean=mean, std=std)

    assert np.allclose(found, (channels("hsv", IMAGE) - mean) / std, atol=1e-6)


@pytest.mark.integration  # an export takes seconds
@pytest.mark.filterwarnings("ignore")  # torch's, of its own use of itself
@pytest.mark.parametrize("color_space", COLOR_SPACES)
def test_the_exported_node_does_what_torch_does(color_space: str, tmp_path: Path) -> None:
    pixel_input = PixelInput(color_space=color_space, **UNSCALED).eval()
    torch.onnx.export(
        pixel_input,
        (torch.zeros(2, 8, 8, 3, dtype=torch.uint8),),
        tmp_path / "node.onnx",
        dynamo=True,
        verbose=False,
    )
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(tmp_path / "node.onnx", "CPU", options)
    images = torch.from_numpy(IMAGE[:48, :80].reshape(-1, 2, 8, 8, 3))

    for pair in images:
        (found,) = compiled([pair.numpy()]).values()
        assert np.allclose(found, pixel_input(pair).numpy(), atol=1e-5)
