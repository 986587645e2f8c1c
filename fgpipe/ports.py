"""What the core asks of the world, as protocols.

Adapters in :mod:`fgpipe.adapters` fulfil them with real tools and the fakes in
``tests/adapters`` in memory; only the command line and the flows choose. Each fake is
named after its port.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, get_args

from fgpipe.records import (
    Baseline,
    EpochFigures,
    Evaluation,
    ExpectationResult,
    GateDecision,
    Severity,
    TrainedModel,
)

if TYPE_CHECKING:
    import pandas as pd


TableName = Literal["images", "classes", "groups", "data", "drift"]
"""What the rows of a table are."""

TABLE_NAMES: tuple[TableName, ...] = get_args(TableName)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """One thing a column of a table must fulfil in every row (or as a whole)."""

    name: str
    """Short and unique in its suite."""
    description: str
    """For a person: what is expected."""
    kind: str
    """Great Expectations' snake_case name, e.g. ``expect_column_values_to_be_unique``."""
    arguments: Mapping[str, object]
    """Keyword arguments of it, e.g. ``{"column": "path"}``."""
    named_by: str = "path"
    """Column that names a failing row in the examples."""
    table: TableName = "images"
    """Which table it is about."""
    severity: Severity = "refuse"
    """What it means not to be met."""


class Checker(Protocol):
    """Holds a table against expectations."""

    def check(
        self, table: "pd.DataFrame", expectations: Sequence[Expectation]
    ) -> tuple[ExpectationResult, ...]:
        """What each expectation found, in their order; examples read ``NAME: value``."""
        ...


class TrainingRun(Protocol):
    """A training that is being tracked."""

    def log_epoch(self, figures: EpochFigures, *, speed: Mapping[str, float]) -> None:
        """Add one epoch; logging the same epoch again (after a resume) changes nothing.

        Args:
            figures: What goes into the record too.
            speed: Measures that do not, by name.
        """
        ...

    def finish(self, trained: TrainedModel, payload: Path) -> None:
        """Tie the run to what it made."""
        ...


class Tracker(Protocol):
    """Keeps runs for people to compare."""

    def training(
        self, *, input_key: str, parameters: Mapping[str, object]
    ) -> AbstractContextManager[TrainingRun]:
        """Start the run of ``input_key``, or take an unfinished one up again."""
        ...

    def search(
        self, *, key: str, parameters: Mapping[str, object]
    ) -> AbstractContextManager["SearchRun"]:
        """Start the run of the search of that key, or take it up again."""
        ...

    def log_evaluation(self, evaluation: Evaluation, payload: Path) -> None:
        """Add figures and report to the candidate's run; twice changes nothing."""
        ...

    def log_gate(self, decision: GateDecision) -> None:
        """Tag the candidate's run with the verdict; twice changes nothing."""
        ...


Scalar = str | int | float | bool
"""What one value in ``params.yaml`` can be."""

TrialState = Literal["finished", "pruned", "failed"]
"""How a trial ended: with its last epoch, before it for want of promise, or by an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One training of a search."""

    number: int
    """From 0; that of a trial that was killed is not given again."""
    values: Mapping[str, Scalar]
    """By the path of a key of ``params.yaml``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialResult:
    """What became of a trial."""

    trial: Trial
    state: TrialState
    value: float | None
    """The objective's, if it finished."""
    note: str
    """What there is to say of one that did not finish."""


class Searcher(Protocol):
    """Chooses what to try next from what was tried, and keeps it when its process is killed."""

    def results(self) -> tuple[TrialResult, ...]:
        """Every trial that ended, in the order in which they began."""
        ...

    def take_up(self) -> int:
        """Set trials that a killed process left to be tried again; how many there are."""
        ...

    def begin(self, first: Mapping[str, Scalar] | None) -> Trial:
        """What to try.

        Args:
            first: What to try if nothing was tried yet.
        """
        ...

    def report(self, trial: Trial, *, epoch: int, value: float) -> bool:
        """Note the objective after an epoch; whether to stop the trial there."""
        ...

    def end(self, result: TrialResult) -> None:
        """Note what became of a trial."""
        ...

    def importances(self) -> Mapping[str, float]:
        """Each parameter's share in how trials differ, the largest first; empty if unknown."""
        ...


class SearchRun(Protocol):
    """A search that is being tracked; its trials are runs inside it."""

    def training(
        self, *, input_key: str, parameters: Mapping[str, object], trial: int
    ) -> AbstractContextManager[TrainingRun]:
        """Start the run of a trial's training, or take an unfinished one up again."""
        ...

    def end_trial(self, trial: int, state: TrialState) -> None:
        """Say of a trial's run, if it has one, how it ended."""
        ...

    def show(self, figures: Mapping[str, float], *, best: Trial, files: Mapping[str, str]) -> None:
        """Show how far the search is.

        Args:
            figures: By name.
            best: The best trial so far.
            files: Texts to keep, by file name.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """A version in the registry."""

    version: int
    bundle_sha256: str
    train_sha256: str
    bento_tag: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenBy:
    """How many of some images a version was trained or chosen on."""

    version: int
    aliases: tuple[str, ...]
    """What else it is called, such as ``champion``."""
    n_images: int | None
    """None where its list of images cannot be had."""


class Registry(Protocol):
    """The authority on what is champion."""

    def champion(self) -> ModelVersion | None:
        """The version with alias ``champion``, if any."""
        ...

    def find(self, bundle_sha256: str) -> ModelVersion | None:
        """The newest version of that bundle, if any."""
        ...

    def register(
        self, bundle: Path, *, bundle_sha256: str, train_sha256: str, tags: Mapping[str, str]
    ) -> ModelVersion:
        """Upload a bundle as a version, tied to its training run.

        Where the store has no such run, one is made, marked ``restored``.
        """
        ...

    def set_bento_tag(self, version: int, bento_tag: str) -> None:
        """Note which Bento a version was built into."""
        ...

    def promote(self, version: int) -> None:
        """Move alias ``champion`` to a version; the former champion becomes ``previous``."""
        ...

    def trained_on(self, sha256s: Collection[str]) -> tuple[SeenBy, ...]:
        """Every version that has, or may have, seen one of these images, oldest first."""
        ...

    def fetch_bundle(self, baseline: Baseline) -> Path:
        """A folder with that version's bundle, its hash checked; fetched once and kept.

        Raises:
            NotReadyError: If the registry has no such version, or its bytes are others.
        """
        ...


class ServiceBuilder(Protocol):
    """Makes a bundle into something that serves."""

    def build(self, bundle: Path, *, bundle_sha256: str, name: str) -> str:
        """Build and give back its tag; a tag built before is given back as it is."""
        ...

    def has(self, tag: str) -> bool:
        """Whether that tag is built and whole."""
        ...

    def prove(self, tag: str) -> None:
        """Serve it on a free loopback port and ask it the bundle's probe.

        Raises:
            ParityError: If its answers are not the probe's.
            PipelineError: If it does not start.
        """
        ...


Reproduced = Literal["unchanged", "restored", "made"]
"""What bringing a stage up to date took: nothing, a look into the cache, or a run."""


class Reproducer(Protocol):
    """Brings stages up to date and versions data."""

    def reproduce(self, stage: str) -> Reproduced:
        """Bring one stage up to date, or all if ``stage`` is empty.

        Returns:
            What that took; of all, the most that any took.

        Raises:
            InputError: If the stage refused its input; its message.
            PipelineError: If it failed otherwise.
        """
        ...

    def is_up_to_date(self) -> bool:
        """Whether every stage's outs are those of its deps and parameters."""
        ...

    def add(self, path: Path) -> str:
        """Put a folder under version control; its hash."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """What a stage may ask of the world."""

    checker: Checker
    tracker: Tracker
    registry: Registry
    checkpoints: Path
    """Folder for what a killed training resumes from, outside every stage's output."""
    measures: Path
    """Folder for what was measured of contents seen before, so that they are not decoded again."""
