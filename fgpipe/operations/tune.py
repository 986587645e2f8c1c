"""Searching for better values of ``params.yaml``: one training a trial, judged on validation.

What a trial is judged by is the kept epoch's figure on the validation split; test and
calibration splits are never looked at.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence

from fgpipe.errors import InputError, NotReadyError, PipelineError
from fgpipe.operations.params_file import write_values
from fgpipe.operations.search import Search
from fgpipe.operations.trial import Attempt
from fgpipe.operations.trial_table import N_SHOWN, outcome, ranked, table_text, told
from fgpipe.operations.tune_file import TUNE_FILE, Range
from fgpipe.ports import Ports, Scalar, Searcher, SearchRun, TrialResult

Say = Callable[[str], object]
"""Tells a person how it goes."""


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
            say(f"trial {trial.number}, {n_ended + 1} of {search.file.n_trials}: {told(trial)}")
            result = Attempt(search, trial=trial, searcher=searcher, run=run).result(ports)
            run.end_trial(trial.number, result.state)
            searcher.end(result)
            best = ranked(search, searcher.results())[:1]
            say(outcome(search, result, best=best))
            if best:
                _show(search, searcher.results(), run=run)
    results = searcher.results()
    if not ranked(search, results):
        raise PipelineError(
            f"none of {len(results)} trials finished; the last: {results[-1].note}\n"
            f"mend that, then raise n_trials in {TUNE_FILE}, which tries others"
        )
    return results


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
            "trials.csv": table_text(search, results),
        },
    )
