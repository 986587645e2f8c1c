import math

import numpy as np
import pytest
from scipy.stats import chi2
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

from fgpipe.metrics.drift import (
    N_FOLDS,
    RIDGE,
    _folds,
    area_under_curve,
    bin_counts,
    quantile_edges,
    stability_by_chance,
    stability_index,
    told_apart,
    told_apart_by_chance,
)


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(7)


def test_bins_hold_what_a_loop_puts_there(generator: np.random.Generator) -> None:
    then, since = generator.normal(size=500), generator.normal(0.5, 2, size=200)
    edges = quantile_edges(then)

    counts = bin_counts(since, edges)

    expected = [0] * (len(edges) + 1)
    for value in since:
        if value < edges[0]:
            expected[0] += 1
        elif value > edges[-1]:
            expected[-1] += 1
        else:
            expected[1 + sum(value > cut for cut in edges[1:-1])] += 1
    assert counts.tolist() == expected
    assert bin_counts(then, edges).tolist() == [0, *[50] * 10, 0]


def test_values_that_are_all_the_same_have_bins_below_and_above() -> None:
    edges = quantile_edges(np.full(30, 300.0))

    counts = bin_counts(np.array([299.0, 300.0, 300.0, 600.0]), edges)

    assert counts.tolist() == [1, 2, 0, 1]


def test_the_index_is_that_of_a_loop(generator: np.random.Generator) -> None:
    then, since = generator.integers(0, 40, size=8), generator.integers(0, 40, size=8)
    then[2] = since[2] = since[5] = 0

    index = stability_index(then, since)

    pairs = [(a + 0.5, b + 0.5) for a, b in zip(then, since, strict=True) if a + b > 0]
    n_then, n_since = sum(a for a, _ in pairs), sum(b for _, b in pairs)
    expected = sum(
        (b / n_since - a / n_then) * math.log((b / n_since) / (a / n_then)) for a, b in pairs
    )
    assert index == pytest.approx(expected)


def test_data_without_drift_are_below_what_chance_explains_and_data_with_it_above(
    generator: np.random.Generator,
) -> None:
    then = generator.normal(size=2000)
    edges = quantile_edges(then)
    counts = bin_counts(then, edges)
    samples = [bin_counts(generator.normal(size=60), edges) for _ in range(400)]
    moved = bin_counts(generator.normal(1.0, size=60), edges)

    above = [
        stability_index(counts, since) > stability_by_chance(counts, since) for since in samples
    ]

    assert np.mean(above) < 0.03
    assert stability_index(counts, moved) > max(0.25, stability_by_chance(counts, moved))


def test_what_chance_explains_is_the_quantile_of_chi_squared() -> None:
    then, since = np.full(10, 100), np.full(10, 20)

    bound = stability_by_chance(then, since)

    assert bound == pytest.approx(chi2.ppf(0.99, 9) * (1 / 1000 + 1 / 200), rel=0.01)


def test_the_area_is_scikit_learns(generator: np.random.Generator) -> None:
    scores = np.round(generator.normal(size=200), 1)
    is_positive = generator.random(200) < 0.3

    area = area_under_curve(scores, is_positive)

    assert area == pytest.approx(roc_auc_score(is_positive, scores))


def test_the_classifier_is_scikit_learns_with_both_sets_weighing_the_same(
    generator: np.random.Generator,
) -> None:
    then, since = generator.normal(size=(90, 12)), generator.normal(0.3, 1, size=(40, 12))

    told = told_apart(then, since, seed=3)

    rows, target = np.concatenate([then, since]), np.repeat([-1.0, 1.0], [90, 40])
    folds, areas = _folds(90, 40, seed=3), []
    for fold in range(N_FOLDS):
        fit, held = folds != fold, folds == fold
        weights = np.where(
            target[fit] > 0, 0.5 / (target[fit] > 0).sum(), 0.5 / (target[fit] < 0).sum()
        )
        centred = rows[fit] - np.average(rows[fit], axis=0, weights=weights)
        spread = np.average(centred**2, axis=0, weights=weights).mean()
        model = Ridge(alpha=RIDGE * spread).fit(rows[fit], target[fit], sample_weight=weights)
        areas.append(roc_auc_score(target[held] > 0, model.predict(rows[held])))
    assert told == pytest.approx(np.mean(areas), abs=1e-9)


def test_like_sets_are_not_told_apart_and_other_ones_are(generator: np.random.Generator) -> None:
    then, like = generator.normal(size=(300, 20)), generator.normal(size=(100, 20))

    assert told_apart(then, like, seed=0) < told_apart_by_chance(300, 100) < 0.6
    assert told_apart(then, like + 3, seed=0) == 1.0


def test_the_same_seed_gives_the_same_figure(generator: np.random.Generator) -> None:
    then, since = generator.normal(size=(40, 6)), generator.normal(size=(20, 6))

    figures = {told_apart(then, since, seed=5) for _ in range(3)}

    assert len(figures) == 1
    assert told_apart(then, since, seed=6) not in figures
