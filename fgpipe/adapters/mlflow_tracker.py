"""MLflow as the tracker of runs.

One training is one run, found again by its tags: by the input key while it is unfinished,
by the training record's hash afterwards. Everything is logged so that doing it twice
changes nothing, for a training may be killed between any two lines and an evaluation be
repeated.
"""

import json
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fgpipe import settings
from fgpipe.adapters import mlflow_store as store
from fgpipe.operations.provenance import data_hash, git_commit
from fgpipe.pipeline import RAW
from fgpipe.ports import SearchRun, TrainingRun, Trial, TrialState
from fgpipe.records import (
    EpochFigures,
    Evaluation,
    GateDecision,
    Score,
    TrainedModel,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

SAMPLING_S = 5.0
"""Seconds between two looks at processor, memory, disk, network and GPU."""

MAX_DIGEST = 36
"""Longest digest of a data set that MLflow takes."""

EVALUATION_SHA256 = "fgpipe.evaluation_sha256"
"""Run: the evaluation whose figures it shows; set when they are all there."""
GIT_DIRTY = "fgpipe.git_dirty"
"""Run: whether tracked files differed from the commit."""
SEARCH_KEY = "fgpipe.search_key"
"""Run: of a search, what it searches; its trials' runs name it as their parent."""
PARENT = "mlflow.parentRunId"
"""Run: the one that MLflow shows it under."""
TRIAL = "fgpipe.trial"
"""Run: which trial of the search above it this is; of the search itself, the best."""
TRIAL_STATE = "fgpipe.trial_state"
"""Run: how the trial ended."""
GATE_SUMMARY = "fgpipe.gate_summary"
"""Run: the verdict in a sentence."""

HEADLINE = ("top1", "macro_recall", "coarse_accuracy", "calibration_error", "log_loss")
"""Figures of a model that are shown with their intervals."""
RETRIEVAL = ("recall_at_1", "map_at_r")
"""Figures of its embeddings."""
DIFFERENCES = ("top1", "macro_recall", "coarse_accuracy")
"""Figures of the comparison with the champion."""


class MlflowTracker:
    """The project's MLflow store; fulfils ``ports.Tracker``."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @cached_property
    def _client(self) -> "MlflowClient":
        return store.connect(self._root)

    @contextmanager
    def training(
        self, *, input_key: str, parameters: Mapping[str, object]
    ) -> Iterator[TrainingRun]:
        """Start the run of ``input_key``, or take an unfinished one up again.

        A run left by an exception is marked failed, one left by a signal killed (or, if
        there was no time for that, running); each of the three is unfinished.

        Args:
            input_key: Hash of all the training depends on.
            parameters: Its parameters, nested as in ``params.yaml``.
        """
        with self._training(input_key=input_key, parameters=parameters, tags={}) as run:
            yield run

    @contextmanager
    def search(self, *, key: str, parameters: Mapping[str, object]) -> Iterator[SearchRun]:
        """Start the run of the search of that key, or take it up again.

        Args:
            key: Hash of what is searched.
            parameters: What is searched, nested or not.
        """
        from mlflow.entities import Param

        run_id = self._newest(f"tags.`{SEARCH_KEY}` = '{key}'") or self._create(
            f"search-{key[:8]}", tags={SEARCH_KEY: key}
        )
        self._client.update_run(run_id, status="RUNNING")
        self._client.log_batch(
            run_id, params=[Param(name, value) for name, value in _flat(parameters).items()]
        )
        with self._ended(run_id):
            yield _MlflowSearch(self, run_id)

    @contextmanager
    def _training(
        self, *, input_key: str, parameters: Mapping[str, object], tags: Mapping[str, str]
    ) -> Iterator["_MlflowRun"]:
        name = f"trial-{tags[TRIAL]}" if TRIAL in tags else f"train-{input_key[:8]}"
        run_id = self._unfinished(input_key) or self._create(
            name, tags={store.INPUT_KEY: input_key}
        )
        self._client.update_run(run_id, status="RUNNING", name=name)
        self._describe(run_id, parameters, tags=tags)
        monitor = self._monitor(run_id)
        monitor.start()
        with self._ended(run_id):
            try:
                yield _MlflowRun(self._client, run_id)
            finally:
                monitor.finish()

    @contextmanager
    def _ended(self, run_id: str) -> Iterator[None]:
        """Say of a run how it ended."""
        status = "KILLED"
        try:
            yield
            status = "FINISHED"
        except Exception:
            status = "FAILED"
            raise
        finally:
            self._client.set_terminated(run_id, status)

    def log_evaluation(self, evaluation: Evaluation, payload: Path) -> None:
        """Add figures and report to the candidate's run; twice changes nothing."""
        run_id = self._run_of(evaluation.train_sha256)
        tags = self._client.get_run(run_id).data.tags
        if tags.get(EVALUATION_SHA256) == evaluation.sha256():
            return
        self._client.log_artifacts(run_id, str(payload), "evaluation")
        _log_metrics(self._client, run_id, _figures(evaluation))
        self._client.set_tag(run_id, EVALUATION_SHA256, evaluation.sha256())

    def log_gate(self, decision: GateDecision) -> None:
        """Tag the candidate's run with the verdict; twice changes nothing."""
        run_id = self._run_of(decision.train_sha256)
        self._client.set_tag(run_id, store.VERDICT, decision.verdict)
        self._client.set_tag(run_id, GATE_SUMMARY, decision.summary)

    def _unfinished(self, input_key: str) -> str | None:
        return self._newest(
            f"tags.`{store.INPUT_KEY}` = '{input_key}' and attributes.status != 'FINISHED'"
        )

    def _newest(self, condition: str) -> str | None:
        experiment = store.experiment_id(self._client, root=self._root)
        runs = self._client.search_runs([experiment], condition, max_results=1)
        return str(runs[0].info.run_id) if runs else None

    def _run_of(self, train_sha256: str) -> str:
        """The run that made a model, or a new one where the store has none."""
        found = store.run_of(self._client, train_sha256=train_sha256, root=self._root)
        if found is not None:
            return found
        origin = {store.TRAIN_SHA256: train_sha256}
        return store.restored_run(self._client, tags=origin, root=self._root)

    def _create(self, name: str, *, tags: Mapping[str, str]) -> str:
        run = self._client.create_run(
            store.experiment_id(self._client, root=self._root), tags=dict(tags), run_name=name
        )
        return str(run.info.run_id)

    def _describe(
        self, run_id: str, parameters: Mapping[str, object], *, tags: Mapping[str, str]
    ) -> None:
        """Parameters, code and data set of a run."""
        from mlflow.entities import Param, RunTag

        tags = {**tags, GIT_DIRTY: str(_is_dirty(self._root)).lower()}
        for name, value in (
            (store.GIT_COMMIT, git_commit(self._root)),
            (store.DATA_HASH, data_hash(self._root)),
        ):
            tags |= {} if value is None else {name: value}
        self._client.log_batch(
            run_id,
            params=[Param(key, value) for key, value in _flat(parameters).items()],
            tags=[RunTag(key, value) for key, value in tags.items()],
        )
        self._log_data_set(run_id)

    def _log_data_set(self, run_id: str) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        digest = data_hash(self._root)
        if digest is None or self._client.get_run(run_id).inputs.dataset_inputs:
            return
        source = {"path": RAW.as_posix(), "md5": digest, "git_commit": git_commit(self._root)}
        data = Dataset(
            name=RAW.as_posix(),
            digest=digest[:MAX_DIGEST],
            source_type="dvc",
            source=json.dumps(source),
        )
        context = InputTag("mlflow.data.context", "training")
        self._client.log_inputs(run_id, datasets=[DatasetInput(data, [context])])

    def _monitor(self, run_id: str) -> Any:  # noqa: ANN401 - MLflow has no types
        from mlflow.system_metrics.system_metrics_monitor import (
            SystemMetricsMonitor,
        )

        return SystemMetricsMonitor(
            run_id,
            sampling_interval=SAMPLING_S,
            resume_logging=True,
            tracking_uri=settings.tracking_uri(self._root),
        )


class _MlflowSearch:
    """A search that is being tracked; fulfils ``ports.SearchRun``."""

    def __init__(self, tracker: MlflowTracker, run_id: str) -> None:
        self._tracker = tracker
        self._run_id = run_id
        self._runs: dict[int, str] = {}

    @contextmanager
    def training(
        self, *, input_key: str, parameters: Mapping[str, object], trial: int
    ) -> Iterator[TrainingRun]:
        """Start the run of a trial's training, or take an unfinished one up again."""
        tags = {PARENT: self._run_id, TRIAL: str(trial)}
        with self._tracker._training(  # noqa: SLF001 - same module
            input_key=input_key, parameters=parameters, tags=tags
        ) as run:
            self._runs[trial] = run.run_id
            yield run

    def end_trial(self, trial: int, state: TrialState) -> None:
        """Say of a trial's run, if it has one, how it ended; it is not taken up again."""
        run_id = self._runs.get(trial)
        if run_id is not None:
            client = self._tracker._client  # noqa: SLF001 - same module
            client.set_tag(run_id, TRIAL_STATE, state)
            client.set_terminated(run_id, "FAILED" if state == "failed" else "FINISHED")

    def show(self, figures: Mapping[str, float], *, best: Trial, files: Mapping[str, str]) -> None:
        """Show how far the search is; the best trial's values are tags, which can change."""
        client = self._tracker._client  # noqa: SLF001 - same module
        _log_metrics(client, self._run_id, figures)
        client.set_tag(self._run_id, TRIAL, str(best.number))
        for name, value in best.values.items():
            client.set_tag(self._run_id, f"best.{name}", str(value))
        for name, text in files.items():
            client.log_text(self._run_id, text, f"search/{name}")


class _MlflowRun:
    """A training that is being tracked; fulfils ``ports.TrainingRun``."""

    def __init__(self, client: "MlflowClient", run_id: str) -> None:
        self._client = client
        self.run_id = run_id
        history = client.get_metric_history(run_id, "train_loss")
        self._logged = {int(metric.step) for metric in history}

    def log_epoch(self, figures: EpochFigures, *, speed: Mapping[str, float]) -> None:
        """Add one epoch; logging the same epoch again (after a resume) changes nothing."""
        self._log(figures, speed)

    def finish(self, trained: TrainedModel, payload: Path) -> None:
        """Tie the run to what it made; epochs that a kill kept from the log are added."""
        for figures in trained.curves:
            self._log(figures, {})
        _log_metrics(self._client, self.run_id, {"best_epoch": float(trained.best_epoch)})
        for name in ("recogniser.json", "curves.csv"):
            self._client.log_artifact(self.run_id, str(payload / name), "train")
        self._client.set_tag(self.run_id, store.TRAIN_SHA256, trained.sha256())

    def _log(self, figures: EpochFigures, speed: Mapping[str, float]) -> None:
        if figures.epoch in self._logged:
            return
        values = figures.model_dump(exclude={"epoch"}, exclude_none=True)
        _log_metrics(self._client, self.run_id, {**values, **speed}, step=figures.epoch)
        self._logged.add(figures.epoch)


def _log_metrics(
    client: "MlflowClient", run_id: str, values: Mapping[str, float], *, step: int = 0
) -> None:
    """Log in one batch: one write to the database, whole or not at all."""
    from mlflow.entities import Metric

    at_ms = int(time.time() * 1000)
    client.log_batch(
        run_id, metrics=[Metric(key, value, at_ms, step) for key, value in values.items()]
    )


def _figures(evaluation: Evaluation) -> dict[str, float]:
    figures = {"temperature": evaluation.temperature}
    figures |= _with_intervals(evaluation.candidate, HEADLINE, prefix="test")
    if evaluation.retrieval is not None:
        figures |= _with_intervals(evaluation.retrieval, RETRIEVAL, prefix="test")
    if evaluation.comparison is not None:
        figures |= _with_intervals(evaluation.comparison, DIFFERENCES, prefix="vs_champion")
    return figures


def _with_intervals(scores: object, names: tuple[str, ...], *, prefix: str) -> dict[str, float]:
    figures = {}
    for name in names:
        score: Score | None = getattr(scores, name)
        if score is not None:
            figures[f"{prefix}_{name}"] = score.value
            figures[f"{prefix}_{name}_low"] = score.low
            figures[f"{prefix}_{name}_high"] = score.high
    return figures


def _flat(parameters: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in parameters.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = str(value)
    return flat


def _is_dirty(root: Path) -> bool:
    """Whether a tracked file differs from the commit checked out."""
    if git_commit(root) is None:
        return False
    command = ["git", "status", "--porcelain", "--untracked-files=no"]
    done = subprocess.run(command, cwd=root, capture_output=True, check=False)
    return bool(done.stdout.strip())
