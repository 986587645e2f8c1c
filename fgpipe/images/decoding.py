"""From a file's bytes to pixels, whoever sent them.

Pillow decodes, because its decoders give the same pixels on every CPU, raise when data
end early, and let go of the interpreter lock. What it lets pass is caught where an image is
measured (:func:`decode_reduced`): a PNG whose checksums are wrong, and a JPEG whose middle
is damaged, which only a decoder that treats libjpeg's warnings as errors notices.

=====================  =================================================================
stored as              becomes
=====================  =================================================================
16-bit grey            8-bit by dividing the full range (65,535) by 257
16-bit colour          the upper 8 bits
palette                the palette's colours
alpha                  composed over white, which is what a page or a viewer shows behind it
CMYK                   RGB without a colour profile
EXIF orientation       applied; unreadable EXIF is ignored
several pictures       the first (GIF, WebP, PNG, TIFF, the MPO of phones)
32-bit, signed, Lab    refused: what range or colours are meant is unknown
=====================  =================================================================
"""

import contextlib
import io
from typing import NamedTuple

import numpy as np
import simplejpeg
from jaxtyping import UInt8
from PIL import Image

from fgpipe.errors import DataError
from fgpipe.images.sniffing import damaged_format, described

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What is decoded; anything else is refused, whatever its name ends in."""

JPEG_FORMATS = frozenset({"JPEG", "MPO"})
"""What Pillow calls a JPEG; MPO is one with further pictures behind it, as phones save."""

MAX_PIXELS = 80_000_000
"""Largest width times height: a small file can claim to be an image that fills memory."""

_STRICT = {"Gray": "GRAY", "YCbCr": "GRAY", "RGB": "GRAY", "CMYK": "CMYK", "YCCK": "CMYK"}
"""What a JPEG's colours are decoded to when its data are checked."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SWAPPING = frozenset(_TURNS[i] for i in (5, 6, 7, 8))


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
    too_large = _too_large(name, max_pixels)
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise too_large from None
    except Exception:  # noqa: BLE001 - decoders of foreign bytes raise anything
        raise DataError(f"{name}: {_why_not_opened(data)}") from None
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


class Reduced(NamedTuple):
    """A picture of an image that is good enough to measure."""

    grey: UInt8[np.ndarray, "height width"]
    """Upright, reduced."""
    width_px: int
    """Of the whole image, upright."""
    height_px: int
    """Of the whole image, upright."""
    channels: int
    """As stored: 1 grey, 2 with alpha, 3 colour or palette, 4 with alpha or CMYK."""


def decode_reduced(data: bytes, *, name: str, min_side_px: int) -> Reduced:
    """Decode once, to the end and strictly, in grey and reduced.

    A JPEG is reduced while it is decoded: every coefficient is read, but fewer pixels are
    made of them, in 0.7 of the time of all its pixels in colour.

    Args:
        data: The file's content.
        name: What an error calls it.
        min_side_px: The image is reduced 2, 4 or 8 times, but its shorter side not below
            this.

    Raises:
        DataError: If it is no whole, undamaged image.
    """
    colours = _jpeg_colours(data)
    if colours is None:
        return _decode_other(data, name=name, min_side_px=min_side_px)
    height, width, colour_space = colours
    if _may_be_turned(data):
        image = open_image(data, name=name)
        width, height = image.size
        turn = _TURNS.get(orientation(image))
    else:
        if width * height > MAX_PIXELS:
            raise _too_large(name, MAX_PIXELS)
        turn = None
    factor = _factor(width, height, min_side_px)
    try:
        pixels = simplejpeg.decode_jpeg(
            data, colorspace="GRAY", min_height=-(-height // factor), min_width=-(-width // factor)
        )
    except Exception as error:  # noqa: BLE001 - decoders of foreign bytes raise anything
        raise DataError(f"{name}: damaged ({_reason(error)})") from None
    grey = pixels[..., 0]
    if turn is not None:
        grey = np.asarray(Image.fromarray(grey).transpose(turn))
        if turn in _SWAPPING:
            width, height = height, width
    return Reduced(grey, width, height, 1 if colour_space == "Gray" else 3)


def _decode_other(data: bytes, *, name: str, min_side_px: int) -> Reduced:
    image = open_image(data, name=name)
    channels = 3 if image.mode == "P" else len(image.getbands())
    _check_whole(data, name=name, format_=image.format)
    grey = decode(image, name=name, mode="L")
    factor = _factor(*grey.size, min_side_px)
    reduced = grey.reduce(factor) if factor > 1 else grey
    return Reduced(np.asarray(reduced), *grey.size, channels)


def _check_whole(data: bytes, *, name: str, format_: str | None) -> None:
    """Look for damage that Pillow's decoding lets pass: checksums, a JPEG's warnings."""
    try:
        if format_ == "PNG":
            Image.open(io.BytesIO(data), formats=("PNG",)).verify()
        elif format_ in JPEG_FORMATS:
            colour_space = simplejpeg.decode_jpeg_header(data)[2]
            simplejpeg.decode_jpeg(data, _STRICT[colour_space], min_height=1, min_width=1)
    except Exception as error:  # noqa: BLE001 - decoders of foreign bytes raise anything
        raise DataError(f"{name}: damaged ({_reason(error)})") from None


def _jpeg_colours(data: bytes) -> tuple[int, int, str] | None:
    """Height, width and colours of a JPEG that decodes to grey directly; else None."""
    if not data.startswith(b"\xff\xd8\xff"):
        return None
    with contextlib.suppress(Exception):
        height, width, colour_space, _ = simplejpeg.decode_jpeg_header(data)
        if _STRICT.get(colour_space) == "GRAY":
            return height, width, colour_space
    return None


def _may_be_turned(data: bytes) -> bool:
    """Whether a JPEG has a segment where EXIF or XMP can say so.

    Walking the segments takes a tenth of the time that Pillow needs to read the header.
    """
    place = 2
    while data[place : place + 1] == b"\xff":
        marker = data[place + 1 : place + 2]
        if marker == b"\xda":
            return False
        if marker == b"\xe1":
            return True
        place += 2 + int.from_bytes(data[place + 2 : place + 4])
    return True


def _factor(width: int, height: int, min_side_px: int) -> int:
    return next((f for f in (8, 4, 2) if min(width, height) >= f * min_side_px), 1)


def _too_large(name: str, max_pixels: int) -> DataError:
    return DataError(f"{name}: more than {max_pixels:,} pixels")


def _why_not_opened(data: bytes) -> str:
    format_ = damaged_format(data)
    if format_ is not None:
        return f"damaged (the header of this {format_} cannot be read)"
    what = described(data)
    return f"not an image ({', '.join(FORMATS)})" + (f" but {what}" if what else "")


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    if image.mode in {"I", "F"} and image.format != "PPM":
        raise DataError("has signed or 32-bit samples; save it with 8 or 16 bits")
    if image.mode == "LAB":
        raise DataError("has Lab colours; save it as RGB")
    if image.mode.startswith("I"):  # PPM's 16 bits come as I, scaled to the full range
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
