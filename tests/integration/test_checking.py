"""Looks that drift, and Great Expectations' pages, with the real embedder and checker."""

import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image, ImageFilter

from fgpipe.adapters.gx_checks import GxChecker
from fgpipe.cli import cli
from fgpipe.images.table import read_table
from fgpipe.intake.profiling import write_expectations
from fgpipe.nn.embedder import create_embedder
from fgpipe.pipeline import run_stage
from fgpipe.records import Baseline, Validation
from tests.support.champion import champion
from tests.support.intake import add_folder, import_folder
from tests.support.ports import fake_ports
from tests.support.synthetic import write_class_folders

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a hundred images, its manifest, and no champion."""
    root = tmp_path / "project"
    folder = write_class_folders(tmp_path / "first", n_images_per_label=25)
    import_folder(folder, raw=root / "data" / "raw")
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, root / name)
    (root / "data" / "baseline.json").write_text("null\n")
    run_stage("manifest", root=root, ports=fake_ports(root))
    write_expectations(root / "data" / "expectations.yaml", table=manifest_of(root), force=False)
    return root


def manifest_of(root: Path) -> pd.DataFrame:
    return read_table(root / "data" / "01_manifest" / "payload")


@pytest.mark.parametrize("changed", [False, True])
def test_images_that_look_otherwise_drift_and_like_ones_do_not(
    project: Path, tmp_path: Path, *, changed: bool
) -> None:
    ports = replace(fake_ports(project), checker=GxChecker())
    raw = project / "data" / "raw"
    embedder = create_embedder(None)
    trained_on = champion(manifest_of(project), tmp_path, ports, raw=raw, embedder=embedder)
    Baseline.save(trained_on, project / "data" / "baseline.json")
    more = write_class_folders(tmp_path / "more", n_images_per_label=15, seed=3)
    for path in more.rglob("*.png") if changed else ():
        with Image.open(path) as image:
            image.filter(ImageFilter.CONTOUR).save(path)
    add_folder(more, raw=raw)
    run_stage("manifest", root=project, ports=ports)

    validation = run_stage("validate", root=project, ports=ports)

    assert isinstance(validation, Validation)
    figures = {figure.feature: figure for figure in validation.drift}
    warned = {warning.name for warning in validation.warnings}
    assert (figures["embeddings"].n_then, figures["embeddings"].n_since) == (100, 60)
    assert ("embeddings_drift" in warned) is changed


def test_docs_writes_pages_that_name_every_expectation_and_replaces_nothing(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setenv("FGPIPE_HOME", str(project))

    first = CliRunner().invoke(cli, ["data", "docs"])
    again = CliRunner().invoke(cli, ["data", "docs"])

    assert first.exit_code == 0, first.output
    pages = "".join(path.read_text() for path in (project / "reports" / "gx").rglob("*.html"))
    assert "an image is not blurred" in pages
    assert "the classes are those named here" in pages
    assert "reports/gx is not empty" in str(again.exception)


def test_docs_tells_an_attribute_that_the_data_do_not_have_and_a_folder_that_cannot_be_made(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setenv("FGPIPE_HOME", str(project))

    taken = CliRunner().invoke(cli, ["data", "docs", "params.yaml"])
    with (project / "data" / "expectations.yaml").open("a") as file:
        file.write(
            "  - {name: lit, meaning: known, severity: warn, column: attribute_lamp,\n"
            "      expect: expect_column_values_to_not_be_null}\n"
        )
    unknown = CliRunner().invoke(cli, ["data", "docs"])

    assert str(taken.exception) == "params.yaml cannot be made (File exists)"
    assert "lit is about column attribute_lamp" in str(unknown.exception)
    assert not (project / "reports").exists()


@pytest.mark.parametrize("command", [["profile", "--force"], ["docs"]])
def test_a_manifest_of_other_labels_than_there_are_is_not_looked_at(
    command: list[str], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    labels = project / "data" / "raw" / "labels.csv"
    before = (project / "data" / "expectations.yaml").read_bytes()

    labels.write_text(labels.read_text().replace(",amber_disc", ",jade_disc", 1))
    stale = CliRunner().invoke(cli, ["data", *command])

    assert str(stale.exception).startswith("data/01_manifest is of other images or labels than")
    assert (project / "data" / "expectations.yaml").read_bytes() == before


def test_profile_takes_bounds_from_the_manifest(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)

    result = CliRunner().invoke(cli, ["data", "profile", "--force"])

    assert result.exit_code == 0, result.output
    assert "expectations of 100 images" in result.output
