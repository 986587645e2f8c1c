import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fgpipe.errors import DataError
from fgpipe.report.data_uris import THUMBNAIL_PX, thumbnail_uri


def test_a_thumbnail_is_a_small_jpeg_of_the_same_shape(tmp_path: Path) -> None:
    path = tmp_path / "wide.png"
    Image.fromarray(np.full((300, 900, 3), (200, 30, 40), dtype=np.uint8)).save(path)

    uri = thumbnail_uri(path)

    head, content = uri.split(",", maxsplit=1)
    assert head == "data:image/jpeg;base64"
    image = Image.open(io.BytesIO(base64.b64decode(content)))
    assert image.format == "JPEG"
    assert image.size == (THUMBNAIL_PX, round(THUMBNAIL_PX / 3))
    assert np.abs(np.asarray(image).mean(axis=(0, 1)) - (200, 30, 40)).max() < 5


@pytest.mark.parametrize("width", [400, 1600])
def test_a_photo_that_is_decoded_at_a_fraction_looks_the_same(tmp_path: Path, width: int) -> None:
    y, x = np.mgrid[: width * 3 // 4, :width] / width
    pixels = np.stack([250 * x, 330 * y, 140 * (x + y)], axis=2).astype(np.uint8)
    path = tmp_path / "photo.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.fromarray(pixels).save(path, quality=95, exif=exif)

    uri = thumbnail_uri(path, side_px=96)

    small = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    assert small.size == (72, 96)
    whole = Image.fromarray(np.rot90(pixels, k=-1).copy()).resize((72, 96), Image.Resampling.BOX)
    difference = np.asarray(small).astype(float) - np.asarray(whole)
    assert np.abs(difference).mean() < 3


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.png: cannot be read"):
        thumbnail_uri(tmp_path / "gone.png")


def test_a_file_that_is_no_image_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "words.png"
    path.write_text("words")

    with pytest.raises(DataError, match=r"words\.png"):
        thumbnail_uri(path)
