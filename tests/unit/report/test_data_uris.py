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


def test_a_file_that_is_no_image_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "words.png"
    path.write_text("words")

    with pytest.raises(DataError, match=r"words\.png"):
        thumbnail_uri(path)
