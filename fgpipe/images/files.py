"""Image files: found, read and measured.

:func:`read_image` is what training, evaluation and the endpoint see, so that a stranger's
upload and a training image go through the same lines. :func:`measure` looks at a file
once and gives all that the manifest says about it.
"""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from tqdm import tqdm

from fgpipe.errors import DataError
from fgpipe.images.decoding import (
    JPEG_FORMATS,
    MAX_PIXELS,
    check_whole,
    decode,
    open_image,
    orientation,
)
from fgpipe.images.perceptual_hash import perceptual_hash

EXTENSIONS = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""How an image file's name ends, in lower case."""

MEASURED_SIDE_PX = 256
"""A larger image is measured at a half, quarter or eighth of its size, but not below this."""

THUMBNAIL_PX = 64
"""Side of a thumbnail."""

N_LISTED = 5
"""Most examples that an error message lists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageMeasures:
    """What one look at a file tells."""

    sha256: str
    """Hash of its bytes, in hexadecimal."""
    phash: str
    """Perceptual hash, 16 hexadecimal digits."""
    width_px: int
    """Width, upright."""
    height_px: int
    """Height, upright."""
    channels: int
    """Channels as stored: 1 grey, 2 with alpha, 3 colour or palette, 4 with alpha or CMYK."""
    n_bytes: int
    """Size of the file."""
    brightness: float
    """Mean grey value, 0 black to 1 white."""
    contrast: float
    """Standard deviation of the grey values, 0 to 0.5."""


def list_images(folder: Path) -> list[Path]:
    """Every image file below ``folder``, sorted by path.

    Told by extension; hidden files and hidden folders are passed over.
    """
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent, name) for name in names if is_image_name(name)]
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def is_image_name(name: str) -> bool:
    """Whether a file of that name counts as an image."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in EXTENSIONS  # noqa: PTH122 - a Path for each of a million names is slow


def read_image(
    source: Path | bytes, *, name: str | None = None, max_pixels: int = MAX_PIXELS
) -> UInt8[np.ndarray, "height width 3"]:
    """Decode an image to RGB, upright.

    How grey, palette, alpha and the like become RGB: :mod:`fgpipe.images.decoding`.

    Args:
        source: A file, or its content.
        name: What an error calls it; the path, or "image" for bytes.
        max_pixels: Largest width times height that is decoded.

    Raises:
        DataError: If it cannot be read or does not decode to its end, whatever the bytes.
    """
    name = name or (str(source) if isinstance(source, Path) else "image")
    data = source if isinstance(source, bytes) else _read(source, name=name)
    image = open_image(data, name=name, max_pixels=max_pixels)
    return np.array(decode(image, name=name), dtype=np.uint8)


def measure(path: Path, *, name: str | None = None) -> ImageMeasures:
    """Look at a file once: hashes, size, brightness and contrast.

    Stricter than :func:`read_image`: data with damage that a decoder can pass over are
    refused, because a training image should be what its maker saved.

    Args:
        path: The file.
        name: What an error calls it; the path if not given.

    Raises:
        DataError: If it cannot be read, does not decode to its end, or is damaged.
    """
    name = name or str(path)
    data = _read(path, name=name)
    image = open_image(data, name=name)
    channels = _stored_channels(image)
    width_px, height_px = image.size
    turned = image.format != "TIFF" and orientation(image) > 4
    check_whole(data, name=name, format_=image.format)
    grey = _reduced_grey(image, name=name)
    if turned:
        width_px, height_px = height_px, width_px
    counts = np.array(grey.histogram(), dtype=np.int64)
    values = np.arange(256)
    n, total, squares = counts.sum(), counts @ values, counts @ values**2
    mean = total / n
    variance = max(0.0, squares / n - mean**2)
    return ImageMeasures(
        sha256=hashlib.sha256(data).hexdigest(),
        phash=f"{perceptual_hash(grey):016x}",
        width_px=width_px,
        height_px=height_px,
        channels=channels,
        n_bytes=len(data),
        brightness=round(float(mean) / 255, 6),
        contrast=round(float(variance**0.5) / 255, 6),
    )


def measure_all(
    folder: Path, names: Sequence[str], *, description: str, way_out: str
) -> list[ImageMeasures]:
    """Measure files over all cores, with a progress bar, in the order of ``names``.

    Args:
        folder: Where the files are.
        names: Their paths below it.
        description: What the progress bar says.
        way_out: What an error tells its reader to do.

    Raises:
        DataError: If files are no images or damaged: the first five with reasons, and
            how many there are.
    """

    def one(name: str) -> ImageMeasures | DataError:
        try:
            return measure(folder / name, name=name)
        except DataError as error:
            return error

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(
            tqdm(
                pool.map(one, names), total=len(names), desc=description, unit="image", disable=None
            )
        )
    bad = [result for result in results if isinstance(result, DataError)]
    if bad:
        raise DataError(listed(f"{len(bad)} of {len(names)} images cannot be used", bad, way_out))
    return [result for result in results if isinstance(result, ImageMeasures)]


def thumbnails(folder: Path, names: Sequence[str]) -> UInt8[np.ndarray, "n 64 64"]:
    """Small grey copies, 0 to 255, for comparing images pixel by pixel.

    Args:
        folder: Where the files are.
        names: Their paths below it.

    Raises:
        DataError: If a file does not decode to its end.
    """

    def one(name: str) -> UInt8[np.ndarray, "64 64"]:
        image = open_image(_read(folder / name, name=name), name=name)
        grey = _reduced_grey(image, name=name)
        small = grey.resize((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.LANCZOS)
        return np.asarray(small)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        empty = np.empty((0, THUMBNAIL_PX, THUMBNAIL_PX), dtype=np.uint8)
        return np.stack(list(pool.map(one, names))) if names else empty


def listed(what: str, problems: Sequence[object], way_out: str) -> str:
    """A message that names at most five problems and how to get out of them.

    Args:
        what: What is wrong, with the number of problems in it.
        problems: All of them.
        way_out: What to do.
    """
    lines = [f"{what}:", *(f"  {problem}" for problem in problems[:N_LISTED])]
    if len(problems) > N_LISTED:
        lines.append(f"  and {len(problems) - N_LISTED} more")
    return "\n".join([*lines, way_out])


def _read(path: Path, *, name: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror})") from None


def _stored_channels(image: Image.Image) -> int:
    return 3 if image.mode == "P" else len(image.getbands())


def _reduced_grey(image: Image.Image, *, name: str) -> Image.Image:
    """The image in grey, upright, reduced; a JPEG while it is decoded, which is faster."""
    factor = 1
    while factor < 8 and min(image.size) >= 2 * factor * MEASURED_SIDE_PX:
        factor *= 2
    if image.format in JPEG_FORMATS and image.mode in {"L", "RGB"} and factor > 1:
        image.draft("L", (image.width // factor, image.height // factor))
        return decode(image, name=name, mode="L")
    grey = decode(image, name=name, mode="L")
    return grey.reduce(factor) if factor > 1 else grey
