from pathlib import Path

import numpy as np
import pytest

from fgpipe.config import PreprocessConfig
from fgpipe.errors import DataError
from fgpipe.images.files import read_image
from fgpipe.images.table import read_table
from fgpipe.images.transforms import Preprocessing
from fgpipe.pipeline import run_stage
from fgpipe.records import Manifest, Preprocessed, Stored
from fgpipe.stages.preprocess import channel_statistics, preprocess
from tests.support.ports import fake_ports

CONFIG = PreprocessConfig(image_size_px=32, color_space="rgb", resize="letterbox")


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
        config=CONFIG,
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


def test_the_statistics_do_not_depend_on_the_order_of_rows() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (600, 4, 4, 3), dtype=np.uint8)
    rows = np.random.default_rng(1).permutation(600)

    assert channel_statistics(pixels, rows=rows) == channel_statistics(pixels, rows=np.arange(600))


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
