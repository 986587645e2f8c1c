"""From a file's bytes to pixels, whoever sent them.

Pillow decodes, because its decoders give the same pixels on every CPU, raise when data
end early, and let go of the interpreter lock. What it lets pass is caught here: a PNG
whose checksums are wrong and, where asked for, a JPEG whose middle is damaged, which
only a decoder that treats libjpeg's warnings as errors notices.

================  ======================================================================
stored as         becomes
================  ======================================================================
16-bit grey       8-bit by dividing the full range (65,535) by 257
palette           the palette's colours
alpha             composed over white, which is what a page or a viewer shows behind it
CMYK              RGB without a colour profile
EXIF orientation  applied; unreadable EXIF is ignored
several pictures  the first
32-bit samples    refused: their range is unknown
================  ======================================================================
"""

import contextlib
import io

import numpy as np
import simplejpeg
from PIL import Image

from fgpipe.errors import DataError

FORMATS = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")
"""What is decoded; anything else is refused, whatever its name ends in."""

JPEG_FORMATS = frozenset({"JPEG", "MPO"})
"""What Pillow calls a JPEG; MPO is one with further pictures behind it, as phones save."""

MAX_PIXELS = 80_000_000
"""Largest width times height: a small file can claim to be an image that fills memory."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def open_image(data: bytes, *, name: str, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read the header and refuse what must not be decoded.

    Args:
        data: The file's content.
        name: What an error calls it.
        max_pixels: Largest width times height.

    Raises:
        DataError: If ``data`` is empty, in no format of :data:`FORMATS`, or too large.
    """
    if not data:
        raise DataError(f"{name}: empty file")
    too_large = DataError(f"{name}: more than {max_pixels:,} pixels")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise too_large from None
    except Exception:  # noqa: BLE001 - decoders of foreign bytes raise anything
        raise DataError(f"{name}: not an image ({', '.join(FORMATS)})") from None
    if image.width * image.height > max_pixels:
        raise too_large
    return image


def decode(image: Image.Image, *, name: str, mode: str = "RGB") -> Image.Image:
    """Decode to the end and convert.

    Args:
        image: What :func:`open_image` gave.
        name: What an error calls it.
        mode: ``RGB`` or ``L`` (grey).

    Raises:
        DataError: If the data end early, are damaged, or have 32-bit samples.
    """
    try:
        image.load()
        return _upright(_in_mode(image, mode), image)
    except DataError as error:
        raise DataError(f"{name}: {error}") from None
    except Exception as error:  # noqa: BLE001 - decoders of foreign bytes raise anything
        raise DataError(f"{name}: does not decode to its end ({_reason(error)})") from None


def orientation(image: Image.Image) -> int:
    """EXIF's orientation, 1 (upright) to 8; 1 where it is missing or unreadable."""
    with contextlib.suppress(Exception):
        return int(image.getexif().get(0x0112, 1))
    return 1


def check_whole(data: bytes, *, name: str, format_: str | None) -> None:
    """Look for damage that decoding lets pass.

    Args:
        data: The file's content.
        name: What an error calls it.
        format_: The format Pillow found.

    Raises:
        DataError: If a PNG's checksums are wrong or a JPEG's decoder has warnings.
    """
    try:
        if format_ == "PNG":
            Image.open(io.BytesIO(data), formats=("PNG",)).verify()
        elif format_ in JPEG_FORMATS and simplejpeg.decode_jpeg_header(data)[2] in {
            "Gray",
            "YCbCr",
            "RGB",
        }:
            simplejpeg.decode_jpeg(data, colorspace="GRAY", min_factor=8, strict=True)
    except Exception as error:  # noqa: BLE001 - decoders of foreign bytes raise anything
        raise DataError(f"{name}: damaged ({_reason(error)})") from None


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    if image.mode in {"I", "F"}:
        raise DataError("has 32-bit samples; save it with 8 or 16 bits")
    if image.mode.startswith("I;16"):
        samples = np.asarray(image).astype(np.uint32)
        image = Image.fromarray(((samples + 128) // 257).astype(np.uint8))
    if image.has_transparency_data:
        cut_out = image.convert("RGBA")
        image = Image.new("RGBA", image.size, "white")
        image.alpha_composite(cut_out)
    return image if image.mode == mode else image.convert("RGB").convert(mode)


def _upright(image: Image.Image, original: Image.Image) -> Image.Image:
    turn = _TURNS.get(orientation(original))
    return image if turn is None else image.transpose(turn)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
