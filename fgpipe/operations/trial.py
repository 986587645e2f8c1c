"""One trial of a search: the pipeline's own stages in a project folder of their own.

Data and earlier stages' results are links to the project's; ``params.yaml`` has the
trial's values. A trial that is killed goes on from its checkpoint, which is found by what
is trained and not by where.
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

from fgpipe.errors import ConfigError, InputError, PipelineError
from fgpipe.operations.params_file import write_values
from fgpipe.operations.search import Search
from fgpipe.pipeline import RAW, UNLABELLED, load_record, run_stage, stage_named
from fgpipe.ports import (
    Ports,
    Scalar,
    Searcher,
    SearchRun,
    Tracker,
    TrainingRun,
    Trial,
    TrialResult,
)
from fgpipe.records import EpochFigures, Evaluation, GateDecision, TrainedModel


class _Pruned(Exception):  # noqa: N818 - no error, but the end of a trial
    """The searcher has seen enough of a trial."""


class Attempt:
    """One trial as it is run: the project's stages, watched after every epoch."""

    def __init__(self, search: Search, *, trial: Trial, searcher: Searcher, run: SearchRun) -> None:
        self.search = search
        self.trial = trial
        self.searcher = searcher
        self.run = run
        self.n_epochs = 0
        self.input_key: str | None = None

    def result(self, ports: Ports) -> TrialResult:
        """Train, and say what it came to."""
        folder = self.search.folder / "trials" / str(self.trial.number)
        try:
            _lay_out(self.search, folder, values=self.trial.values)
        except ConfigError as error:  # each was held against params.yaml alone
            why = str(error).splitlines()[-1].strip().removeprefix("file: ")
            return self._ended("failed", note=f"its values do not go together: {why}")
        watched = replace(ports, tracker=_WatchedTracker(self, tracker=ports.tracker))
        try:
            for stage in self.search.stages:
                run_stage(stage, root=folder, ports=watched)
            return self._finished(load_record(TrainedModel, root=folder))
        except _Pruned:
            ended = self._ended("pruned", note=f"after epoch {self.n_epochs}")
        except InputError as error:
            if not any(result.state == "finished" for result in self.searcher.results()):
                raise
            ended = self._ended("failed", note=str(error))
        except PipelineError as error:
            ended = self._ended("failed", note=str(error))
        finally:
            shutil.rmtree(folder)
        if self.input_key is not None:  # what it would have resumed from
            shutil.rmtree(ports.checkpoints / self.input_key, ignore_errors=True)
        return ended

    def watch(self, figures: EpochFigures) -> None:
        """Note an epoch; leave the training if it holds no promise."""
        self.n_epochs = figures.epoch
        value = float(getattr(figures, self.search.file.objective))
        if self.searcher.report(self.trial, epoch=figures.epoch, value=value):
            raise _Pruned

    def _finished(self, trained: TrainedModel) -> TrialResult:
        kept = next(each for each in trained.curves if each.epoch == trained.best_epoch)
        value = float(getattr(kept, self.search.file.objective))
        return TrialResult(trial=self.trial, state="finished", value=value, note="")

    def _ended(self, state: Literal["pruned", "failed"], *, note: str) -> TrialResult:
        return TrialResult(trial=self.trial, state=state, value=None, note=note)


class _WatchedTracker:
    """The project's tracker, with a trial's training inside the search's run."""

    def __init__(self, attempt: Attempt, *, tracker: Tracker) -> None:
        self._attempt = attempt
        self._tracker = tracker

    @contextmanager
    def training(
        self, *, input_key: str, parameters: Mapping[str, object]
    ) -> Iterator[TrainingRun]:
        attempt = self._attempt
        attempt.input_key = input_key
        with attempt.run.training(
            input_key=input_key, parameters=parameters, trial=attempt.trial.number
        ) as run:
            yield _WatchedRun(attempt, run=run)

    def search(
        self, *, key: str, parameters: Mapping[str, object]
    ) -> AbstractContextManager[SearchRun]:
        return self._tracker.search(key=key, parameters=parameters)

    def log_evaluation(self, evaluation: Evaluation, payload: Path) -> None:
        self._tracker.log_evaluation(evaluation, payload)

    def log_gate(self, decision: GateDecision) -> None:
        self._tracker.log_gate(decision)


class _WatchedRun:
    def __init__(self, attempt: Attempt, *, run: TrainingRun) -> None:
        self._attempt = attempt
        self._run = run

    def log_epoch(self, figures: EpochFigures, *, speed: Mapping[str, float]) -> None:
        self._run.log_epoch(figures, speed=speed)
        self._attempt.watch(figures)

    def finish(self, trained: TrainedModel, payload: Path) -> None:
        self._run.finish(trained, payload)


def _lay_out(search: Search, folder: Path, *, values: Mapping[str, Scalar]) -> None:
    """Make a trial's project: its own parameters, all else links to the project's.

    Raises:
        ConfigError: If the values do not go together; nothing is left then.
    """
    root = search.root.resolve()
    links = [RAW, UNLABELLED, *(stage_named(name).folder for name in search.before)]
    try:
        for link in links:
            (folder / link).parent.mkdir(parents=True, exist_ok=True)
            (folder / link).symlink_to(root / link, target_is_directory=True)
        shutil.copyfile(root / "params.yaml", folder / "params.yaml")
        write_values(folder / "params.yaml", values)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
