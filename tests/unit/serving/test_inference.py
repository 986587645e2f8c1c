from pathlib import Path

import numpy as np
import pytest

from fgpipe.errors import DataError
from fgpipe.images.files import read_image
from fgpipe.images.labels_file import Box
from fgpipe.images.table import read_table
from fgpipe.images.transforms import Preprocessing
from fgpipe.serving.inference import BATCH_SIZE, logits_of_files
from fgpipe.serving.predictor import Predictor
from tests.support.tiny_model import Tiny, copied


def test_files_in_batches_give_what_each_gives_alone(tiny: Tiny) -> None:
    predictor = Predictor.load(tiny.train.payload, precision="f32")
    names = read_table(tiny.manifest.payload)["path"].tolist()[: 2 * BATCH_SIZE + 3]

    logits = logits_of_files(predictor, names, folder=tiny.raw, description="test")

    alone = [
        predictor.logits(predictor.prepare((tiny.raw / name).read_bytes())[None]) for name in names
    ]
    np.testing.assert_array_equal(logits, np.concatenate(alone))


def test_each_file_is_given_its_own_box(tiny: Tiny, tmp_path: Path) -> None:
    train = copied(tiny.train, tmp_path / "train")
    transform = Preprocessing.from_config(image_size_px=64, resize="box")
    (train.payload / "transform.json").write_text(transform.to_json())
    predictor = Predictor.load(train.payload, precision="f32")
    names = read_table(tiny.manifest.payload)["path"].tolist()[: BATCH_SIZE + 3]
    boxes = [Box(left=n % 9, top=n % 7, width=20 + n, height=30) for n in range(len(names))]
    boxes[4] = None

    logits = logits_of_files(predictor, names, folder=tiny.raw, description="test", boxes=boxes)

    for name, box, row in zip(names, boxes, logits, strict=True):
        image = read_image(tiny.raw / name)
        if box is not None:
            image = image[box.top : box.top + box.height, box.left : box.left + box.width]
        np.testing.assert_array_equal(row, predictor.logits(predictor.preprocess(image)[None])[0])


def test_no_files_are_no_rows(tiny: Tiny) -> None:
    predictor = Predictor.load(tiny.train.payload, precision="f32")

    logits = logits_of_files(predictor, [], folder=tiny.raw, description="test")

    assert logits.shape == (0, 4)


def test_a_file_that_does_not_decode_is_named(tiny: Tiny, tmp_path: Path) -> None:
    predictor = Predictor.load(tiny.train.payload, precision="f32")
    (tmp_path / "broken.png").write_bytes(b"words")

    with pytest.raises(DataError, match=r"^broken\.png"):
        logits_of_files(predictor, ["broken.png"], folder=tmp_path, description="test")


def test_a_file_that_is_gone_is_named(tiny: Tiny, tmp_path: Path) -> None:
    predictor = Predictor.load(tiny.train.payload, precision="f32")

    with pytest.raises(DataError, match=r"^gone\.png"):
        logits_of_files(predictor, ["gone.png"], folder=tmp_path, description="test")
