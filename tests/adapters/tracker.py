"""The tracker in memory."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fgpipe.ports import Trial, TrialState
from fgpipe.records import EpochFigures, Evaluation, GateDecision, TrainedModel


@dataclass
class FakeTrainingRun:
    """What one training told its tracker."""

    input_key: str
    parameters: dict[str, object]
    epochs: dict[int, EpochFigures] = field(default_factory=dict)
    """By epoch: logging one again changes nothing."""
    trained: TrainedModel | None = None
    payload: Path | None = None
    on_epoch: Callable[[EpochFigures], None] | None = None
    """Called after an epoch, for a test to break a training off."""

    def log_epoch(self, figures: EpochFigures, *, speed: Mapping[str, float]) -> None:
        self.epochs.setdefault(figures.epoch, figures)
        if self.on_epoch is not None:
            self.on_epoch(figures)

    def finish(self, trained: TrainedModel, payload: Path) -> None:
        self.trained = trained
        self.payload = payload


@dataclass
class FakeSearchRun:
    """What one search told its tracker."""

    tracker: "FakeTracker"
    key: str
    parameters: dict[str, object]
    trials: dict[int, FakeTrainingRun] = field(default_factory=dict)
    states: dict[int, TrialState] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    best: Trial | None = None
    files: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def training(
        self, *, input_key: str, parameters: Mapping[str, object], trial: int
    ) -> Iterator[FakeTrainingRun]:
        with self.tracker.training(input_key=input_key, parameters=parameters) as run:
            self.trials[trial] = run
            yield run

    def end_trial(self, trial: int, state: TrialState) -> None:
        self.states[trial] = state

    def show(self, figures: Mapping[str, float], *, best: Trial, files: Mapping[str, str]) -> None:
        self.figures = dict(figures)
        self.best = best
        self.files = dict(files)


class FakeTracker:
    """Keeps what it is told; an unfinished training of the same key is taken up again."""

    def __init__(self) -> None:
        self.searches: dict[str, FakeSearchRun] = {}
        self.on_epoch: Callable[[EpochFigures], None] | None = None
        self.runs: list[FakeTrainingRun] = []
        self.evaluations: list[tuple[Evaluation, Path]] = []
        self.decisions: list[GateDecision] = []

    @contextmanager
    def training(
        self, *, input_key: str, parameters: Mapping[str, object]
    ) -> Iterator[FakeTrainingRun]:
        for run in self.runs:
            if run.input_key == input_key and run.trained is None:
                break
        else:
            run = FakeTrainingRun(input_key=input_key, parameters=dict(parameters))
            self.runs.append(run)
        run.on_epoch = self.on_epoch
        yield run

    @contextmanager
    def search(self, *, key: str, parameters: Mapping[str, object]) -> Iterator[FakeSearchRun]:
        yield self.searches.setdefault(key, FakeSearchRun(self, key, dict(parameters)))

    def log_evaluation(self, evaluation: Evaluation, payload: Path) -> None:
        if (evaluation, payload) not in self.evaluations:
            self.evaluations.append((evaluation, payload))

    def log_gate(self, decision: GateDecision) -> None:
        if decision not in self.decisions:
            self.decisions.append(decision)
