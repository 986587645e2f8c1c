"""The real demo images, from the installed package to the manifest."""

import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fgpipe.config import load_params
from fgpipe.images.files import list_images, thumbnails
from fgpipe.images.near_duplicates import MIN_CORRELATION, confirmed
from fgpipe.images.table import read_table
from fgpipe.intake import ImportReport, fetch
from fgpipe.records import SPLITS
from fgpipe.stages.manifest import manifest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    raw = tmp_path_factory.mktemp("elpv") / "raw"
    report = fetch("elpv", raw=raw)
    assert report == ImportReport(
        source="elpv",
        n_images=2624,
        n_labels=4,
        n_groups=44,
        n_repeats=0,
        joined_pairs=(),
        licence=report.licence,
        note=report.note,
        already_there=False,
    )
    assert "CC BY-NC-SA 4.0" in str(report)
    assert "reconstructed" in str(report)
    return raw


def test_fetching_again_is_quick_and_writes_nothing(raw: Path) -> None:
    start = time.perf_counter()

    report = fetch("elpv", raw=raw)

    assert report.already_there
    assert time.perf_counter() - start < 5


def test_every_split_holds_every_label_and_about_its_share(raw: Path, tmp_path: Path) -> None:
    config = load_params(ROOT / "params.yaml").manifest
    (tmp_path / "payload").mkdir()

    record = manifest(raw=raw, config=config, out=tmp_path, ports=None)  # type: ignore[arg-type]

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


def test_copies_of_real_cells_are_confirmed_and_no_two_cells_are(raw: Path, tmp_path: Path) -> None:
    names = [path.relative_to(raw).as_posix() for path in list_images(raw)]
    small = thumbnails(raw, names)
    picked = list(range(0, len(names), 60))
    for i in picked:
        with Image.open(raw / names[i]) as image:
            image.save(tmp_path / f"{i}.jpg", quality=75)
            image.resize((150, 150), Image.Resampling.BICUBIC).save(tmp_path / f"{i}.png")

    jpegs = confirmed(small[picked], thumbnails(tmp_path, [f"{i}.jpg" for i in picked]))
    halves = confirmed(small[picked], thumbnails(tmp_path, [f"{i}.png" for i in picked]))

    flat = small.reshape(len(small), -1)
    correlation = np.corrcoef(flat)
    np.fill_diagonal(correlation, 0)
    assert correlation.max() < MIN_CORRELATION - 0.0005
    assert jpegs.mean() > 0.95
    assert halves.mean() > 0.95
