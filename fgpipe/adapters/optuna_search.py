"""Optuna as the searcher.

A search is one study in an SQLite file, found by its key; every choice and every epoch's
figure is in it before the process can be killed. What is drawn for a trial depends on the
seed, on how many trials have ended and on what they came to, and on nothing else: a
search that was interrupted chooses what it would have chosen.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from fgpipe.errors import UnavailableError
from fgpipe.operations.search import Search
from fgpipe.operations.tune_file import Choice, FloatRange, IntRange, Range
from fgpipe.ports import Scalar, Trial, TrialResult, TrialState

if TYPE_CHECKING:
    import optuna

STUDIES = "studies.db"
"""The file of all of a project's searches."""

STATE = "state"
NOTE = "note"
"""What Optuna keeps of a trial for us, beside what it knows itself."""

N_DIGITS = 4
"""Significant ones of a fraction that is tried: more do not matter and are hard to read."""

N_START_TRIALS = 5
"""That finish before the median of finished ones stops any."""

N_FOR_IMPORTANCE = 5
"""Trials that must have finished before differences between them say anything."""


class OptunaSearcher:
    """One search's study; fulfils ``ports.Searcher``.

    Raises:
        UnavailableError: By any method, if the file cannot be used.
    """

    def __init__(self, search: Search) -> None:
        self._search = search
        self._running: dict[int, optuna.Trial] = {}

    @cached_property
    def _study(self) -> "optuna.Study":
        import optuna
        from sqlalchemy.exc import SQLAlchemyError

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        path = self._search.folder / STUDIES
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return optuna.create_study(
                study_name=self._search.key,
                storage=f"sqlite:///{path}",
                direction="minimize" if self._search.is_minimised else "maximize",
                pruner=_pruner(self._search),
                load_if_exists=True,
            )
        except (SQLAlchemyError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UnavailableError(
                f"{path} cannot be used ({reason}); move it away to begin all searches anew"
            ) from None

    def results(self) -> tuple[TrialResult, ...]:
        """Every trial that ended, in the order in which they began."""
        trials = self._study.get_trials(deepcopy=False)
        space = self._search.space
        return tuple(_result(trial, space=space) for trial in trials if _has_ended(trial))

    def take_up(self) -> int:
        """Set trials that a killed process left to be tried again; how many there are.

        Must not be called while another process is at work on the study.
        """
        import optuna

        states = (optuna.trial.TrialState.RUNNING,)
        left = self._study.get_trials(deepcopy=False, states=states)
        for trial in left:
            # First: what is lost between the two is drawn again, since it does not count.
            self._study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            fixed = trial.system_attrs.get("fixed_params", {})
            self._study.enqueue_trial({**fixed, **trial.params})
        return len(left)

    def begin(self, first: Mapping[str, Scalar] | None) -> Trial:
        """What to try; ``first`` if nothing was tried yet."""
        if first is not None and not self._study.get_trials(deepcopy=False):
            self._study.enqueue_trial(dict(first))
        self._study.sampler = _sampler(self._search, n_ended=len(self.results()))
        asked = self._study.ask()
        for key, range_ in self._search.space.items():
            _suggest(asked, key, range_)
        self._running[asked.number] = asked
        return Trial(number=asked.number, values=_values(asked.params, space=self._search.space))

    def report(self, trial: Trial, *, epoch: int, value: float) -> bool:
        """Note the objective after an epoch; whether to stop the trial there."""
        asked = self._running[trial.number]
        asked.report(value, step=epoch)
        return asked.should_prune()

    def end(self, result: TrialResult) -> None:
        """Note what became of a trial; to the sampler a failed one is as poor as can be."""
        import optuna

        asked = self._running.pop(result.trial.number)
        asked.set_user_attr(NOTE, result.note)
        asked.set_user_attr(STATE, result.state)
        if result.value is None:
            self._study.tell(asked, state=optuna.trial.TrialState.PRUNED)
        else:
            self._study.tell(asked, result.value)

    def importances(self) -> Mapping[str, float]:
        """Each parameter's share in how trials differ, the largest first; empty if unknown.

        Source: Watanabe, Bansal and Hutter, "PED-ANOVA: Efficiently Quantifying
        Hyperparameter Importance in Arbitrary Subspaces", as Optuna computes it.
        """
        import optuna

        finished = {result.value for result in self.results() if result.value is not None}
        if len(finished) < N_FOR_IMPORTANCE:
            return {}
        return optuna.importance.get_param_importances(self._study)


def _pruner(search: Search) -> "optuna.pruners.BasePruner":
    """Stops no trial before a quarter of the epochs, when rates are still rising."""
    import optuna

    n_epochs = max(1, search.n_epochs // 4)
    match search.file.pruner:
        case "none":
            return optuna.pruners.NopPruner()
        case "median":
            return optuna.pruners.MedianPruner(
                n_startup_trials=N_START_TRIALS, n_warmup_steps=n_epochs
            )
        case "halving":
            return optuna.pruners.SuccessiveHalvingPruner(min_resource=n_epochs, reduction_factor=2)


def _sampler(search: Search, *, n_ended: int) -> "optuna.samplers.BaseSampler":
    import optuna

    seed = int(np.random.SeedSequence([search.file.seed, n_ended]).generate_state(1)[0])
    if search.file.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed)


def _suggest(asked: "optuna.Trial", key: str, range_: Range) -> None:
    match range_:
        case FloatRange(low=low, high=high, log=log):
            asked.suggest_float(key, low, high, log=log)
        case IntRange(step=step):
            low, high = (int(end) for end in range_.ends)
            asked.suggest_int(key, low, high, step=step)
        case Choice(values=values):
            asked.suggest_categorical(key, values)


def _values(params: Mapping[str, Scalar], *, space: Mapping[str, Range]) -> dict[str, Scalar]:
    """What is tried: fractions rounded, but not out of their range."""
    values = dict(params)
    for key, value in params.items():
        range_ = space[key]
        if isinstance(range_, FloatRange):
            rounded = float(f"{value:.{N_DIGITS}g}")
            values[key] = min(max(rounded, range_.low), range_.high)
    return values


def _has_ended(trial: "optuna.trial.FrozenTrial") -> bool:
    return trial.state.name in {"COMPLETE", "PRUNED"}


def _result(trial: "optuna.trial.FrozenTrial", *, space: Mapping[str, Range]) -> TrialResult:
    state: TrialState = trial.user_attrs[STATE]
    return TrialResult(
        trial=Trial(number=trial.number, values=_values(trial.params, space=space)),
        state=state,
        value=trial.value if state == "finished" else None,
        note=trial.user_attrs[NOTE],
    )
