"""Pictures as ``data:`` URIs, so that the report needs no other file."""

import base64
import io
from pathlib import Path

from PIL import Image

from fgpipe.images.files import read_reduced

THUMBNAIL_PX = 160
"""Longest side of a thumbnail: twice what the page shows it at, for dense screens."""


def data_uri(content: bytes, *, mime_type: str) -> str:
    """A URI that holds the content itself."""
    return f"data:{mime_type};base64,{base64.b64encode(content).decode()}"


def thumbnail_uri(path: Path, *, side_px: int = THUMBNAIL_PX) -> str:
    """A small JPEG of an image file.

    Args:
        path: The file.
        side_px: Longest side of the result.

    Raises:
        DataError: If it does not decode.
    """
    return picture_uri(read_reduced(path, name=str(path), side_px=side_px), side_px=side_px)


def picture_uri(image: Image.Image, *, side_px: int = THUMBNAIL_PX) -> str:
    """A small JPEG of a picture.

    Args:
        image: Made smaller in place.
        side_px: Longest side of the result.
    """
    image.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=80, optimize=True)
    return data_uri(buffer.getvalue(), mime_type="image/jpeg")
