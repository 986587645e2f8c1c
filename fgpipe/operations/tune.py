"""Searching for better values of ``params.yaml``: one training a trial, judged on validation.

A trial is the pipeline's own ``train`` stage (and ``preprocess``, if values of it are
searched) in a project folder of its own, in which data and earlier stages' results are
links to the project's. What was tried is kept outside it under a key of all that decides
a trial's outcome beside the values that are searched: the same search goes on where it
was killed, with the trial it was killed in, and another begins anew. Test and calibration
splits are never looked at.
"""

import csv
import io
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from fgpipe import settings
from fgpipe.config import load_params
from fgpipe.errors import ConfigError, InputError, NotReadyError, PipelineError, UnavailableError
from fgpipe.operations.params_file import write_values
from fgpipe.operations.tune_file import (
    MINIMISED,
    SEARCHABLE,
    TUNE_FILE,
    IntRange,
    Range,
    TuneFile,
    load_tune_file,
)
from fgpipe.pipeline import RAW, load_record, run_stage, stage_named
from fgpipe.ports import (
    Ports,
    Reproducer,
    Scalar,
    Searcher,
    SearchRun,
    Tracker,
    TrainingRun,
    Trial,
    TrialResult,
)
from fgpipe.records import (
    EpochFigures,
    Evaluation,
    GateDecision,
    Manifest,
    Preprocessed,
    TrainedModel,
)
from fgpipe.training.checkpoint import input_key

N_SHOWN = 5
"""Trials in the table of the best."""

Say = Callable[[str], object]
"""Tells a person how it goes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What is searched in a project."""

    root: Path
    """The project."""
    file: TuneFile
    """How."""
    space: Mapping[str, Range]
    """What each key of ``params.yaml`` may be."""
    key: str
    """Hash of all that decides a trial's outcome but its values."""
    base: Mapping[str, Scalar]
    """The keys' values in ``params.yaml``."""

    @property
    def folder(self) -> Path:
        """Where what was tried is kept, and trials run."""
        return settings.state(self.root) / "tune"

    @property
    def is_minimised(self) -> bool:
        """Whether less of the objective is better."""
        return self.file.objective in MINIMISED

    @property
    def stages(self) -> tuple[str, ...]:
        """What a trial runs."""
        own = any(key.startswith("preprocess.") for key in self.space)
        return ("preprocess", "train") if own else ("train",)

    @property
    def n_epochs(self) -> int:
        """Of the longest trial."""
        epochs = self.space.get("train.epochs")
        if epochs is None:
            return load_params(self.root / "params.yaml").train.epochs
        return max(int(end) for end in epochs.ends)


def prepare(root: Path, *, reproducer: Reproducer) -> Search:
    """Bring up to date what trials start from, and say what is searched.

    Args:
        root: The project.
        reproducer: Brings stages up to date.

    Raises:
        ConfigError: If ``tune.yaml`` or ``params.yaml`` cannot be used.
        InputError: If an earlier stage refuses the data.
    """
    _, space = load_tune_file(root / TUNE_FILE, params=root / "params.yaml")
    for stage in _before(space):
        reproducer.reproduce(stage)
    return find(root)


def find(root: Path) -> Search:
    """What is searched, of the data as earlier stages left them.

    Raises:
        ConfigError: If ``tune.yaml`` or ``params.yaml`` cannot be used.
        NotReadyError: If an earlier stage has not run.
    """
    file, space = load_tune_file(root / TUNE_FILE, params=root / "params.yaml")
    manifest = load_record(Manifest, root=root)
    if file.objective == "validation_coarse_accuracy" and not manifest.parents:
        raise ConfigError(
            f"{root / TUNE_FILE}: objective: validation_coarse_accuracy needs parents of labels, "
            "and the data name none; take validation_top1 or validation_macro_recall"
        )
    params = load_params(root / "params.yaml")
    there = {
        f"{section}.{name}": value
        for section in SEARCHABLE
        for name, value in params.section(section).model_dump().items()
    }
    inputs = {"manifest": manifest.sha256()}
    if "preprocess" in _before(space):
        inputs["preprocess"] = load_record(Preprocessed, root=root).sha256()
    key = input_key(
        inputs=inputs,
        parameters={
            "objective": file.objective,
            "space": {key: range_.model_dump() for key, range_ in space.items()},
            "fixed": {key: value for key, value in there.items() if key not in space},
        },
    )
    base = {key: there[key] for key in space}
    return Search(root=root, file=file, space=space, key=key, base=base)


def _before(space: Mapping[str, Range]) -> tuple[str, ...]:
    """Stages whose results all trials share."""
    own = any(key.startswith("preprocess.") for key in space)
    return ("manifest", "validate") if own else ("manifest", "validate", "preprocess")


@contextmanager
def alone(search: Search) -> Iterator[None]:
    """Keep other searches off what this one takes up.

    Raises:
        UnavailableError: If there is another.
    """
    search.folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(search.folder / "lock", timeout=0):
            yield
    except Timeout:
        raise UnavailableError(
            "another `fgpipe tune` is at work on this project; wait for it to end"
        ) from None


def run_search(
    search: Search, *, searcher: Searcher, ports: Ports, say: Say
) -> tuple[TrialResult, ...]:
    """Try values until ``n_trials`` trials have ended, and give them all.

    Called within :func:`alone`. A trial whose training fails is one that ended: values can
    be such that a loss is infinite. What is the user's mistake in the first one stops the
    search, since it is every other's too.

    Args:
        search: What is searched.
        searcher: Keeps what was tried of it.
        ports: Of the project.
        say: Is told each trial's values and what became of it.

    Raises:
        InputError: If no trial finished yet and the training refuses its input.
        PipelineError: If none of all trials finished.

    Cost: A training a trial; one that a kill broke off goes on from its last epoch.
    """
    shutil.rmtree(search.folder / "trials", ignore_errors=True)
    if n_left := searcher.take_up():
        say(f"{n_left} trial(s) that were broken off are taken up again")
    said = {"objective": search.file.objective} | {
        f"search.{key}": str(range_) for key, range_ in search.space.items()
    }
    first = search.base if _has(search.space, search.base) else None
    with ports.tracker.search(key=search.key, parameters=said) as run:
        while len(searcher.results()) < search.file.n_trials:
            trial = searcher.begin(first)
            n_ended = len(searcher.results())
            say(f"trial {trial.number}, {n_ended + 1} of {search.file.n_trials}: {_told(trial)}")
            result = _Attempt(search, trial=trial, searcher=searcher, run=run).result(ports)
            run.end_trial(trial.number, result.state)
            searcher.end(result)
            best = ranked(search, searcher.results())[:1]
            say(_outcome(search, result, best=best))
            if best:
                _show(search, searcher.results(), run=run)
    results = searcher.results()
    if not ranked(search, results):
        raise PipelineError(f"none of {len(results)} trials finished; the last: {results[-1].note}")
    return results


def ranked(search: Search, results: Sequence[TrialResult]) -> list[TrialResult]:
    """The trials that finished, the best first; of equals the earlier."""
    sign = 1 if search.is_minimised else -1
    finished = [(sign * result.value, result) for result in results if result.value is not None]
    finished.sort(key=lambda pair: (pair[0], pair[1].trial.number))
    return [result for _, result in finished]


def summary(
    search: Search, results: Sequence[TrialResult], *, importances: Mapping[str, float]
) -> str:
    """The best trials, what counts, and how to adopt the best one's values."""
    best = ranked(search, results)
    n_pruned, n_failed = (
        sum(result.state == state for result in results) for state in ("pruned", "failed")
    )
    better = "lower" if search.is_minimised else "higher"
    lines = [
        f"{len(results)} trials: {len(best)} finished, {n_pruned} pruned, {n_failed} failed; "
        f"the best by {search.file.objective} ({better} is better):",
        *_table(search, best[:N_SHOWN]),
    ]
    if importances:
        shares = ", ".join(f"{key} {share:.2f}" for key, share in importances.items())
        lines.append(f"share in how trials differ: {shares}")
    values = best[0].trial.values
    lines += [
        f"`fgpipe tune --adopt` writes trial {best[0].trial.number}'s values into params.yaml, "
        "`--adopt NUMBER` another's:",
        *(f"  {key}: {_text(value)}" for key, value in values.items()),
        "without editing it, `dvc exp run` tries them to the end:",
        "  dvc exp run " + " ".join(f"-S {key}={_text(value)}" for key, value in values.items()),
    ]
    return "\n".join(lines)


def adopt(search: Search, *, searcher: Searcher, number: int | None) -> TrialResult:
    """Write a trial's values into ``params.yaml``; that trial.

    Args:
        search: What was searched.
        searcher: Keeps what was tried of it.
        number: Of the trial; None for the best.

    Raises:
        NotReadyError: If no trial of this search finished.
        InputError: If the one named did not.
    """
    best = ranked(search, searcher.results())
    if not best:
        raise NotReadyError(
            f"no trial has finished of what {TUNE_FILE} says, with these data, this code and the "
            "rest of params.yaml; `fgpipe tune` runs them"
        )
    by_number = {result.trial.number: result for result in best}
    chosen = best[0] if number is None else by_number.get(number)
    if chosen is None:
        numbers = ", ".join(str(result.trial.number) for result in best[:N_SHOWN])
        raise InputError(f"trial {number} is none that finished; the best are {numbers}")
    write_values(search.root / "params.yaml", chosen.trial.values)
    return chosen


class _Pruned(Exception):  # noqa: N818 - no error, but the end of a trial
    """The searcher has seen enough of a trial."""


class _Attempt:
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
            lay_out(self.search, folder, values=self.trial.values)
        except ConfigError as error:  # values that do not go together
            return self._ended("failed", note=str(error))
        watched = replace(ports, tracker=_WatchedTracker(self, tracker=ports.tracker))
        try:
            for stage in self.search.stages:
                run_stage(stage, root=folder, ports=watched)
            return self._finished(load_record(TrainedModel, root=folder))
        except _Pruned:
            ended = self._ended("pruned", note=f"after epoch {self.n_epochs}")
        except InputError as error:
            if not ranked(self.search, self.searcher.results()):
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

    def __init__(self, attempt: _Attempt, *, tracker: Tracker) -> None:
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
    def __init__(self, attempt: _Attempt, *, run: TrainingRun) -> None:
        self._attempt = attempt
        self._run = run

    def log_epoch(self, figures: EpochFigures, *, speed: Mapping[str, float]) -> None:
        self._run.log_epoch(figures, speed=speed)
        self._attempt.watch(figures)

    def finish(self, trained: TrainedModel, payload: Path) -> None:
        self._run.finish(trained, payload)


def lay_out(search: Search, folder: Path, *, values: Mapping[str, Scalar]) -> None:
    """Make a trial's project: its own parameters, all else links to the project's.

    Raises:
        ConfigError: If the values do not go together; nothing is left then.
    """
    root = search.root.resolve()
    links = [RAW, *(stage_named(name).folder for name in _before(search.space))]
    try:
        for link in links:
            (folder / link).parent.mkdir(parents=True, exist_ok=True)
            (folder / link).symlink_to(root / link, target_is_directory=True)
        shutil.copyfile(root / "params.yaml", folder / "params.yaml")
        write_values(folder / "params.yaml", values)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _has(space: Mapping[str, Range], values: Mapping[str, Scalar]) -> bool:
    return all(range_.has(values[key]) for key, range_ in space.items())


def _show(search: Search, results: Sequence[TrialResult], *, run: SearchRun) -> None:
    best = ranked(search, results)[0]
    assert best.value is not None
    run.show(
        {f"best_{search.file.objective}": best.value, "n_trials": float(len(results))},
        best=best.trial,
        files={
            TUNE_FILE.name: (search.root / TUNE_FILE).read_text(encoding="utf-8"),
            "trials.csv": _csv(search, results),
        },
    )


def _csv(search: Search, results: Sequence[TrialResult]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "state", search.file.objective, *search.space, "note"])
    for result in results:
        values = [result.trial.values[key] for key in search.space]
        value = "" if result.value is None else result.value
        writer.writerow([result.trial.number, result.state, value, *values, result.note])
    return text.getvalue()


def _table(search: Search, results: Sequence[TrialResult]) -> list[str]:
    rows = [["trial", search.file.objective, *search.space]]
    for result in results:
        values = [_text(result.trial.values[key]) for key in search.space]
        rows.append([str(result.trial.number), f"{result.value:.4f}", *values])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  " + "  ".join(f"{text:>{width}}" for text, width in zip(row, widths, strict=True))
        for row in rows
    ]


def _outcome(search: Search, result: TrialResult, *, best: Sequence[TrialResult]) -> str:
    name = f"trial {result.trial.number}"
    if result.value is None:
        return f"{name} {result.state}: {result.note}"
    leader = best[0]
    if leader is result or leader.trial.number == result.trial.number:
        return f"{name}: {search.file.objective} {result.value:.4f}, the best so far"
    return (
        f"{name}: {search.file.objective} {result.value:.4f}; the best so far is "
        f"{leader.value:.4f} of trial {leader.trial.number}"
    )


def _told(trial: Trial) -> str:
    return ", ".join(f"{key} {_text(value)}" for key, value in trial.values.items())


def _text(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
