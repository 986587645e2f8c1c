"""The real demo images, from the installed package to the manifest."""

import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fgpipe.config import load_params
from fgpipe.images.files import list_images, measure
from fgpipe.images.table import read_table
from fgpipe.intake.near_search import near_pairs
from fgpipe.intake.reporting import ImportReport
from fgpipe.nn.embedder import create_embedder
from fgpipe.records import SPLITS
from fgpipe.stages.manifest import manifest
from tests.support.intake import import_demo
from tests.support.ports import fake_ports

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    raw = tmp_path_factory.mktemp("elpv") / "raw"
    report = import_demo(raw)
    assert report == ImportReport(
        source="elpv",
        n_images=2624,
        n_labels=4,
        n_groups=44,
        n_repeats=0,
        n_quarantined=0,
        reasons={},
        joined_pairs=(("images/cell2369.png", "images/cell2370.png"),),  # of one module
        licence=report.licence,
        note=report.note,
        already_there=False,
    )
    assert "CC BY-NC-SA 4.0" in str(report)
    assert "reconstructed" in str(report)
    return raw


def test_fetching_again_is_quick_and_writes_nothing(raw: Path) -> None:
    start = time.perf_counter()

    report = import_demo(raw)

    assert report.already_there
    assert time.perf_counter() - start < 5


def test_every_split_holds_every_label_and_about_its_share(raw: Path, tmp_path: Path) -> None:
    config = load_params(ROOT / "params.yaml").manifest
    (tmp_path / "payload").mkdir()

    record = manifest(raw=raw, config=config, out=tmp_path, ports=fake_ports(tmp_path))

    table = read_table(tmp_path / "payload")
    assert {entry.label: sum(entry.n_images.values()) for entry in record.labels} == {
        "defective_sure": 715,
        "defective_unsure": 106,
        "functional_sure": 1508,
        "functional_unsure": 295,
    }
    assert (table.groupby("group")["split"].nunique() == 1).all()
    assert table.groupby("group").size().between(48, 72).all()
    for split in SPLITS:
        share = (table["split"] == split).mean()
        assert share == pytest.approx(config.fractions[split], abs=0.03)
        assert table[table["split"] == split]["label"].nunique() == 4


def test_copies_of_real_cells_are_found_and_no_two_cells_are(raw: Path, tmp_path: Path) -> None:
    cells = [path.relative_to(raw).as_posix() for path in list_images(raw)]
    picked = list(range(0, len(cells), 60))
    (tmp_path / "images").symlink_to(raw / "images")
    copies = []
    for i in picked:
        with Image.open(raw / cells[i]) as image:
            image.save(tmp_path / f"{i}.jpg", quality=75)
            image.resize((150, 150), Image.Resampling.BICUBIC).save(tmp_path / f"{i}.png")
            image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / f"{i}.bmp")
            image.crop((0, 12, 270, 282)).save(tmp_path / f"{i}.tif")
        copies += [f"{i}.jpg", f"{i}.png", f"{i}.bmp", f"{i}.tif"]
    paths = cells + copies
    measures = [measure(tmp_path / path) for path in paths]

    pairs = near_pairs(
        tmp_path, paths=paths, measures=measures, n_known=0, embedder=create_embedder(None)
    )

    of = [*range(len(cells)), *np.repeat(picked, 4).tolist()]
    twins = {(of[pair.i], of[pair.j]) for pair in pairs if of[pair.i] != of[pair.j]}
    assert twins <= {(2368, 2369), (2369, 2368)}
    found = {paths[pair.j] for pair in pairs if pair.i < len(cells)}
    for suffix, share in ((".jpg", 1), (".png", 1), (".bmp", 1), (".tif", 0.95)):
        assert np.mean([f"{i}{suffix}" in found for i in picked]) >= share, suffix
