"""Running one cell: the stages from manifest to evaluate, in a project of its own.

::

    .fgpipe/benchmark/
      lock                    held while a benchmark, or a stage that outlived one, runs
      shared/STAGE-KEY/       what cells have in common, moved here when it is whole
      cells/KEY/
        project/              while it runs: links, parameters, what train makes
        train.json, evaluate.json     the two records
        result.json           last: where it is, the cell is done
        log.txt               what the stages printed

Stages run as ``python -m fgpipe STAGE``, so that time and memory are theirs alone. A cell
that was killed goes on with the stage it was at, and a training with its last epoch.
"""

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import yaml

from fgpipe.operations.benchmark_file import POLICY, RUN, VARIED, files_of
from fgpipe.operations.benchmark_keys import inputs_of, stage_key
from fgpipe.operations.benchmark_plan import Cell, changed
from fgpipe.operations.benchmark_results import CellResult, Costs, measures_of
from fgpipe.pipeline import BASELINE, RAW, load_record, stage_named
from fgpipe.records import Evaluation, Manifest, Part, TrainedModel, write_atomically
from fgpipe.serving.bundle import CALIBRATION_FILE

OWN = ("train", "evaluate")
"""Stages whose outs a cell shares with no other."""

SHARED = RUN[: RUN.index(OWN[0])]
"""Those before."""

DATA = tuple(stage for stage in SHARED if stage not in VARIED)
"""Of these, those that no variant changes: what they make is small, and kept."""

SERVED_FILES = ("model.onnx", "labels.json", "transform.json")
"""What a predictor reads of a training."""

RESULT = "result.json"
LOG = "log.txt"
USAGE = "usage.json"
"""In a cell's project: what each of its own stages took; null: it was begun."""


class Usage(Part):
    """What a stage took."""

    seconds: float | None
    """From start to end; None where it was killed in between."""
    memory_mib: float
    """Most that it held."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSpeed:
    """What a tracker knows of a training's epochs."""

    images_per_s: float
    """Of the median epoch, without validation."""
    memory_mib: float
    """Most that was held; on a GPU by tensors."""


class StageRunner(Protocol):
    """Runs a stage in a project."""

    def __call__(self, stage: str, *, root: Path, log: Path) -> Usage:
        """What it took; what it prints is added to ``log``.

        Raises:
            InputError: If the stage refused, with its message.
            PipelineError: If it failed.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What a benchmark needs of the world."""

    run: StageRunner
    training_speed: Callable[[str], TrainingSpeed | None]
    """Of the training record with that hash."""
    serving_speed: Callable[[Path, Evaluation], float]
    """Images a second, one at a time, of a folder with what a predictor reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the cells of one data set are run, and with what."""

    folder: Path
    """The benchmark's."""
    fingerprint: str
    """Of the data set's inputs."""
    tools: Tools
    """What runs stages and measures."""

    def bring(self, stages: Sequence[str], *, cell: Cell, root: Path) -> None:
        """Put what stages before the training make into a project, run where none did yet.

        Args:
            stages: In order, from the first.
            cell: Whose parameters and data count.
            root: The project; made where it is not there.

        Raises:
            FgpipeError: As a stage does that refuses or fails.
        """
        _make_project(cell, root)
        for stage in stages:
            shared = self.shared(cell, stage)
            made_here = root / stage_named(stage).folder
            if made_here.is_symlink():
                made_here.unlink()
            if not (shared / "record.json").is_file():
                self.tools.run(stage, root=root, log=root.parent / LOG)
                shutil.rmtree(shared, ignore_errors=True)
                shared.parent.mkdir(parents=True, exist_ok=True)
                made_here.rename(shared)
            made_here.symlink_to(shared)

    def shared(self, cell: Cell, stage: str) -> Path:
        """Where what a stage before the training made for this cell is, or will be."""
        key = stage_key(cell, stage, fingerprint=self.fingerprint)
        return self.folder / "shared" / f"{stage}-{key[:32]}"

    def manifest(self, cell: Cell) -> Manifest:
        """The manifest of a cell, of data that were found valid.

        Raises:
            FgpipeError: As a stage does that refuses or fails.
        """
        records = [self.shared(cell, stage) / "record.json" for stage in DATA]
        if not all(record.is_file() for record in records):
            root = self.folder / "shared" / "project"
            shutil.rmtree(root, ignore_errors=True)
            self.bring(DATA, cell=cell, root=root)
            shutil.rmtree(root)
        return Manifest.load(records[DATA.index("manifest")])

    def run(self, cell: Cell, *, key: str) -> CellResult:
        """Train and test one cell; what is kept of it is small.

        Args:
            cell: The cell.
            key: Of its result.

        Raises:
            FgpipeError: As a stage does that refuses or fails.
        """
        start = time.monotonic()
        kept = self.folder / "cells" / key
        root = kept / "project"
        self.bring(SHARED, cell=cell, root=root)
        usage = {stage: self._run_own(stage, root=root) for stage in OWN}
        trained = load_record(TrainedModel, root=root)
        evaluation = load_record(Evaluation, root=root)
        result = CellResult(
            name=cell.name,
            manifest_sha256=trained.manifest_sha256,
            train_sha256=trained.sha256(),
            measures=measures_of(trained, evaluation),
            costs=self._costs(usage["train"], trained, evaluation, root=root),
            machine=_machine(trained, evaluation),
            # Of a cell that was killed, the stages done before count too.
            seconds=max(
                time.monotonic() - start, sum(took.seconds or 0 for took in usage.values())
            ),
        )
        trained.save(kept / "train.json")
        evaluation.save(kept / "evaluate.json")
        result.save(kept / RESULT)
        shutil.rmtree(root)
        return result

    def _run_own(self, stage: str, *, root: Path) -> Usage:
        """Run a stage that the cell shares with none, unless it did before a kill."""
        usage = _read_usage(root)
        done = usage.get(stage)
        if done is not None:
            return done
        was_killed = stage in usage
        _write_usage({**usage, stage: None}, root=root)
        took = self.tools.run(stage, root=root, log=root.parent / LOG)
        if was_killed:
            took = took.model_copy(update={"seconds": None})
        _write_usage({**usage, stage: took}, root=root)
        return took

    def _costs(
        self, took: Usage, trained: TrainedModel, evaluation: Evaluation, *, root: Path
    ) -> Costs:
        payload = root / stage_named("train").folder / "payload"
        served = root / "served"
        served.mkdir(exist_ok=True)
        for name in SERVED_FILES:
            shutil.copy(payload / name, served)
        candidate = root / stage_named("evaluate").folder / "candidate"
        shutil.copy(candidate / CALIBRATION_FILE, served)
        speed = self.tools.training_speed(trained.sha256())
        on_gpu = speed is not None and trained.resolved.device != "cpu"
        return Costs(
            train_s=took.seconds,
            memory_mib=speed.memory_mib if speed is not None and on_gpu else took.memory_mib,
            train_images_per_s=None if speed is None else speed.images_per_s,
            serve_images_per_s=self.tools.serving_speed(served, evaluation),
            n_parameters=trained.n_parameters,
            file_mb=(payload / "model.safetensors").stat().st_size / 1e6,
        )


def _make_project(cell: Cell, root: Path) -> None:
    """A folder with the cell's parameters, the data set's inputs and no model to beat."""
    data = root / RAW.parent
    data.mkdir(parents=True, exist_ok=True)
    for path in inputs_of(cell.data_set):
        link = data / path.name
        if not link.is_symlink():
            link.symlink_to(path.resolve())
    (root / BASELINE).write_text("null\n")
    paths = {}
    for name, value, file in files_of(cell.content, root=cell.data_set.root):
        if name == POLICY:  # which is a file of the project's own folder
            link = root / value
            if link.resolve() != file:  # below a folder that is linked it is there, and the user's
                link.parent.mkdir(parents=True, exist_ok=True)
                link.unlink(missing_ok=True)
                link.symlink_to(file)
        else:
            paths[name] = str(file)
    content = changed(cell.content, paths)
    (root / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    (root / "dvc.yaml").write_text("stages: {}\n")


def _read_usage(root: Path) -> dict[str, Usage | None]:
    try:
        content = json.loads((root / USAGE).read_text())
    except FileNotFoundError:
        return {}
    return {
        stage: None if took is None else Usage.model_validate(took)
        for stage, took in content.items()
    }


def _write_usage(usage: Mapping[str, Usage | None], *, root: Path) -> None:
    content = {stage: None if took is None else took.model_dump() for stage, took in usage.items()}
    write_atomically(root / USAGE, json.dumps(content).encode())


def _machine(trained: TrainedModel, evaluation: Evaluation) -> str:
    resolved = trained.resolved
    threads = f"{resolved.threads} thread{'' if resolved.threads == 1 else 's'}"
    return f"{resolved.device} {resolved.precision}, {threads}; served in {evaluation.precision}"
