"""The page that shows what training makes of images: augmented, and mixed in pairs."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from fgpipe.report.data_uris import picture_uri
from fgpipe.report.templates import render

PICTURE_PX = 128
"""Longest side of a picture."""

Square = UInt8[np.ndarray, "size size 3"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentedImage:
    """One image."""

    path: str
    """Relative to ``data/raw``."""
    label: str
    """Its class."""
    preprocessed: Square
    """As it is served."""
    versions: tuple[Square, ...]
    """As training sees it, one an epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedImage:
    """Two images in one."""

    labels: tuple[str, str]
    """Theirs."""
    weights: tuple[float, float] | None
    """Of their labels; None where it takes a network to tell."""
    picture: Square
    """What training sees."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentedLook:
    """What the page shows."""

    n_images: int
    """Images that there are."""
    settings: tuple[tuple[str, str], ...]
    """Keys of ``params.yaml`` that decide, with their values."""
    rows: tuple[AugmentedImage, ...]
    """Images shown, class by class."""
    mixed: tuple[MixedImage, ...]
    """Pairs; none where training mixes none."""


def render_augmented(look: AugmentedLook, *, overview: str) -> str:
    """The page.

    Args:
        look: What to show.
        overview: Address of the overview, relative to the page.
    """
    return render("augmented.html.j2", look=look, overview=overview, uri=_uri)


def _uri(square: Square) -> str:
    return picture_uri(Image.fromarray(square), side_px=PICTURE_PX)
