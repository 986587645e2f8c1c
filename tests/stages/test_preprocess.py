import itertools
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fgpipe.config import PreprocessConfig
from fgpipe.errors import DataError
from fgpipe.images.files import read_image
from fgpipe.images.labels_file import Box
from fgpipe.images.table import read_table
from fgpipe.images.transforms import Contrast, Preprocessing, Resize
from fgpipe.pipeline import run_stage
from fgpipe.records import SPLITS, Manifest, Preprocessed, Protocol, Split, Stored
from fgpipe.serving.predictor import Predictor
from fgpipe.stages.preprocess import histograms_of, preprocess, statistics_of
from tests.support.ports import fake_ports
from tests.support.tables import stored_manifest
from tests.support.tiny_model import Tiny


def config(**changes: object) -> PreprocessConfig:
    options = {
        "image_size_px": 32,
        "color_space": "rgb",
        "resize": "letterbox",
        "box_margin": 0.1,
        "contrast": "none",
        "clahe_clip_limit": 2.0,
        "clahe_grid": 4,
    }
    return PreprocessConfig.model_validate(options | changes)


@pytest.fixture
def manifest(project: Path) -> Stored[Manifest]:
    record = run_stage("manifest", root=project, ports=fake_ports(project))
    return Stored(record=record, payload=project / "data" / "01_manifest" / "payload")


def run(project: Path, manifest: Stored[Manifest], name: str = "out") -> tuple[Preprocessed, Path]:
    out = project / name
    (out / "payload").mkdir(parents=True)
    record = preprocess(
        raw=project / "data" / "raw",
        manifest=manifest,
        validate=None,
        config=config(),
        out=out,
        ports=fake_ports(project),
    )
    return record, out / "payload"


def test_every_row_of_the_manifest_has_its_image(project: Path, manifest: Stored[Manifest]) -> None:
    record, payload = run(project, manifest)

    pixels = np.load(payload / "images.npy", mmap_mode="r")
    table = read_table(manifest.payload)
    transform = Preprocessing.from_json((payload / "transform.json").read_text())
    assert pixels.shape == (record.n_images, 32, 32, 3) == (len(table), 32, 32, 3)
    for row, path in enumerate(table["path"]):
        expected = transform(read_image(project / "data" / "raw" / path))
        assert np.array_equal(pixels[row], expected), path


def test_the_statistics_are_those_of_the_training_split(
    project: Path, manifest: Stored[Manifest]
) -> None:
    record, payload = run(project, manifest)

    split = read_table(manifest.payload)["split"]
    training = np.load(payload / "images.npy")[split == "train"] / 255
    assert record.channel_mean == pytest.approx(training.mean(axis=(0, 1, 2)), abs=1e-6)
    assert record.channel_std == pytest.approx(training.std(axis=(0, 1, 2)), abs=1e-6)


def test_the_statistics_are_those_of_a_plain_loop() -> None:
    pixels = np.random.default_rng(0).integers(0, 200, (50, 4, 4, 3), dtype=np.uint8)

    mean, std = statistics_of(sum(histograms_of(image) for image in pixels))

    for channel in range(3):
        values = [int(value) / 255 for value in pixels[..., channel].ravel()]
        centre = sum(values) / len(values)
        spread = (sum((value - centre) ** 2 for value in values) / len(values)) ** 0.5
        assert mean[channel] == pytest.approx(centre, abs=1e-6)
        assert std[channel] == pytest.approx(spread, abs=1e-6)


def test_twice_gives_the_same_bytes(project: Path, manifest: Stored[Manifest]) -> None:
    one, payload = run(project, manifest, "one")
    other, again = run(project, manifest, "other")

    assert one == other
    for name in ("images.npy", "transform.json"):
        assert (payload / name).read_bytes() == (again / name).read_bytes()


def test_a_file_that_broke_since_the_manifest_is_named(
    project: Path, manifest: Stored[Manifest]
) -> None:
    path = sorted((project / "data" / "raw" / "images").iterdir())[3]
    path.write_bytes(path.read_bytes()[:200])

    with pytest.raises(DataError, match=path.name):
        run(project, manifest)


SHAPES = ((40, 61), (61, 40), (33, 33), (7, 90), (32, 32))
BOXES = ("3 2 20 11", None, "0 0 33 33", "80 1 30 30", "31 31 1 1")


@pytest.fixture
def odd(tmp_path: Path) -> tuple[Path, Stored[Manifest]]:
    """Five images of odd shapes, four of them with a box, and their manifest."""
    raw = tmp_path / "raw"
    (raw / "images").mkdir(parents=True)
    rows = []
    for index, ((height, width), box) in enumerate(zip(SHAPES, BOXES, strict=True)):
        shape = (height, width, 3)
        pixels = np.random.default_rng(index).integers(0, 256, shape, dtype=np.uint8)
        name = f"images/{index}.{'png' if index % 2 else 'jpg'}"
        Image.fromarray(pixels).save(raw / name)
        split = SPLITS[max(0, index - 1)]
        rows.append({"path": name, "split": split, "box": box})
    return raw, stored_manifest(pd.DataFrame(rows), tmp_path)


def run_odd(
    odd: tuple[Path, Stored[Manifest]], out: Path, config: PreprocessConfig
) -> tuple[Preprocessed, np.ndarray]:
    (out / "payload").mkdir(parents=True)
    record = preprocess(
        raw=odd[0], manifest=odd[1], validate=None, config=config, out=out, ports=None
    )
    return record, np.load(out / "payload" / "images.npy")


COMBINATIONS = list(itertools.product(get_args(Resize), get_args(Contrast)))


def test_the_predictor_is_given_the_very_bytes_that_training_was(
    odd: tuple[Path, Stored[Manifest]], tiny: Tiny, tmp_path: Path
) -> None:
    trained = Predictor.load(tiny.train.payload, precision="f32")

    for number, (resize, contrast) in enumerate(COMBINATIONS):
        chosen = config(resize=resize, contrast=contrast)
        out = tmp_path / str(number)
        _, pixels = run_odd(odd, out, chosen)

        transform = Preprocessing.from_json((out / "payload" / "transform.json").read_text())
        served = Predictor(
            trained._compiled, labels=trained.labels, transform=transform, precision="f32"
        )
        for row, (path, box) in enumerate(
            zip(read_table(odd[1].payload)["path"], BOXES, strict=True)
        ):
            upload = (odd[0] / path).read_bytes()
            prepared = served.prepare(upload, box=Box.parse(box) if box else None)
            assert np.array_equal(prepared, pixels[row]), (resize, contrast, path)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize(
    ("protocol", "way_out"), [("given", "the column `split`"), ("stable", "manifest.fractions")]
)
def test_data_without_an_image_in_a_split_are_refused(
    odd: tuple[Path, Stored[Manifest]],
    tmp_path: Path,
    split: Split,
    protocol: Protocol,
    way_out: str,
) -> None:
    table = read_table(odd[1].payload)
    other = SPLITS[SPLITS.index(split) - 1]
    table["split"] = table["split"].replace(split, other)
    manifest = stored_manifest(table, tmp_path, protocol=protocol)

    with pytest.raises(DataError, match=rf"none of 5 images is in the split {split} .*{way_out}"):
        run_odd((odd[0], manifest), tmp_path / "out", config())

    assert not list((tmp_path / "out" / "payload").iterdir())


def test_images_without_a_box_are_taken_whole_and_counted(
    odd: tuple[Path, Stored[Manifest]], tmp_path: Path
) -> None:
    cut, pixels = run_odd(odd, tmp_path / "cut", config(resize="box"))
    whole, unboxed = run_odd(odd, tmp_path / "whole", config())

    assert (cut.n_without_box, whole.n_without_box) == (1, None)
    assert [np.array_equal(*pair) for pair in zip(pixels, unboxed, strict=True)] == [
        box is None for box in BOXES[:2]
    ] + [True, False, False]


@pytest.mark.parametrize("empty", [True, False])
def test_cutting_boxes_out_of_images_that_have_none_is_refused_with_the_ways_out(
    odd: tuple[Path, Stored[Manifest]],
    tmp_path: Path,
    empty: bool,  # noqa: FBT001 - the parameter of a test
) -> None:
    table = read_table(odd[1].payload)
    table = table.assign(box=None) if empty else table.drop(columns="box")
    manifest = stored_manifest(table, tmp_path)

    with pytest.raises(DataError, match=r"preprocess.resize is box.* column `box`.*letterbox"):
        run_odd((odd[0], manifest), tmp_path / "out", config(resize="box"))

    assert not list((tmp_path / "out" / "payload").iterdir())


def test_a_box_outside_its_image_is_named_with_the_image(
    odd: tuple[Path, Stored[Manifest]], tmp_path: Path
) -> None:
    table = read_table(odd[1].payload)
    table.loc[3, "box"] = "90 0 5 5"
    manifest = stored_manifest(table, tmp_path)

    with pytest.raises(DataError, match=r"images/3.png: box 90 0 5 5 is outside .* 90 x 7 px"):
        run_odd((odd[0], manifest), tmp_path / "out", config(resize="box"))
