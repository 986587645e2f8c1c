"""Optuna chooses, stops and remembers; the trainings here are a formula."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fgpipe.adapters.optuna_search import STUDIES, OptunaSearcher
from fgpipe.errors import UnavailableError
from fgpipe.operations.search import Search
from fgpipe.operations.tune_file import Choice, FloatRange, IntRange, TuneFile
from fgpipe.ports import Scalar, Trial, TrialResult

pytestmark = pytest.mark.integration

RATE, DROPOUT, EPOCHS, HEAD = "train.learning_rate", "train.dropout", "train.epochs", "train.head"
SPACE = {
    RATE: FloatRange(kind="float", low=0.00012345, high=1.0, log=True),
    DROPOUT: FloatRange(kind="float", low=0.0, high=0.5),
    EPOCHS: IntRange(kind="int", low=2, high=9, step=3),
    HEAD: Choice(values=("linear", "gru", "cosine")),
}
FIRST = {RATE: 0.003, DROPOUT: 0.2, EPOCHS: 8, HEAD: "gru"}


def searched(root: Path, *, key: str = "search", **how: Any) -> Search:
    said = {
        "objective": "validation_loss",
        "n_trials": 10,
        "sampler": "random",
        "pruner": "none",
        "seed": 0,
        "search": dict.fromkeys(SPACE),
    }
    return Search(
        root=root,
        file=TuneFile.model_validate(said | how),
        space=SPACE,
        key=key,
        base=FIRST,
    )


def loss(values: Mapping[str, Scalar]) -> float:
    """Least at a rate of 0.01; a little less with one head."""
    return abs(math.log10(float(values[RATE])) + 2) + 0.01 * (values[HEAD] != "gru")


def end(searcher: OptunaSearcher, trial: Trial, value: float | None) -> None:
    state = "finished" if value is not None else "failed"
    searcher.end(TrialResult(trial=trial, state=state, value=value, note="told"))


def run(searcher: OptunaSearcher, n_trials: int) -> list[Mapping[str, Scalar]]:
    """Values of some trials more, each run to its end."""
    tried = []
    for _ in range(n_trials):
        trial = searcher.begin(FIRST)
        end(searcher, trial, loss(trial.values))
        tried.append(trial.values)
    return tried


def test_the_first_trial_is_the_one_asked_for_and_all_are_within_their_ranges(
    tmp_path: Path,
) -> None:
    tried = run(OptunaSearcher(searched(tmp_path)), 25)

    assert tried[0] == FIRST
    for values in tried:
        assert list(values) == list(SPACE)
        assert all(range_.has(values[key]) for key, range_ in SPACE.items())
        assert type(values[EPOCHS]) is int
        assert float(f"{values[DROPOUT]:.4g}") == values[DROPOUT]
    assert {values[HEAD] for values in tried} == {"linear", "gru", "cosine"}
    assert {values[EPOCHS] for values in tried} == {2, 5, 8}
    assert sum(values[RATE] < 0.01 for values in tried) > 5  # one in a hundred without log


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_search_that_was_cut_anywhere_chooses_as_one_that_was_not(
    sampler: str, tmp_path: Path
) -> None:
    whole = run(OptunaSearcher(searched(tmp_path, key="whole", sampler=sampler)), 14)
    cut = searched(tmp_path, key="cut", sampler=sampler)

    tried = run(OptunaSearcher(cut), 5)
    OptunaSearcher(cut).begin(FIRST)  # its process dies
    resumed = OptunaSearcher(cut)
    n_left = resumed.take_up()
    tried += run(resumed, 4)
    tried += run(OptunaSearcher(cut), 5)

    assert n_left == 1
    assert tried == whole
    assert [result.trial.number for result in resumed.results()] == [*range(5), *range(6, 15)]


def test_another_seed_chooses_otherwise_and_not_the_same_one_later(tmp_path: Path) -> None:
    first, second = (
        run(OptunaSearcher(searched(tmp_path, key=f"{seed}", seed=seed)), 6) for seed in (0, 1)
    )

    rates = [values[RATE] for values in first[1:] + second[1:]]
    assert len(set(rates)) == 10


def test_the_first_trial_if_killed_is_tried_again(tmp_path: Path) -> None:
    OptunaSearcher(searched(tmp_path)).begin(FIRST)
    resumed = OptunaSearcher(searched(tmp_path))

    resumed.take_up()
    trial = resumed.begin(FIRST)

    assert trial == Trial(number=1, values=FIRST)
    assert resumed.results() == ()


def test_looking_for_good_places_finds_better_ones_than_chance(tmp_path: Path) -> None:
    random, tpe = (
        run(OptunaSearcher(searched(tmp_path, key=name, sampler=name)), 40)
        for name in ("random", "tpe")
    )

    assert sum(map(loss, tpe[20:])) < 0.7 * sum(map(loss, random[20:]))


def test_what_became_of_trials_is_told_by_another_process_as_well(tmp_path: Path) -> None:
    searcher = OptunaSearcher(searched(tmp_path))
    results = [
        TrialResult(trial=searcher.begin(FIRST), state="finished", value=0.5, note=""),
        TrialResult(trial=searcher.begin(FIRST), state="pruned", value=None, note="after epoch 1"),
        TrialResult(trial=searcher.begin(FIRST), state="failed", value=None, note="not finite"),
    ]

    for result in results:
        searcher.end(result)

    assert OptunaSearcher(searched(tmp_path)).results() == tuple(results)
    assert OptunaSearcher(searched(tmp_path, key="other")).results() == ()


def curve(searcher: OptunaSearcher, values: list[float]) -> tuple[int, bool]:
    """After how many epochs a trial with that curve ends, and whether it was stopped."""
    trial = searcher.begin(None)
    for number, value in enumerate(values, start=1):
        if searcher.report(trial, epoch=number, value=value):
            searcher.end(TrialResult(trial=trial, state="pruned", value=None, note=""))
            return number, True
    end(searcher, trial, values[-1])
    return len(values), False


LONG = {**SPACE, EPOCHS: IntRange(kind="int", low=2, high=8)}
"""Eight epochs: none is stopped before the second."""


def test_the_median_stops_what_is_worse_than_half_of_the_finished_ones(tmp_path: Path) -> None:
    search = replace(searched(tmp_path, pruner="median"), space=LONG)
    searcher = OptunaSearcher(search)

    first = [curve(searcher, [9.0, 8.0, float(level)]) for level in range(5)]
    poor = curve(searcher, [20.0, 7.9, 2.1, 1.0])
    good = curve(searcher, [20.0, 7.9, 1.9, 1.0])

    assert first == [(3, False)] * 5
    assert poor == (3, True)
    assert good == (4, False)


def test_halving_stops_the_worse_half_at_each_doubling_of_epochs(tmp_path: Path) -> None:
    search = replace(searched(tmp_path, pruner="halving"), space=LONG)
    searcher = OptunaSearcher(search)

    first = curve(searcher, [9.0, 5.0, 4.0, 3.0])
    poor = curve(searcher, [1.0, 6.0, 1.0, 1.0])
    better = curve(searcher, [20.0, 4.0, 20.0, 4.0])

    assert first == (4, False)
    assert poor == (2, True)
    assert better == (4, True)


def test_more_is_better_of_accuracies(tmp_path: Path) -> None:
    search = replace(searched(tmp_path, pruner="halving", objective="validation_top1"), space=LONG)
    searcher = OptunaSearcher(search)

    first = curve(searcher, [0.1, 0.5, 0.6])
    poor = curve(searcher, [0.9, 0.4, 0.9])
    better = curve(searcher, [0.1, 0.6, 0.6])

    assert (first, poor, better) == ((3, False), (2, True), (3, False))


def test_the_parameter_that_counts_has_the_largest_share_once_enough_is_known(
    tmp_path: Path,
) -> None:
    searcher = OptunaSearcher(searched(tmp_path))

    run(searcher, 4)
    too_few = searcher.importances()
    run(searcher, 26)
    shares = searcher.importances()

    assert too_few == {}
    assert next(iter(shares)) == RATE
    assert set(shares) == set(SPACE)
    assert sum(shares.values()) == pytest.approx(1)


def test_equal_trials_tell_nothing_of_what_counts(tmp_path: Path) -> None:
    searcher = OptunaSearcher(searched(tmp_path))

    for _ in range(8):
        end(searcher, searcher.begin(FIRST), 0.5)

    assert searcher.importances() == {}


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    search = searched(tmp_path)
    search.folder.mkdir(parents=True)
    (search.folder / STUDIES).write_text("no database at all, only words" * 100)

    with pytest.raises(UnavailableError, match=r"studies\.db cannot be used .*move it away"):
        OptunaSearcher(search).results()
