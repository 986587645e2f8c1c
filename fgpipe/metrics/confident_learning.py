"""Which labels are probably wrong, from probabilities that did not see them.

Confident learning counts, for every pair of classes, the images given the one label that
look surely like the other, and takes as many of each pair for errors as those counts,
scaled to the whole data, say. Sure means: at least as probable as the class is on average
among the images that carry it, so that a class the model is never sure of is not judged
by the measure of one it always is.

Source: Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset
Labels", JAIR 70, 2021: the confident joint of equation 1, calibrated by equation 3, and
pruning by noise rate (method 4). As in the authors' cleanlab, an image whose own label is
the most probable one is no suspect, and the ranking is by normalised margin.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

Probabilities = Float[np.ndarray, "images classes"]
Targets = Int64[np.ndarray, " images"]

TIE = 1e-6
"""Slack under a threshold, so that an average of equal probabilities is reached by them."""

_IMAGES_AT_ONCE = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelErrors:
    """What the probabilities say about the labels."""

    suspects: Int64[np.ndarray, " suspects"]
    """Rows whose label is probably wrong, the most suspicious first."""
    joint: Float64[np.ndarray, "classes classes"]
    """Estimated number of images given the row's label that are truly of the column's."""


def find_label_errors(probabilities: Probabilities, targets: Targets) -> LabelErrors:
    """The rows whose label is probably wrong.

    Args:
        probabilities: Of each class, from a model that was not fitted to the row.
        targets: The labels as given. A class without rows is never suggested.
    """
    joint = estimated_joint(confident_joint(probabilities, targets), targets)
    chosen = _pruned_by_noise_rate(probabilities, targets, joint=joint)
    chosen &= probabilities.argmax(axis=1) != targets
    rows = np.flatnonzero(chosen)
    order = np.argsort(normalised_margins(probabilities[rows], targets[rows]), kind="stable")
    return LabelErrors(suspects=rows[order], joint=joint)


def confident_thresholds(
    probabilities: Probabilities, targets: Targets
) -> Float64[np.ndarray, " classes"]:
    """How probable each class is on average among its own rows; infinite without rows."""
    n_classes = probabilities.shape[1]
    own = probabilities[np.arange(len(targets)), targets].astype(np.float64)
    sums = np.bincount(targets, weights=own, minlength=n_classes)
    counts = np.bincount(targets, minlength=n_classes)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)


def confident_joint(
    probabilities: Probabilities, targets: Targets
) -> Int64[np.ndarray, "classes classes"]:
    """How many rows given one label (row) are surely of another (column).

    A row counts for the most probable of the classes that reach their threshold, if any.
    """
    n_classes = probabilities.shape[1]
    thresholds = confident_thresholds(probabilities, targets) - TIE
    counts = np.zeros(n_classes * n_classes, dtype=np.int64)
    for start in range(0, len(targets), _IMAGES_AT_ONCE):
        part = slice(start, start + _IMAGES_AT_ONCE)
        sure = np.where(probabilities[part] >= thresholds, probabilities[part], -1.0)
        best = sure.argmax(axis=1)
        reached = sure.max(axis=1) >= 0
        cells = targets[part][reached] * n_classes + best[reached]
        counts += np.bincount(cells, minlength=n_classes * n_classes)
    return counts.reshape(n_classes, n_classes)


def estimated_joint(
    counts: Int64[np.ndarray, "classes classes"], targets: Targets
) -> Float64[np.ndarray, "classes classes"]:
    """The confident joint scaled so that its rows sum to the classes' numbers of rows.

    Each class with rows counts at least one as rightly labelled, as in cleanlab.
    """
    n_given = np.bincount(targets, minlength=len(counts))
    counts = counts.astype(np.float64)
    np.fill_diagonal(counts, np.maximum(counts.diagonal(), n_given > 0))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return np.asarray(shares * n_given[:, np.newaxis])


def normalised_margins(
    probabilities: Probabilities, targets: Targets
) -> Float64[np.ndarray, " images"]:
    """Probability of the label given minus that of the likeliest other: -1 to 1."""
    rows = np.arange(len(targets))
    others = probabilities.astype(np.float64)
    own = others[rows, targets].copy()
    others[rows, targets] = -np.inf
    return np.asarray(own - others.max(axis=1, initial=-np.inf))


def _pruned_by_noise_rate(
    probabilities: Probabilities, targets: Targets, *, joint: Float64[np.ndarray, "classes classes"]
) -> Bool[np.ndarray, " images"]:
    """Of each pair of classes as many rows as the joint says, by margin between the two."""
    chosen = np.zeros(len(targets), dtype=bool)
    for given in range(len(joint)):
        rows = np.flatnonzero(targets == given)
        n_errors = np.rint(joint[given]).astype(np.int64)
        n_errors[given] = 0
        for true in np.flatnonzero(n_errors):
            margins = probabilities[rows, true] - probabilities[rows, given]
            order = np.argsort(-margins, kind="stable")
            chosen[rows[order[: n_errors[true]]]] = True
    return chosen
