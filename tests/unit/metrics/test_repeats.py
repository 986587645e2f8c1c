import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fgpipe.errors import DataError
from fgpipe.metrics.repeats import RepeatedFigure, judge, over_repeats, paired_difference

shares = st.lists(st.floats(0, 1), min_size=3, max_size=12).filter(lambda v: np.std(v) > 1e-6)


def figure(low: float | None, high: float | None) -> RepeatedFigure:
    return RepeatedFigure(mean=0.0, low=low, high=high, n=5)


@given(values=shares, level=st.sampled_from([0.8, 0.95, 0.99]))
def test_the_interval_is_scipys_t_interval(values: list[float], level: float) -> None:
    found = over_repeats(np.array(values), confidence_level=level)

    expected = stats.t.interval(
        level, df=len(values) - 1, loc=np.mean(values), scale=stats.sem(values)
    )
    assert found.mean == pytest.approx(sum(values) / len(values))
    assert (found.low, found.high) == pytest.approx(expected)
    assert found.n == len(values)


@given(values=shares)
def test_a_difference_leaves_0_out_exactly_where_scipys_paired_test_rejects(
    values: list[float],
) -> None:
    others = [0.5 + 0.1 * position for position in range(len(values))]
    names = [str(position) for position in range(len(values))]

    found = paired_difference(
        dict(zip(names, values, strict=True)), dict(zip(names, others, strict=True))
    )

    p_value = stats.ttest_rel(values, others).pvalue
    assert found is not None
    assert (judge(found) in {"better", "worse"}) == (p_value < 0.05)


def test_pairs_are_of_equal_repeats_and_the_others_are_left_out() -> None:
    values = {"seed 3": 9.0, "seed 1": 0.9, "seed 0": 0.7, "seed 2": 0.6}
    others = {"seed 0": 0.5, "seed 2": 0.5, "seed 1": 0.6, "seed 7": 1.0}

    found = paired_difference(values, others)

    assert found is not None
    assert found.n == 3
    assert found.mean == pytest.approx((0.2 + 0.3 + 0.1) / 3)


def test_what_shifts_both_of_a_pair_is_not_in_the_interval() -> None:
    hard = {f"seed {n}": 0.1 * n for n in range(5)}
    better = {name: value + 0.02 for name, value in hard.items()}

    found = paired_difference(better, hard)

    assert found is not None
    assert found.low == pytest.approx(0.02)
    assert found.high == pytest.approx(0.02)
    assert judge(found) == "better"


def test_without_a_common_repeat_there_is_no_difference() -> None:
    assert paired_difference({"seed 0": 1.0}, {"seed 1": 1.0}) is None


@pytest.mark.parametrize("values", [[0.5], [0.5, 0.75]])
def test_fewer_than_three_repeats_have_a_mean_but_no_interval(values: list[float]) -> None:
    found = over_repeats(np.array(values))

    assert found.mean == pytest.approx(sum(values) / len(values))
    assert (found.low, found.high) == (None, None)
    assert judge(found) == "too few"


def test_no_repeat_at_all_is_refused() -> None:
    with pytest.raises(DataError, match="at least one"):
        over_repeats(np.array([], dtype=np.float64))


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.01, 0.2, "better"),
        (-0.2, -0.01, "worse"),
        (-0.1, 0.1, "undecided"),
        (0.0, 0.1, "undecided"),
        (-0.1, 0.0, "undecided"),
        (None, None, "too few"),
    ],
)
def test_only_an_interval_that_leaves_0_out_says_something(
    low: float | None, high: float | None, expected: str
) -> None:
    assert judge(figure(low, high)) == expected
