import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch._dynamo.utils import counters

from fgpipe.config import load_params
from fgpipe.errors import ConfigError, ParityError, UnavailableError
from fgpipe.images import table as table_module
from fgpipe.images.recolouring import without_color
from fgpipe.images.table import read_table
from fgpipe.nn.losses import create_criterion
from fgpipe.nn.recogniser import build
from fgpipe.pipeline import run_stage
from fgpipe.records import EpochFigures, RecogniserSpec, TrainedModel, file_sha256
from fgpipe.serving.predictor import Predictor
from fgpipe.stages import train as train_module
from fgpipe.training import hardware
from fgpipe.training.recipe import Examples
from tests.adapters.tracker import FakeTracker
from tests.support.params import change_params
from tests.support.ports import fake_ports

pytestmark = pytest.mark.integration  # an export takes seconds

PAYLOAD = Path("data") / "05_train" / "payload"
FILES = {
    "model.safetensors",
    "model.onnx",
    "recogniser.json",
    "transform.json",
    "labels.json",
    "seen.csv",
    "data.csv",
    "curves.csv",
}


@pytest.fixture
def ready(project: Path) -> Path:
    for stage in ("manifest", "validate", "preprocess", "pretrain"):
        run_stage(stage, root=project, ports=fake_ports(project))
    return project


def test_it_leaves_all_that_evaluation_and_bundle_need(
    ready: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_module, "ROWS_A_PART", 5)
    ports = fake_ports(ready)

    record = run_stage("train", root=ready, ports=ports)

    assert isinstance(record, TrainedModel)
    payload = ready / PAYLOAD
    assert {path.name for path in payload.iterdir()} == FILES
    assert record.weights_sha256 == file_sha256(payload / "model.safetensors")
    assert record.graph_sha256 == file_sha256(payload / "model.onnx")
    assert json.loads((payload / "labels.json").read_text())["labels"] == list(record.labels)
    assert len(record.curves) == 2
    assert record.graph_max_error < 1e-3
    with (payload / "seen.csv").open() as file:
        seen = list(csv.DictReader(file))
    table = read_table(ready / "data" / "01_manifest" / "payload")
    expected = table[table["split"].isin(["train", "validation"])]
    assert seen == expected[["sha256", "group", "split"]].to_dict("records")
    with (payload / "data.csv").open() as file:
        rows = [(row["sha256"], row["label"]) for row in csv.DictReader(file)]
    assert rows == list(zip(table["sha256"], table["label"], strict=True))
    assert not any((ready / ".fgpipe" / "checkpoints").iterdir())


def test_the_run_is_told_of_every_epoch_and_of_the_end(ready: Path) -> None:
    ports = fake_ports(ready)

    record = run_stage("train", root=ready, ports=ports)

    assert isinstance(ports.tracker, FakeTracker)
    (run,) = ports.tracker.runs
    assert tuple(run.epochs.values()) == record.curves
    assert run.trained == record


def test_the_loss_knows_parents_and_how_many_images_of_each_class_are_trained_on(
    project: Path,
) -> None:
    params = load_params(project / "params.yaml").train
    options = {"label_smoothing": 0.1, "logit_adjustment": 1.0, "parent_weight": 0.25}
    examples = Examples(
        pixels=np.zeros((7, 2, 2, 3), dtype=np.uint8),
        targets=np.array([0, 0, 0, 1, 2, 2, 1]),
        n_classes=3,
        parents=np.array([0, 0, 1]),
        train=np.array([0, 1, 2, 3, 4]),
        validation=np.array([5, 6]),
    )
    logits, targets = torch.randn(4, 3), torch.eye(3)[[0, 1, 2, 2]]

    criterion = train_module._criterion(examples, config=params.model_copy(update=options))

    expected = create_criterion(
        class_counts=np.array([3, 1, 1]), parents=np.array([0, 0, 1]), **options
    )
    assert criterion(logits, targets) == expected(logits, targets)


def test_the_graph_is_the_kept_weights(ready: Path) -> None:
    run_stage("train", root=ready, ports=fake_ports(ready))

    payload = ready / PAYLOAD
    spec = RecogniserSpec.model_validate_json((payload / "recogniser.json").read_text())
    network = build(spec, seed=9).eval()
    network.load_state_dict(load_file(payload / "model.safetensors"))
    pixels = np.load(ready / "data" / "03_preprocess" / "payload" / "images.npy")[:20]
    with torch.inference_mode():
        expected = network(torch.from_numpy(pixels)).logits
    logits = Predictor.load(payload, precision="f32").logits(pixels)
    assert np.allclose(logits, expected.numpy(), atol=1e-3)


def test_the_colour_space_is_in_the_graph_and_not_in_the_images(ready: Path) -> None:
    images = ready / "data" / "03_preprocess" / "payload" / "images.npy"
    before = images.read_bytes()
    change_params(ready, preprocess={"color_space": "gray"})
    for stage in ("preprocess", "pretrain", "train"):
        run_stage(stage, root=ready, ports=fake_ports(ready))
    predictor = Predictor.load(ready / PAYLOAD, precision="f32")
    colours = np.load(images)[:8]
    colours[..., 0] //= 2
    greys = np.stack([without_color(image) for image in colours])

    turned = np.ascontiguousarray(colours[..., [1, 2, 0]])

    found, in_grey, otherwise = (predictor.logits(each) for each in (colours, greys, turned))

    assert images.read_bytes() == before
    # A grey of 8 bits is off by half a level.
    assert np.abs(found - in_grey).max() < 0.1 * np.abs(found - otherwise).max()


def test_a_training_broken_off_leaves_the_bytes_of_an_undisturbed_one(ready: Path) -> None:
    undisturbed = run_stage("train", root=ready, ports=fake_ports(ready))
    expected = {path.name: path.read_bytes() for path in (ready / PAYLOAD).iterdir()}
    ports = fake_ports(ready)
    assert isinstance(ports.tracker, FakeTracker)
    ports.tracker.on_epoch = break_off

    with pytest.raises(KeyboardInterrupt):
        run_stage("train", root=ready, ports=ports)
    ports.tracker.on_epoch = None
    resumed = run_stage("train", root=ready, ports=ports)

    assert resumed == undisturbed
    assert {path.name: path.read_bytes() for path in (ready / PAYLOAD).iterdir()} == expected
    assert len(ports.tracker.runs) == 1


def test_a_training_broken_off_is_not_gone_on_with_when_its_augmentation_was_edited(
    ready: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ready)
    change_params(ready, train={"augment": "mine.json"})
    ports = fake_ports(ready)
    assert isinstance(ports.tracker, FakeTracker)

    for share in (0.5, 0.5, 0.4):
        step = {"__class_fullname__": "HorizontalFlip", "p": share}
        (ready / "mine.json").write_text(json.dumps({"transform": step}))
        ports.tracker.on_epoch = break_off
        with pytest.raises(KeyboardInterrupt):
            run_stage("train", root=ready, ports=ports)

    assert len(ports.tracker.runs) == 2, "one for each content of the file"


@pytest.mark.parametrize(
    "values",
    [
        {"augment": "light", "mix": "snapmix", "mix_fraction": 1.0, "sampling": "balanced"},
        {"augment": "trivial", "mix": "cutmix", "erasing": 0.5, "low_size_px": 32},
    ],
)
def test_it_trains_with_all_that_changes_images(ready: Path, values: dict[str, object]) -> None:
    change_params(ready, train=values)

    record = run_stage("train", root=ready, ports=fake_ports(ready))

    assert isinstance(record, TrainedModel)
    assert all(np.isfinite(figures.train_loss) for figures in record.curves)


@pytest.mark.parametrize(
    ("backbone", "values"),
    [
        ("test_vit", {"low_size_px": 32, "finish_epochs": 1}),
        ("test_vit", {"frozen_stages": 0, "layer_decay": 0.7, "checkpoint_activations": True}),
        ("seed_cnn", {}),
        ("test_resnet", {"mid_level": True, "head_epochs": 1}),
    ],
)
def test_it_trains_and_exports_a_backbone_of_another_kind(
    ready: Path, backbone: str, values: dict[str, object]
) -> None:
    change_params(ready, train={"backbone": backbone} | values)

    record = run_stage("train", root=ready, ports=fake_ports(ready))

    assert isinstance(record, TrainedModel)
    assert record.recogniser.backbone == backbone
    assert record.graph_max_error < 1e-3


def test_recomputed_activations_leave_the_same_weights(ready: Path) -> None:
    change_params(ready, train={"precision": "fp32"})
    kept = run_stage("train", root=ready, ports=fake_ports(ready))
    change_params(ready, train={"checkpoint_activations": True})

    recomputed = run_stage("train", root=ready, ports=fake_ports(ready))

    assert isinstance(kept, TrainedModel)
    assert recomputed == kept


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles with it")
def test_what_torch_compiled_learns_the_same(ready: Path) -> None:
    change_params(ready, train={"precision": "fp32", "backbone": "seed_cnn"})
    plain = run_stage("train", root=ready, ports=fake_ports(ready))
    change_params(ready, train={"compile": True})
    n_graphs = counters["stats"]["unique_graphs"]

    compiled = run_stage("train", root=ready, ports=fake_ports(ready))

    assert counters["stats"]["unique_graphs"] > n_graphs

    assert isinstance(plain, TrainedModel)
    assert isinstance(compiled, TrainedModel)
    losses = [[figures.train_loss for figures in record.curves] for record in (plain, compiled)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_a_batch_too_small_for_the_processes_that_auto_comes_to_is_refused(
    ready: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "_resolve_processes", lambda *_, **__: 16)

    with pytest.raises(ConfigError, match=r"^train\.batch_size \(16\) must be at least 32"):
        run_stage("train", root=ready, ports=fake_ports(ready))


@pytest.mark.parametrize(
    ("n_train", "n_validation", "message"),
    [(7, 4, r"training split \(7\) .* at least 8 .* \(4\)"), (8, 3, r"validation split \(3\)")],
)
def test_more_processes_than_a_split_has_images_for_are_refused(
    n_train: int, n_validation: int, message: str
) -> None:
    def examples(n_train: int, n_validation: int) -> Examples:
        return Examples(
            pixels=np.zeros((12, 2, 2, 3), dtype=np.uint8),
            targets=np.zeros(12, dtype=np.int64),
            n_classes=1,
            parents=None,
            train=np.arange(n_train),
            validation=np.arange(n_validation),
        )

    train_module._check_shares(examples(8, 4), n_processes=4)
    with pytest.raises(ConfigError, match=message):
        train_module._check_shares(examples(n_train, n_validation), n_processes=4)


def break_off(figures: EpochFigures) -> None:
    raise KeyboardInterrupt


def test_a_graph_that_does_otherwise_than_torch_fails_the_stage(
    ready: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_module, "MAX_GRAPH_ERROR", -1.0)

    with pytest.raises(ParityError, match="differ by"):
        run_stage("train", root=ready, ports=fake_ports(ready))

    assert not (ready / "data" / "05_train" / "record.json").exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"backbone": "resnet81"}, "timm has no model 'resnet81'"),
        (
            {"backbone": "vit_small_patch14_dinov2"},
            r"image_size_px \(64\) must be a multiple of the stride .* \(14\)",
        ),
        (
            {"backbone": "test_vit", "low_size_px": 40, "finish_epochs": 1},
            r"low_size_px \(40\) must be a multiple of the stride .* \(16\)",
        ),
        (
            {"backbone": "seed_cnn", "checkpoint_activations": True},
            "checkpoint_activations: seed_cnn keeps its activations",
        ),
        ({"backbone": "test_vit", "mid_level": True}, "mid_level: test_vit has no finer map"),
        (
            {"backbone": "seed_cnn", "head": "isqrt"},
            r"train.head \(isqrt\) .* one cell for train.backbone seed_cnn",
        ),
        ({"weights": "missing.safetensors"}, "missing.safetensors is neither"),
        ({"device": "cuda"}, "torch sees no GPU"),
        ({"augment": "mine.json"}, r"train.augment \(mine.json\) does not exist"),
    ],
)
def test_what_cannot_be_had_is_named(ready: Path, values: dict[str, object], message: str) -> None:
    change_params(ready, train=values)

    with pytest.raises(ConfigError, match=message):
        run_stage("train", root=ready, ports=fake_ports(ready))


def test_two_of_the_same_training_do_not_share_its_checkpoints(
    ready: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = []

    def fit(*arguments: object, **named: object) -> object:
        try:
            run_stage("train", root=ready, ports=fake_ports(ready))
        except UnavailableError as error:
            said.append(str(error))
        monkeypatch.undo()
        return real_fit(*arguments, **named)

    real_fit = train_module.fit
    monkeypatch.setattr(train_module, "fit", fit)

    run_stage("train", root=ready, ports=fake_ports(ready))

    assert len(said) == 1
    assert said[0].startswith("another process is at this very training")
    assert not any((ready / ".fgpipe" / "checkpoints").iterdir())
