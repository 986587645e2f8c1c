"""A project like the real one in DVC's eyes, whose stages take no time.

Its ``dvc.yaml`` is the real one but for the commands and the code they depend on; each
stage writes a valid record with figures that follow from ``params.yaml``:

- the model's top-1 is 0.8 with head ``gru`` and 0.7 with ``linear``;
- the gate compares that with ``gate.min_top1``;
- ``train.weights: refuse`` is a user's mistake, ``crash`` a crash.

``ran.txt`` has a line for each stage that ran.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import yaml

from fgpipe.adapters import dvc_runner
from fgpipe.errors import ConfigError
from fgpipe.pipeline import load_record, stage_named
from fgpipe.records import (
    Bundle,
    EpochFigures,
    Evaluation,
    GateCheck,
    GateDecision,
    LabelCount,
    Manifest,
    ModelScores,
    Preprocessed,
    Pretrained,
    RecogniserSpec,
    Record,
    Resolved,
    Score,
    TrainedModel,
    Validation,
)
from fgpipe.serving.bundle import seal_bundle

ROOT = Path(__file__).parents[2]
MODULE = "tests.support.tiny_project"


def environment() -> dict[str, str]:
    """What a shell with the environment activated has, and where this module is."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}


def make_tiny_project(root: Path) -> Path:
    """The project at ``root``, with data added and a first commit; nothing has run."""
    (root / "data" / "raw").mkdir(parents=True)
    (root / "data" / "raw" / "labels.csv").write_text("path,label\nimages/a.png,a\n")
    (root / "data" / "unlabelled").mkdir()
    (root / "data" / "unlabelled" / "README.md").write_text("Images without labels.\n")
    (root / "data" / "baseline.json").write_text("null\n")
    (root / "data" / "expectations.yaml").write_text("schema_version: 1\nexpectations: []\n")
    (root / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    (root / ".dvcignore").write_text((ROOT / ".dvcignore").read_text())
    (root / ".gitignore").write_text("/ran.txt\n/.fgpipe/\n/mlflow.db*\n/mlartifacts/\n")
    content = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    for name, stage in content["stages"].items():
        stage["cmd"] = f"python -m {MODULE} {name}"
        stage["deps"] = [dep for dep in stage["deps"] if dep.startswith("data/")]
    (root / "dvc.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    git("init", "--quiet", root=root)
    dvc_runner.initialise(root)
    dvc_runner.DvcRunner(root).add(Path("data/raw"))
    commit(root, "start")
    return root


def git(*arguments: str, root: Path) -> str:
    """What git answers."""
    who = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    command = ["git", *who, *arguments]
    return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout


def commit(root: Path, message: str) -> None:
    """Commit all that is not ignored."""
    git("add", "--all", root=root)
    git("commit", "--quiet", "--message", message, root=root)


def set_parameter(root: Path, key: str, value: object) -> None:
    """Change ``section.name`` in ``params.yaml``."""
    path = root / "params.yaml"
    content = yaml.safe_load(path.read_text())
    section, name = key.split(".")
    content[section][name] = value
    path.write_text(yaml.safe_dump(content))


def ran(root: Path) -> list[str]:
    """The stages that ran, in order."""
    path = root / "ran.txt"
    return path.read_text().split() if path.exists() else []


def run(name: str, *, root: Path) -> None:
    """Run one stage."""
    with (root / "ran.txt").open("a") as file:
        file.write(f"{name}\n")
    stage = stage_named(name)
    folder = root / stage.folder
    for out in stage.folders:
        shutil.rmtree(folder / out, ignore_errors=True)
        (folder / out).mkdir(parents=True)
    params = yaml.safe_load((root / "params.yaml").read_text())
    record = _record(name, params=params, root=root)
    if isinstance(record, Manifest):
        (folder / "payload" / "manifest.parquet").write_bytes(b"")
    if isinstance(record, TrainedModel):
        rows = [figures.model_dump() for figures in record.curves]
        lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
        (folder / "payload" / "curves.csv").write_text("\n".join(lines) + "\n")
    if isinstance(record, Evaluation):
        (folder / "payload" / "confusion.csv").write_text("actual,predicted\na,a\na,b\nb,b\n")
        reliability = (
            "low,high,n_images,confidence,accuracy\n0.5,0.6,3,0.55,0.5\n0.6,0.7,3,0.65,1\n"
        )
        (folder / "payload" / "reliability.csv").write_text(reliability)
        (folder / "payload" / "report.html").write_text("<title>Report</title>")
    record.save(folder / "record.json")


def _record(name: str, *, params: dict[str, dict[str, object]], root: Path) -> Record:
    makers: dict[str, Callable[[], Record]] = {
        "manifest": manifest,
        "validate": lambda: Validation(
            manifest_sha256="m", verdict="pass", expectations=(), drift_note="none", drift=()
        ),
        "preprocess": preprocessed,
        "pretrain": lambda: Pretrained(method="none", pretraining=None),
        "train": lambda: trained(head=_head(params["train"])),
        "evaluate": lambda: evaluation(load_record(TrainedModel, root=root)),
        "gate": lambda: decision(
            load_record(Evaluation, root=root), floor=float(str(params["gate"]["min_top1"]))
        ),
        "package": lambda: bundle(
            load_record(TrainedModel, root=root),
            payload=root / stage_named("package").folder / "payload",
        ),
    }
    return makers[name]()


def _head(train: dict[str, object]) -> str:
    if train["weights"] == "refuse":
        error = ConfigError("train.weights: 'refuse' is no weights")
        if not dvc_runner.hand_over(error):
            sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
    if train["weights"] == "crash":
        raise RuntimeError("crash as asked")
    return str(train["head"])


def manifest() -> Manifest:
    counts = {"train": 3, "validation": 1, "calibration": 1, "test": 1}
    labels = tuple(LabelCount(label=label, parent=None, n_images=counts) for label in "ab")
    return Manifest(
        protocol="stable",
        n_images=12,
        n_groups=8,
        n_quarantined=0,
        labels=labels,
        attributes={},
        table_sha256="t",
    )


def preprocessed() -> Preprocessed:
    return Preprocessed(
        manifest_sha256="m",
        n_images=12,
        image_size_px=32,
        channel_mean=(0.5, 0.5, 0.5),
        channel_std=(0.2, 0.2, 0.2),
        array_sha256="a",
        transform_sha256="t",
    )


def trained(*, head: str = "linear") -> TrainedModel:
    spec = RecogniserSpec.model_validate(
        {
            "backbone": "tiny",
            "head": head,
            "n_classes": 2,
            "dropout": 0.0,
            "image_size_px": 32,
            "mean": (0.5, 0.5, 0.5),
            "std": (0.5, 0.5, 0.5),
        }
    )
    return TrainedModel(
        manifest_sha256="m",
        preprocessed_sha256="p",
        protocol="stable",
        recogniser=spec,
        labels=("a", "b"),
        parents={},
        resolved=Resolved(device="cpu", precision="fp32", threads=1, libraries={}),
        initial_weights="scratch",
        n_parameters=10,
        best_epoch=2,
        curves=(epoch(1), epoch(2)),
        weights_sha256="w",
        graph_sha256="g",
        graph_max_error=0.0,
    )


def epoch(number: int) -> EpochFigures:
    return EpochFigures(
        epoch=number,
        learning_rate=0.01 / number,
        train_loss=1 / number,
        validation_loss=1.5 / number,
        validation_top1=1 - 0.5 / number,
        validation_macro_recall=1 - 0.6 / number,
        validation_coarse_accuracy=None,
    )


def evaluation(model: TrainedModel) -> Evaluation:
    top1 = 0.8 if model.recogniser.head == "gru" else 0.7
    scores = ModelScores(
        train_sha256=model.sha256(),
        n_images=10,
        n_groups=5,
        top1=_score(top1),
        macro_recall=_score(top1 - 0.1),
        coarse_accuracy=None,
        calibration_error=_score(0.1),
        log_loss=_score(0.5),
        per_class=(),
        slices=(),
    )
    return Evaluation(
        train_sha256=model.sha256(),
        manifest_sha256="m",
        protocol="stable",
        precision="f32",
        temperature=1.0,
        candidate=scores,
        comparison=None,
        comparison_note=None,
        confusion=((1, 1), (0, 1)),
    )


def decision(tested: Evaluation, *, floor: float = 0.6) -> GateDecision:
    top1 = tested.candidate.top1
    passed = top1.value >= floor
    verdict: Literal["passed", "rejected"] = "passed" if passed else "rejected"
    return GateDecision(
        verdict=verdict,
        summary=f"{verdict}: top-1 {top1} against a floor of {floor:g}",
        checks=(GateCheck(name="min_top1", passed=passed, reason=f"{top1} and {floor:g}"),),
        train_sha256=tested.train_sha256,
        evaluation_sha256=tested.sha256(),
        test={"top1": top1, "macro_recall": tested.candidate.macro_recall},
    )


def bundle(model: TrainedModel, *, payload: Path) -> Bundle:
    (payload / "model.onnx").write_bytes(b"")
    description = seal_bundle(
        payload,
        facts={
            "name": "tiny",
            "description": "Takes no time.",
            "license": "Apache-2.0",
            "train_sha256": model.sha256(),
            "protocol": "stable",
            "labels": model.labels,
            "parents": {},
            "image_size_px": 32,
            "precision": "f32",
            "runtime": "none",
        },
    )
    return Bundle(
        bundle_sha256=description.bundle_sha256,
        train_sha256=model.sha256(),
        name="tiny",
        files=description.files,
        n_bytes=0,
    )


def _score(value: float) -> Score:
    return Score(value=value, low=value - 0.05, high=value + 0.05)


if __name__ == "__main__":
    run(sys.argv[1], root=Path())
