import csv
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from fgpipe.errors import ConfigError, DataError
from fgpipe.images.table import read_table
from fgpipe.nn.backbones import Backbone
from fgpipe.pipeline import run_stage
from fgpipe.pretraining import loop, probes, run
from fgpipe.pretraining.checkpoint import Progress, save_progress
from fgpipe.pretraining.probes import Probe
from fgpipe.records import Preprocessed, Pretrained, Pretraining, Stored, TrainedModel, file_sha256
from tests.support.params import change_params
from tests.support.ports import fake_ports
from tests.support.real_project import ROOT, environment

pytestmark = pytest.mark.integration  # a training takes seconds

PAYLOAD = Path("data") / "04_pretrain" / "payload"


@pytest.fixture
def ready(project: Path) -> Path:
    for stage in ("manifest", "validate", "preprocess"):
        run_stage(stage, root=project, ports=fake_ports(project))
    return project


def pretrain(root: Path, **values: object) -> Pretrained:
    """Run the stage with these parameters."""
    change_params(root, pretrain={"method": "simsiam"} | values)
    record = run_stage("pretrain", root=root, ports=fake_ports(root))
    assert isinstance(record, Pretrained)
    return record


@pytest.fixture
def never_worse(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is learnt is handed on, however few the images."""
    monkeypatch.setattr(probes, "linear_accuracy", lambda *_: 0.5)


def outcome(record: Pretrained) -> Pretraining:
    assert record.pretraining is not None
    return record.pretraining


def contents(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (root / PAYLOAD).iterdir()}


def write_unlabelled(root: Path, n_images: int) -> Path:
    """Noise, one of them in a folder; where they are."""
    folder = root / "data" / "unlabelled"
    (folder / "more").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for i in range(n_images):
        pixels = generator.integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / ("more" if i == 0 else "") / f"{i}.png")
    return folder


def test_the_backbone_sees_the_colour_space_that_training_will(
    ready: Path, never_worse: None
) -> None:
    pretrain(ready)
    coloured = contents(ready)
    change_params(ready, preprocess={"color_space": "lab"})
    run_stage("preprocess", root=ready, ports=fake_ports(ready))

    pretrain(ready)

    assert contents(ready)["backbone.safetensors"] != coloured["backbone.safetensors"]


def test_without_a_method_it_does_nothing_and_imports_nothing_for_it(ready: Path) -> None:
    (ready / "dvc.yaml").touch()
    code = (
        "import sys; from fgpipe.cli import cli; cli(['pretrain'], standalone_mode=False); "
        "print([name for name in ('lightly', 'sklearn', 'timm', 'torch') if name in sys.modules])"
    )

    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ready,
        env=environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout.strip() == "[]", done.stderr
    record = Pretrained.load(ready / "data" / "04_pretrain" / "record.json")
    assert record == Pretrained(method="none", pretraining=None)
    columns = b"epoch,loss,spread,effective_rank,neighbour_accuracy\n"
    assert contents(ready) == {"curves.csv": columns}


@pytest.mark.usefixtures("never_worse")
def test_it_leaves_curves_and_what_is_handed_on(ready: Path) -> None:
    record = pretrain(ready)

    done = outcome(record)
    table = read_table(ready / "data" / "01_manifest" / "payload")
    assert record.handed_on
    assert done.reason.endswith("; handed on")
    assert done.n_train_images == (table["split"] == "train").sum()
    assert done.initial_weights == "scratch"
    assert done.resolved.libraries["lightly"] == version("lightly")
    assert set(contents(ready)) == {"backbone.safetensors", "curves.csv", "unlabelled.csv"}
    assert done.weights_sha256 == file_sha256(ready / PAYLOAD / "backbone.safetensors")
    with (ready / PAYLOAD / "curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert [row["loss"] for row in rows] == ["", *(str(c.loss) for c in done.curves[1:])]
    assert not any((ready / ".fgpipe" / "checkpoints").iterdir())


def test_what_is_worse_is_not_handed_on(ready: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def save_and_spoil(path: Path, progress: Progress) -> None:
        progress.kept = {name: torch.zeros_like(value) for name, value in progress.kept.items()}
        save_progress(path, progress)

    monkeypatch.setattr(loop, "save_progress", save_and_spoil)

    record = pretrain(ready)

    done = outcome(record)
    assert not record.handed_on
    assert done.after is not None
    assert done.after.linear_accuracy < done.before.linear_accuracy
    assert done.reason.endswith("refused: training starts from what there was")
    assert done.weights_sha256 is None
    assert set(contents(ready)) == {"curves.csv"}


@pytest.mark.usefixtures("never_worse")
@pytest.mark.parametrize("method", ["simsiam", "dino"])
def test_one_that_was_broken_off_leaves_the_bytes_of_an_undisturbed_one(
    method: str, ready: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_unlabelled(ready, 5)
    undisturbed = pretrain(ready, method=method)
    expected = contents(ready)

    def save_and_break_off(path: Path, progress: Progress) -> None:
        save_progress(path, progress)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_progress", save_and_break_off)
    with pytest.raises(KeyboardInterrupt):
        pretrain(ready, method=method)
    monkeypatch.setattr(loop, "save_progress", save_progress)
    assert not (ready / "data" / "04_pretrain" / "record.json").exists()
    resumed = pretrain(ready, method=method)

    assert resumed == undisturbed
    assert contents(ready) == expected
    assert "backbone.safetensors" in expected


@pytest.mark.usefixtures("never_worse")
def test_images_without_labels_are_learnt_from_but_not_those_of_the_manifest(ready: Path) -> None:
    folder = write_unlabelled(ready, 6)
    table = read_table(ready / "data" / "01_manifest" / "payload")
    held_out = table[table["split"] == "test"].iloc[0]
    source = ready / "data" / "raw" / held_out["path"]
    (folder / f"copy{source.suffix}").write_bytes(source.read_bytes())

    done = outcome(pretrain(ready))

    assert (done.n_unlabelled_images, done.n_left_out) == (6, 1)
    with (ready / PAYLOAD / "unlabelled.csv").open() as file:
        listed = [row["sha256"] for row in csv.DictReader(file)]
    assert listed == sorted(file_sha256(path) for path in folder.rglob("*[0-9].png"))
    assert held_out["sha256"] not in listed


def test_they_change_what_is_learnt_unless_they_are_left_out(ready: Path) -> None:
    alone = outcome(pretrain(ready, epochs=1))
    write_unlabelled(ready, 6)

    with_others = outcome(pretrain(ready, epochs=1))
    without = outcome(pretrain(ready, epochs=1, unlabelled=False))

    assert with_others.n_unlabelled_images == 6
    assert with_others.curves[1].loss != alone.curves[1].loss
    assert without == alone


def test_one_that_cannot_be_read_is_named(ready: Path) -> None:
    folder = write_unlabelled(ready, 2)
    (folder / "broken.png").write_bytes(b"no image")

    with pytest.raises(DataError, match=r"1 of 3 unlabelled images.*\n.*broken\.png"):
        pretrain(ready)


@pytest.mark.usefixtures("never_worse")
def test_training_starts_from_what_was_handed_on(ready: Path) -> None:
    write_unlabelled(ready, 3)
    weights = ready / "weights.safetensors"
    save_file(Backbone("test_resnet").network.state_dict(), weights)
    change_params(ready, train={"weights": str(weights), "backbone_rate": 0.0, "epochs": 1})
    record = pretrain(ready, weights=str(weights))

    trained = run_stage("train", root=ready, ports=fake_ports(ready))

    assert isinstance(trained, TrainedModel)
    assert trained.initial_weights == "simsiam from file weights.safetensors"
    assert trained.pretrained_sha256 == record.sha256()
    kept = load_file(ready / "data" / "05_train" / "payload" / "model.safetensors")
    start = load_file(ready / PAYLOAD / "backbone.safetensors")
    assert all(torch.equal(value, kept[f"backbone.network.{key}"]) for key, value in start.items())
    with (ready / "data" / "05_train" / "payload" / "seen.csv").open() as file:
        beside = [row for row in csv.DictReader(file) if row["split"] == "unlabelled"]
    assert len(beside) == 3
    assert all(row["group"] == row["sha256"] for row in beside)


def test_training_starts_from_its_own_weights_where_nothing_was_handed_on(
    ready: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_params(ready, train={"epochs": 1})
    monkeypatch.setattr(loop, "COLLAPSED_RANK", 1000.0)
    record = pretrain(ready)

    trained = run_stage("train", root=ready, ports=fake_ports(ready))

    assert outcome(record).collapsed
    assert outcome(record).after is None
    assert isinstance(trained, TrainedModel)
    assert trained.initial_weights == "scratch"
    assert trained.pretrained_sha256 is None
    assert "unlabelled" not in (ready / "data" / "05_train" / "payload" / "seen.csv").read_text()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"backbone": "resnet81"}, "timm has no model 'resnet81'"),
        ({"weights": "missing.safetensors"}, "missing.safetensors is neither"),
    ],
)
def test_what_cannot_be_had_is_named(ready: Path, values: dict[str, str], message: str) -> None:
    change_params(ready, train=values)

    with pytest.raises(ConfigError, match=message):
        pretrain(ready, **values)


@pytest.mark.parametrize(
    ("backbone", "views_px", "message"),
    [
        (
            "test_vit",
            40,
            r"pretrain.image_size_px \(40\) must be a multiple of the stride .* \(16\)",
        ),
        ("test_vit_relpos", 32, r"\(32\) must be preprocess.image_size_px \(64\) .* of one size"),
        ("vit_small_patch14_dinov2", 64, r"preprocess.image_size_px \(64\) must be a multiple"),
    ],
)
def test_views_that_the_backbone_does_not_take_are_refused_with_a_size_that_it_takes(
    ready: Path, backbone: str, views_px: int, message: str
) -> None:
    change_params(ready, train={"backbone": backbone})

    with pytest.raises(ConfigError, match=message):
        pretrain(ready, backbone=backbone, image_size_px=views_px)


@pytest.mark.parametrize("backbone", ["seed_cnn", "test_vit_relpos"])
def test_a_backbone_of_one_size_is_pretrained_on_views_of_the_images_size(
    ready: Path, backbone: str
) -> None:
    change_params(ready, train={"backbone": backbone})

    record = pretrain(ready, backbone=backbone, image_size_px=64, epochs=1)

    assert outcome(record).backbone == backbone


def test_a_gpu_that_is_not_there_is_named(ready: Path) -> None:
    with pytest.raises(ConfigError, match=r"pretrain\.device is cuda, but torch sees no GPU"):
        pretrain(ready, device="cuda")


def test_one_image_is_too_few_to_learn_from(ready: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probe = run._probe

    def of_one(table: pd.DataFrame, preprocess: Stored[Preprocessed]) -> Probe:
        found = probe(table, preprocess)
        return replace(found, known=found.known[:1])

    monkeypatch.setattr(run, "_probe", of_one)

    with pytest.raises(DataError, match=r"one image to learn from.*pretrain\.method to none"):
        pretrain(ready)
