"""Preprocessing: what is done to every image, in training and in serving alike.

It is deterministic and travels as JSON inside the bundle, so that what serving does to an
image is what training did. Its steps, in this order:

===========  =============================================================================
crop         to the box and a margin (``box``), or to the central square (``shortest_side``)
resize       averaging over pixels where it shrinks, interpolating where it enlarges
contrast     CLAHE on the lightness, after the resize: its cost and its tiles do not depend
             on how large the photo was; before the padding, which it would tint
pad          with black (``letterbox``, ``box``)
===========  =============================================================================

The result is RGB; a colour space is the network's own (:mod:`fgpipe.nn.pixel_input`).
"""

import json
import warnings
from typing import Any, Literal, Self

import albumentations as A  # noqa: N812 - the name its users know
import cv2
import numpy as np
from jaxtyping import UInt8

from fgpipe.errors import ConfigError
from fgpipe.images.boxes import Region, box_region
from fgpipe.images.labels_file import Box

SCHEMA_VERSION = 2
"""In 1 and in some of 2 the colour space was a step; what has one other than gray is refused."""

Resize = Literal["letterbox", "shortest_side", "squash", "box"]
Contrast = Literal["none", "clahe"]

Image = UInt8[np.ndarray, "height width 3"]
Square = UInt8[np.ndarray, "size size 3"]


class CropToBox(A.ImageOnlyTransform):  # type: ignore[misc] # albumentations is untyped here
    """Keep the box that comes with an image, and a margin; all of it where none comes."""

    class InitSchema(A.ImageOnlyTransform.InitSchema):  # type: ignore[misc]
        """What albumentations checks arguments against."""

        margin: float

    def __init__(self, margin: float = 0.0, p: float = 1.0) -> None:
        super().__init__(p=p)
        self.margin = margin

    @property
    def targets_as_params(self) -> list[str]:
        """What is read beside the image."""
        return ["box"]

    def get_params_dependent_on_data(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Region]:
        """Where to cut."""
        return {"region": box_region(data["box"], shape=params["shape"], margin=self.margin)}

    def apply(self, img: Image, region: Region, **_: object) -> Image:
        """Cut."""
        return img[region]


class CropToSquare(A.ImageOnlyTransform):  # type: ignore[misc] # albumentations is untyped here
    """Keep the largest square in the centre.

    Before the resize, not after it: a strip of one pixel's height, resized by its shortest
    side, would take gigabytes.
    """

    def __init__(self, p: float = 1.0) -> None:
        super().__init__(p=p)

    def apply(self, img: Image, **_: object) -> Image:
        """Cut."""
        height, width = img.shape[:2]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        return img[top : top + side, left : left + side]


class Preprocessing:
    """From a decoded image to the square array that the network is given."""

    def __init__(self, pipeline: A.Compose, *, image_size_px: int) -> None:
        self.image_size_px = image_size_px
        self.uses_box = any(isinstance(step, CropToBox) for step in pipeline.transforms)
        self._pipeline = pipeline

    @classmethod
    def from_config(
        cls,
        *,
        image_size_px: int,
        resize: Resize = "letterbox",
        box_margin: float = 0.0,
        contrast: Contrast = "none",
        clahe_clip_limit: float = 2.0,
        clahe_grid: int = 8,
    ) -> Self:
        """Assemble the steps.

        Args:
            image_size_px: Height and width of the result.
            resize: ``letterbox`` fits the longest side and pads the other with black;
                ``shortest_side`` fits the shortest and keeps the centre; ``squash``
                stretches both; ``box`` cuts the box out, then does as ``letterbox``.
            box_margin: Under ``box``: kept around it, as a fraction of its sides.
            contrast: ``clahe`` equalises the lightness tile by tile.
            clahe_clip_limit: How steep its curves may be: 1 changes nothing much, 4 is a lot.
            clahe_grid: Tiles along each side.
        """
        kept_aspect = resize in {"letterbox", "box"}
        steps: list[A.BasicTransform] = []
        if resize == "box":
            steps.append(CropToBox(margin=box_margin))
        if resize == "shortest_side":
            steps.append(CropToSquare())
        steps.append(_resized(image_size_px, kept_aspect=kept_aspect))
        if contrast == "clahe":
            limits, grid = (clahe_clip_limit, clahe_clip_limit), (clahe_grid, clahe_grid)
            steps.append(A.CLAHE(clip_limit=limits, tile_grid_size=grid, p=1.0))
        if kept_aspect:
            steps.append(
                A.PadIfNeeded(
                    min_height=image_size_px,
                    min_width=image_size_px,
                    border_mode=cv2.BORDER_CONSTANT,
                    fill=0,
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
        version = content.get("schema_version")
        if version not in {1, SCHEMA_VERSION} or '"color_space"' in text:
            step = " with a colour space in it" if version in {1, SCHEMA_VERSION} else ""
            raise ConfigError(
                f"the transform has schema {version}{step}, this fgpipe reads {SCHEMA_VERSION} "
                "without; `dvc repro` makes it again"
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

    def __call__(self, image: Image, box: Box | None = None) -> Square:
        """Transform one RGB image.

        Args:
            image: As decoded, upright.
            box: Where the object is; used under ``box`` alone, which takes the whole image
                where there is none.

        Raises:
            DataError: If a box that is used is outside the image.
        """
        data: dict[str, Any] = {"image": image}
        if self.uses_box:
            data["box"] = box
        square: Square = self._pipeline(**data)["image"]
        return square


def _resized(image_size_px: int, *, kept_aspect: bool) -> A.BasicTransform:
    how = {"interpolation": cv2.INTER_LINEAR, "area_for_downscale": "image"}
    if kept_aspect:
        return A.LongestMaxSize(max_size=image_size_px, **how)
    return A.Resize(image_size_px, image_size_px, **how)
