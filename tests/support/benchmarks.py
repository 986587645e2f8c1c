"""Stages of a benchmark that take no time, and a project for them."""

from pathlib import Path

import yaml

from fgpipe.operations.benchmark_cell import Tools, TrainingSpeed, Usage
from fgpipe.pipeline import STAGES, stage_named
from fgpipe.records import (
    Evaluation,
    LabelCount,
    Manifest,
    Pretrained,
    Score,
    TrainedModel,
    Validation,
)
from tests.support import tiny_project

ROOT = Path(__file__).parents[2]
CONTENT = {"measure": "test_top1", "seeds": 3, "grid": {"train.head": ["linear", "gru"]}}


class KilledError(BaseException):
    """As a signal ends a process, no handler of errors sees it."""


class FakeStages:
    """Runs stages in no time; fulfils ``benchmark_cell.StageRunner``.

    The test split's top-1 is 0.7 with head ``linear`` and 0.8 with another, plus a tenth
    of the training's seed; what stages ``ran`` is kept with the head and seed.
    """

    def __init__(self) -> None:
        self.ran: list[tuple[str, str, int]] = []
        self.errors: dict[tuple[str, str, int], BaseException] = {}
        """What running a stage with that head and seed raises, after a part of its work."""
        self.arrays: list[list[str]] = []
        """Arrays that there are whenever a stage begins."""
        self.params: list[dict[str, dict[str, object]]] = []
        """Parameters of every stage that ran."""
        self.has_parents = False

    def tools(self) -> Tools:
        return Tools(
            run=self,
            training_speed=lambda train_sha256: TrainingSpeed(images_per_s=50, memory_mib=9),
            serving_speed=_serving_speed,
        )

    def __call__(self, stage: str, *, root: Path, log: Path) -> Usage:
        params = yaml.safe_load((root / "params.yaml").read_text())
        head, seed = params["train"]["head"], params["train"]["seed"]
        self.ran.append((stage, head, seed))
        self.params.append(params)
        self.arrays.append(sorted(path.name for path in _arrays(root)))
        folder = root / stage_named(stage).folder
        for out in stage_named(stage).folders:
            (folder / out).mkdir(parents=True, exist_ok=True)
        if error := self.errors.pop((stage, head, seed), None):
            raise error
        for before in STAGES[: STAGES.index(stage_named(stage))]:
            assert (root / before.folder / "record.json").is_file()
        self._make(stage, root=root, params=params)
        return Usage(seconds=10 + seed, memory_mib=100 + seed)

    def _make(self, stage: str, *, root: Path, params: dict[str, dict[str, object]]) -> None:
        folder = root / stage_named(stage).folder
        record: Manifest | Validation | TrainedModel | Evaluation | None = None
        match stage:
            case "manifest":
                record = manifest(params["manifest"], has_parents=self.has_parents)
            case "validate":
                record = Validation(
                    manifest_sha256="m", verdict="pass", expectations=(), drift_note="", drift=()
                )
            case "preprocess":
                (folder / "payload" / "images.npy").write_bytes(b"x")
                tiny_project.preprocessed().save(folder / "record.json")
            case "pretrain":
                record = Pretrained(method="none", pretraining=None)
            case "train":
                for name in ("model.onnx", "labels.json", "transform.json"):
                    (folder / "payload" / name).write_text(name)
                (folder / "payload" / "model.safetensors").write_bytes(bytes(2_500_000))
                record = tiny_project.trained(head=str(params["train"]["head"]))
                weights = f"w{params['train']['seed']}"
                record = record.model_copy(update={"weights_sha256": weights})
            case "evaluate":
                (folder / "candidate" / "calibration.json").write_text("{}")
                train = TrainedModel.load(root / stage_named("train").folder / "record.json")
                record = tiny_project.evaluation(train)
                top1 = record.candidate.top1.value + 0.01 * int(str(params["train"]["seed"]))
                scores = {"top1": Score(value=top1, low=top1, high=top1)}
                candidate = record.candidate.model_copy(update=scores)
                record = record.model_copy(update={"candidate": candidate})
        if record is not None:
            record.save(folder / "record.json")


def manifest(section: dict[str, object], *, has_parents: bool) -> Manifest:
    """Of two classes; another one for each seed and fold."""
    made = tiny_project.manifest()
    labels = tuple(
        LabelCount(label=e.label, parent="p" if has_parents else None, n_images=e.n_images)
        for e in made.labels
    )
    changes = {
        "labels": labels,
        "protocol": section["protocol"],
        "table_sha256": f"{section['seed']} {section['fold']}",
    }
    return made.model_copy(update=changes)


def make_project(root: Path, **content: object) -> Path:
    """Parameters, an image, and a ``benchmark.yaml`` with changes."""
    (root / "data" / "raw").mkdir(parents=True)
    (root / "data" / "raw" / "labels.csv").write_text("path,label\na.png,a\n")
    (root / "data" / "expectations.yaml").write_text("schema_version: 1\n")
    (root / "data" / "baseline.json").write_text("null\n")
    (root / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    ask(root, **content)
    return root


def ask(root: Path, **content: object) -> None:
    """Write ``benchmark.yaml``: two heads, three seeds, but for what is given."""
    (root / "benchmark.yaml").write_text(yaml.safe_dump(CONTENT | content, sort_keys=False))


def _serving_speed(folder: Path, evaluation: Evaluation) -> float:
    found = {path.name for path in folder.iterdir()}
    assert found == {"model.onnx", "labels.json", "transform.json", "calibration.json"}
    return 200.0


def _arrays(root: Path) -> list[Path]:
    for folder in (root.parents[1], root.parents[2]):
        if (folder / "shared").is_dir():
            return list((folder / "shared").glob("preprocess-*"))
    return []
