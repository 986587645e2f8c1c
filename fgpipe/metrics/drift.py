"""How far data are from other data: population stability index, and a classifier's area.

Both come with what data without drift stay below in 99 of 100 cases, since the few images
of a small addition differ from any large set by chance alone.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float64, Int64

N_BINS = 10
"""Bins of equally many images that a measure's values are sorted into."""

N_FOLDS = 5

RIDGE = 0.1
"""Penalty of the linear classifier, over the mean variance of a feature times the images."""

Counts = Int64[np.ndarray, " bins"]
Scores = Float64[np.ndarray, " images"]
Rows = Float64[np.ndarray, "images features"]
Then = Float64[np.ndarray, "then features"]
Since = Float64[np.ndarray, "since features"]

_NORMAL_99 = 2.3263


def quantile_edges(values: Float64[np.ndarray, " images"]) -> tuple[float, ...]:
    """Where to cut values into bins of equally many: smallest, inner cuts, largest.

    Args:
        values: At least one; equal ones are never parted.
    """
    inner = np.unique(np.quantile(values, np.arange(1, N_BINS) / N_BINS, method="lower"))
    return (float(values.min()), *(float(cut) for cut in inner), float(values.max()))


def bin_counts(values: Float64[np.ndarray, " images"], edges: Sequence[float]) -> Counts:
    """How many values lie in each bin.

    Args:
        values: Any.
        edges: As :func:`quantile_edges` gives them.

    Returns:
        Those below the smallest edge; up to the first cut and so on, each cut included;
        those above the largest.
    """
    smallest, *inner, largest = edges
    bins = 1 + np.searchsorted(inner, values, side="left")
    bins[values < smallest] = 0
    bins[values > largest] = len(inner) + 2
    return np.bincount(bins, minlength=len(inner) + 3).astype(np.int64)


def stability_index(then: Counts, since: Counts) -> float:
    """Population stability index of two histograms over the same bins.

    By custom below 0.1 is no change, above 0.25 a large one. Half an image is added to
    each bin that holds any, so that an empty one is not infinitely far.

    Args:
        then: Images in each bin of what is compared with.
        since: Of what is compared.
    """
    used = (then + since) > 0
    p, q = then[used] + 0.5, since[used] + 0.5
    p, q = p / p.sum(), q / q.sum()
    return float(np.sum((q - p) * np.log(q / p)))


def stability_by_chance(then: Counts, since: Counts) -> float:
    """What the index of two samples of one distribution stays below in 99 of 100 cases.

    It goes like chi-squared with a degree of freedom less than bins used, over the number
    of images; its quantile is Wilson and Hilferty's approximation.
    """
    n_free = max(1, int(np.count_nonzero(then + since)) - 1)
    part = 2 / (9 * n_free)
    quantile = n_free * (1 - part + _NORMAL_99 * math.sqrt(part)) ** 3
    return float(quantile * (1 / max(1, then.sum()) + 1 / max(1, since.sum())))


def told_apart(then: Then, since: Since, *, seed: int) -> float:
    """How well a linear classifier tells two sets of rows apart, cross-validated.

    Args:
        then: One set, at least :data:`N_FOLDS` rows.
        since: The other, at least as many.
        seed: Of the folds.

    Returns:
        Mean over the folds of the area under the curve of ridge regression on the rows it
        was not fitted to: 0.5 where they are alike, 1 where they can always be told.
    """
    rows = np.concatenate([then, since])
    is_since = np.repeat([False, True], [len(then), len(since)])
    folds = _folds(len(then), len(since), seed=seed)
    areas = []
    for fold in range(N_FOLDS):
        held = folds == fold
        scores = _ridge_scores(rows[~held], is_since[~held], rows[held])
        areas.append(area_under_curve(scores, is_since[held]))
    return float(np.mean(areas))


def told_apart_by_chance(n_then: int, n_since: int) -> float:
    """What that area stays below in 99 of 100 cases where the two sets are alike."""
    deviation = math.sqrt((n_then + n_since + 1) / (12 * n_then * n_since))
    return min(1.0, 0.5 + _NORMAL_99 * deviation)


def area_under_curve(scores: Scores, is_positive: Bool[np.ndarray, " images"]) -> float:
    """Share of the pairs of a positive and a negative whose scores are in that order.

    Ties count half.
    """
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    n_positive = int(is_positive.sum())
    n_negative = len(scores) - n_positive
    above = ranks[is_positive].sum() - n_positive * (n_positive + 1) / 2
    return float(above / (n_positive * n_negative))


def _folds(n_then: int, n_since: int, *, seed: int) -> Int64[np.ndarray, " images"]:
    """Each fold with its share of both sets."""
    generator = np.random.default_rng(seed)
    parts = [generator.permutation(np.arange(n) % N_FOLDS) for n in (n_then, n_since)]
    return np.concatenate(parts).astype(np.int64)


def _ridge_scores(
    rows: Rows, is_since: Bool[np.ndarray, " images"], held: Float64[np.ndarray, "held features"]
) -> Float64[np.ndarray, " held"]:
    """Both sets weigh the same, however many rows they have."""
    weights = np.where(is_since, 0.5 / is_since.sum(), 0.5 / (~is_since).sum())
    centre = weights @ rows
    centred = rows - centre
    covariance = centred.T @ (weights[:, None] * centred)
    penalty = RIDGE * max(float(np.trace(covariance)) / rows.shape[1], 1e-12)
    target = weights * np.where(is_since, 1.0, -1.0)
    slope = np.linalg.solve(covariance + penalty * np.eye(rows.shape[1]), centred.T @ target)
    scores: Float64[np.ndarray, " held"] = (held - centre) @ slope
    return scores
