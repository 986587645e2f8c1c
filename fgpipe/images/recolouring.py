"""The same picture in other colours, to ask a model how much it goes by them."""

import cv2
import numpy as np
from jaxtyping import UInt8

Image = UInt8[np.ndarray, "height width 3"]

TURNED_DEGREES = 120
"""Far enough that no hue keeps its name: red is green, green blue, blue red."""

_PIXELS_AT_ONCE = 2**18
"""Whose colours are held as float32, several times over."""


def without_color(image: Image) -> Image:
    """An RGB image in grey: the luminance of ITU-R BT.601 in all three channels."""
    grey: Image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return grey


def with_turned_hues(image: Image) -> Image:
    """An RGB image whose hues are turned by :data:`TURNED_DEGREES`, light and shade kept.

    In CIE L*a*b*, not in HSV, where equal values are not equally light: a model that goes by
    light and shade alone sees hardly a change. Colours that no screen has are cut off.
    """
    turned = np.empty_like(image)
    n_rows = max(1, _PIXELS_AT_ONCE // image.shape[1])
    for start in range(0, len(image), n_rows):
        turned[start : start + n_rows] = _turned(image[start : start + n_rows])
    return turned


def _turned(image: Image) -> Image:
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    angle = np.deg2rad(TURNED_DEGREES)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], np.float32)
    lab[..., 1:] = lab[..., 1:] @ turn.T
    rgb = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
    turned: Image = np.rint(rgb.clip(0, 1) * 255).astype(np.uint8)
    return turned
