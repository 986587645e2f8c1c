import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fgpipe.errors import DataError
from fgpipe.metrics import bootstrap as module
from fgpipe.metrics.bootstrap import Figure, bootstrap, resample_groups


def drawn_one_by_one(*, n_groups: int, n_bootstrap: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    rows = []
    for _ in range(n_bootstrap):
        drawn = generator.integers(n_groups, size=n_groups).tolist()
        rows.append([drawn.count(group) for group in range(n_groups)])
    return np.array(rows)


def value_of_first_group() -> Figure:
    return lambda weights: weights[:, 0]


@given(n_groups=st.integers(2, 30), seed=st.integers(0, 2**32 - 1))
def test_each_resample_draws_as_many_groups_as_there_are(n_groups: int, seed: int) -> None:
    (weights,) = resample_groups(n_groups=n_groups, n_bootstrap=20, seed=seed)

    assert weights.shape == (20, n_groups)
    assert (weights.sum(axis=1) == n_groups).all()


@pytest.mark.parametrize("cells_at_once", [1, 35, 36, 10_000])
def test_resamples_do_not_depend_on_how_many_are_held_in_memory(
    cells_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CELLS_AT_ONCE", cells_at_once)

    weights = np.concatenate(list(resample_groups(n_groups=7, n_bootstrap=101, seed=3)))

    expected = drawn_one_by_one(n_groups=7, n_bootstrap=101, seed=3)
    np.testing.assert_array_equal(weights, expected)


def test_the_interval_is_the_middle_of_the_resamples() -> None:
    weights = drawn_one_by_one(n_groups=8, n_bootstrap=400, seed=1)

    scores = bootstrap(
        {"first": value_of_first_group()},
        n_groups=8,
        n_bootstrap=400,
        confidence_level=0.8,
        seed=1,
    )

    assert scores["first"].value == 1
    assert scores["first"].low == pytest.approx(np.percentile(weights[:, 0], 10))
    assert scores["first"].high == pytest.approx(np.percentile(weights[:, 0], 90))


def test_a_higher_confidence_level_never_gives_a_narrower_interval() -> None:
    scores = [
        bootstrap(
            {"first": value_of_first_group()},
            n_groups=20,
            n_bootstrap=500,
            confidence_level=level,
            seed=0,
        )["first"]
        for level in (0.6, 0.8, 0.95, 0.999)
    ]

    lows, highs = [s.low for s in scores], [s.high for s in scores]

    assert lows == sorted(lows, reverse=True)
    assert highs == sorted(highs)


def test_one_group_is_refused_since_it_has_no_interval() -> None:
    with pytest.raises(DataError, match="at least 2 groups; there is 1"):
        bootstrap(
            {"first": value_of_first_group()},
            n_groups=1,
            n_bootstrap=100,
            confidence_level=0.95,
            seed=0,
        )
