"""Image files: found, read and measured.

:func:`read_image` is what training, evaluation and the endpoint see, so that a stranger's
upload and a training image go through the same lines. :func:`measure` looks at a file
once and gives all that the manifest says about it.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from fgpipe.errors import DataError
from fgpipe.images.content import read_below, read_bytes
from fgpipe.images.decoding import JPEG_FORMATS, MAX_PIXELS, decode, decode_reduced, open_image
from fgpipe.images.perceptual_hash import SIDE_PX as HASHED_SIDE_PX
from fgpipe.images.perceptual_hash import perceptual_hashes

EXTENSIONS = frozenset(
    {
        ".bmp",
        ".gif",
        ".jpeg",
        ".jpg",
        ".pbm",
        ".pgm",
        ".png",
        ".pnm",
        ".ppm",
        ".tif",
        ".tiff",
        ".webp",
    }
)
"""How an image file's name ends, in lower case."""

MEASURES_VERSION = 1
"""Rises with every change of what :func:`measure` gives for the same bytes."""

MEASURED_SIDE_PX = 64
"""A larger image is measured at a half, quarter or eighth of its size, but not below this;
its sharpness and hash are those of a square of this side."""

N_LISTED = 5
"""Most examples that an error message lists."""


class ImageMeasures(NamedTuple):
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
    sharpness: float
    """Variance of the Laplacian of the grey values, 0 to 255, squashed to 64 x 64 px (a
    smaller side stays) and smoothed: 200 to 300 for a crisp photo, 110 if it is blurred by
    1 % of its side, 35 by 2 %, 12 by 3 %."""


def list_images(folder: Path, *, without: str | None = None) -> list[Path]:
    """Every image file below ``folder``, sorted by path: see :func:`list_names`."""
    return [folder / name for name in list_names(folder, without=without)]


def list_names(folder: Path, *, without: str | None = None) -> list[str]:
    """Paths below ``folder`` of every image file there, with forward slashes, sorted.

    Told by extension; hidden files and hidden folders are passed over, and so are links to
    folders, which may lead round in a circle. Links to files are files.

    Args:
        folder: Where to look.
        without: Name of a folder right below it that is passed over.

    Raises:
        DataError: If a name is no text in UTF-8, which ``labels.csv`` could not hold.
    """
    found: list[str] = []
    start = len(os.path.join(folder, ""))  # noqa: PTH118 - with the slash at its end
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = parent[start:].replace(os.sep, "/")
        if not below and without in folders:
            folders.remove(without)
        prefix = f"{below}/" if below else ""
        found += [prefix + name for name in names if is_image_name(name)]
    for path in found:
        if not path.isascii():
            _check_text(path)
    return sorted(found)


def _check_text(path: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError:
        raise DataError(
            f"the name of {os.fsencode(path)!r} is not in UTF-8; rename the file or its folder"
        ) from None


def is_image_name(name: str) -> bool:
    """Whether a file of that name counts as an image."""
    _, dot, extension = name.rpartition(".")
    return not name.startswith(".") and (dot + extension).lower() in EXTENSIONS


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
    data = source if isinstance(source, bytes) else read_bytes(source, name=name)
    image = open_image(data, name=name, max_pixels=max_pixels)
    return np.array(decode(image, name=name), dtype=np.uint8)


def read_reduced(path: Path, *, name: str, side_px: int, mode: str = "RGB") -> Image.Image:
    """Decode an image of which only a small copy is wanted.

    A JPEG is decoded at a half, quarter or eighth of its size where that is enough, which
    takes a fraction of the time.

    Args:
        path: The file.
        name: What an error calls it.
        side_px: Longest side of the copy; the result is at least twice as large, if the image is.
        mode: ``RGB`` or ``L`` (grey).

    Raises:
        DataError: If it cannot be read or does not decode to its end.
    """
    image = open_image(read_bytes(path, name=name), name=name)
    if image.format in JPEG_FORMATS and image.mode in {"L", "RGB"}:
        image.draft(mode, (2 * side_px, 2 * side_px))
    return decode(image, name=name, mode=mode)


def measure(path: Path, *, name: str | None = None) -> ImageMeasures:
    """Look at a file once: hashes, size, brightness, contrast and sharpness.

    Stricter than :func:`read_image`: data with damage that a decoder can pass over are
    refused, because a training image should be what its maker saved.

    Args:
        path: The file.
        name: What an error calls it; the path if not given.

    Raises:
        DataError: If it cannot be read, does not decode to its end, or is damaged.

    Source of the sharpness: Pech-Pacheco et al., "Diatom autofocusing in brightfield
    microscopy: a comparative study" (2000). Differs in looking at all images at one size
    and in smoothing by 3 x 3 px first: else the figure depends on how many pixels a camera
    has (of one photo in 15 sizes, the largest is 3.3 times the smallest; so, 1.2 times).
    """
    name = name or str(path)
    data = read_bytes(path, name=name)
    return _hashed([_look_at(data, name=name, sha256=hashlib.sha256(data).hexdigest())])[0]


class _Look(NamedTuple):
    """All of an image's measures but its perceptual hash."""

    values: dict[str, Any]
    square: UInt8[np.ndarray, "32 32"]


def _look_at(data: bytes, *, name: str, sha256: str) -> _Look:
    reduced = decode_reduced(data, name=name, min_side_px=MEASURED_SIDE_PX)
    mean, deviation = cv2.meanStdDev(reduced.grey)
    height, width = reduced.grey.shape
    square = _resized(
        reduced.grey, width=min(width, MEASURED_SIDE_PX), height=min(height, MEASURED_SIDE_PX)
    )
    edges = cv2.Laplacian(cv2.GaussianBlur(square, (3, 3), 0), cv2.CV_16S)
    sharpness = cv2.norm(edges, cv2.NORM_L2SQR) / edges.size - cv2.mean(edges)[0] ** 2
    values = {
        "sha256": sha256,
        "width_px": reduced.width_px,
        "height_px": reduced.height_px,
        "channels": reduced.channels,
        "n_bytes": len(data),
        "brightness": round(float(mean[0, 0]) / 255, 6),
        "contrast": round(float(deviation[0, 0]) / 255, 6),
        "sharpness": round(sharpness, 3),
    }
    return _Look(values, _resized(square, width=HASHED_SIDE_PX, height=HASHED_SIDE_PX))


def _hashed(looks: Sequence[_Look]) -> list[ImageMeasures]:
    """With perceptual hashes: many at a time take a tenth of the time of one by one."""
    if not looks:
        return []
    hashes = perceptual_hashes(np.stack([look.square for look in looks])).tolist()
    return [
        ImageMeasures(phash=f"{phash:016x}", **look.values)
        for look, phash in zip(looks, hashes, strict=True)
    ]


def _resized(
    grey: UInt8[np.ndarray, "old_height old_width"], *, width: int, height: int
) -> UInt8[np.ndarray, "height width"]:
    if grey.shape == (height, width):
        return grey
    # Any faster way depends more on the size of the image: sharpness by 1.5 instead of 1.2.
    resized: UInt8[np.ndarray, "height width"] = cv2.resize(
        grey, (width, height), interpolation=cv2.INTER_AREA
    )
    return resized


def measure_some(folder: Path, names: Sequence[str]) -> list[ImageMeasures | DataError]:
    """Measure a few files, one after the other.

    Args:
        folder: Where the files are.
        names: Their paths below it.

    Returns:
        What each file measures, or why it cannot be used.
    """

    def look(name: str) -> _Look | DataError:
        try:
            data = read_below(folder, name)
            return _look_at(data, name=name, sha256=hashlib.sha256(data).hexdigest())
        except DataError as error:
            return error

    found = [look(name) for name in names]
    hashed = iter(_hashed([each for each in found if isinstance(each, _Look)]))
    return [next(hashed) if isinstance(each, _Look) else each for each in found]


def all_usable(
    results: Sequence[ImageMeasures | DataError], *, way_out: str
) -> list[ImageMeasures]:
    """The measures, if every image can be used.

    Args:
        results: What :func:`measure_all` gave.
        way_out: What an error tells its reader to do.

    Raises:
        DataError: If an image cannot: the first five with reasons, and how many there are.
    """
    bad = [result for result in results if isinstance(result, DataError)]
    if bad:
        raise DataError(listed(f"{len(bad)} of {len(results)} images cannot be used", bad, way_out))
    return [result for result in results if isinstance(result, ImageMeasures)]


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
