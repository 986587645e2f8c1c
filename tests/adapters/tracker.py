"""The tracker in memory."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

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


class FakeTracker:
    """Keeps what it is told; an unfinished training of the same key is taken up again."""

    def __init__(self) -> None:
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

    def log_evaluation(self, evaluation: Evaluation, payload: Path) -> None:
        if (evaluation, payload) not in self.evaluations:
            self.evaluations.append((evaluation, payload))

    def log_gate(self, decision: GateDecision) -> None:
        if decision not in self.decisions:
            self.decisions.append(decision)
