"""Preprocessing and augmentation: the only module that knows albumentations.

Preprocessing is deterministic and travels as JSON inside the bundle, so that what serving
does to an image is what training did. Augmentation is drawn anew for every seed it is
given and depends on nothing else: not on the worker, the batch or what was drawn before.
"""

import json
import random
import warnings
from typing import Literal, Self

import albumentations as A  # noqa: N812 - the name its users know
import cv2
import numpy as np
from jaxtyping import UInt8

from fgpipe.errors import ConfigError

SCHEMA_VERSION = 1

ColorSpace = Literal["rgb", "gray"]
Resize = Literal["letterbox", "squash"]

Image = UInt8[np.ndarray, "height width 3"]
Square = UInt8[np.ndarray, "size size 3"]


class Preprocessing:
    """From a decoded image to the square array that the network is given."""

    def __init__(self, pipeline: A.Compose, *, image_size_px: int) -> None:
        self.image_size_px = image_size_px
        self._pipeline = pipeline

    @classmethod
    def from_config(cls, *, image_size_px: int, color_space: ColorSpace, resize: Resize) -> Self:
        """Assemble the steps.

        Args:
            image_size_px: Height and width of the result.
            color_space: ``gray`` repeats the luminance in all three channels.
            resize: ``letterbox`` fits the longest side and pads the other with black;
                ``squash`` stretches both. Shrinking averages over pixels, enlarging
                interpolates between them.
        """
        steps: list[A.BasicTransform] = []
        if color_space == "gray":
            steps.append(A.ToGray(num_output_channels=3, p=1.0))
        if resize == "letterbox":
            steps += [
                A.LongestMaxSize(
                    max_size=image_size_px,
                    interpolation=cv2.INTER_LINEAR,
                    area_for_downscale="image",
                ),
                A.PadIfNeeded(
                    min_height=image_size_px,
                    min_width=image_size_px,
                    border_mode=cv2.BORDER_CONSTANT,
                    fill=0,
                ),
            ]
        else:
            steps.append(
                A.Resize(
                    image_size_px,
                    image_size_px,
                    interpolation=cv2.INTER_LINEAR,
                    area_for_downscale="image",
                )
            )
        return cls(A.Compose(steps), image_size_px=image_size_px)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what :meth:`to_json` wrote.

        Raises:
            ConfigError: If another version of fgpipe wrote it.
        """
        content = json.loads(text)
        if content.get("schema_version") != SCHEMA_VERSION:
            raise ConfigError(
                f"the transform has schema {content.get('schema_version')}, this fgpipe reads "
                f"{SCHEMA_VERSION}; `dvc repro preprocess` makes it again"
            )
        with warnings.catch_warnings():
            # PadIfNeeded writes an argument `padding` that it does not take.
            warnings.filterwarnings("ignore", message="Argument.*padding.*PadIfNeeded")
            pipeline = A.from_dict(content["albumentations"])
        return cls(pipeline, image_size_px=content["image_size_px"])

    def to_json(self) -> str:
        """The steps as canonical JSON, albumentations' own form inside."""
        content = {
            "schema_version": SCHEMA_VERSION,
            "image_size_px": self.image_size_px,
            "albumentations": A.to_dict(self._pipeline),
        }
        return json.dumps(content, indent=2, sort_keys=True) + "\n"

    def __call__(self, image: Image) -> Square:
        """Transform one RGB image."""
        square: Square = self._pipeline(image=image)["image"]
        return square


class Augmentation:
    """Random changes that leave an image's label as it is."""

    def __init__(self, steps: list[A.BasicTransform]) -> None:
        self._pipeline = A.Compose(steps) if steps else None

    def __call__(self, image: Square, *, seed: int) -> Square:
        """The change that ``seed`` draws, applied to one image; equal seeds, equal bytes."""
        if self._pipeline is None:
            return image
        # One stream for all steps: set_random_seed would give each step the same numbers,
        # so that an image is mirrored along both axes or along none.
        generators = np.random.default_rng(seed), random.Random(seed)  # noqa: S311 - no secret
        self._pipeline.set_random_state(*generators)
        changed: Square = self._pipeline(image=image)["image"]
        return changed


def augmentation(name: Literal["none", "flips", "square"]) -> Augmentation:
    """The augmentation of that name.

    ``flips`` mirrors along both axes. ``square`` draws one of the eight symmetries of the
    square, for things without an up or a left (cells, wafers, lesions), and shifts, scales,
    brightens a little.
    """
    if name == "none":
        return Augmentation([])
    if name == "flips":
        return Augmentation([A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)])
    return Augmentation(
        [
            A.D4(p=1.0),
            A.Affine(
                scale=(0.95, 1.05),
                translate_percent=(-0.04, 0.04),
                border_mode=cv2.BORDER_REFLECT_101,
                p=0.5,
            ),
            A.RandomBrightnessContrast(brightness_limit=0.15, contrast_limit=0.15, p=0.5),
        ]
    )
