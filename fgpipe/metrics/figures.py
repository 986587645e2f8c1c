"""Headline figures as functions of how often each group is drawn.

Sums over each group's images are taken once; a figure on a resample is then a ratio of
weighted sums of these, so that thousands of resamples cost a few small products. Counts
are exact in float64; other sums go through ``einsum``, whose order of adding does not
depend on the number of threads, as a matrix product's may.
"""

import numpy as np
from jaxtyping import Float64, Int64

from fgpipe.metrics.bootstrap import Figure, Weights
from fgpipe.metrics.calibration import bins_of, negative_log_likelihood

Groups = Int64[np.ndarray, " images"]


def sum_by_group(
    values: Float64[np.ndarray, " images"], *, groups: Groups
) -> Float64[np.ndarray, " groups"]:
    """Sum of the values of each group's images.

    Args:
        values: One an image.
        groups: The group of each image, as an integer from 0 without gaps.
    """
    return np.bincount(groups, weights=values)


def mean_figure(values: Float64[np.ndarray, " images"], *, groups: Groups) -> Figure:
    """The mean over images."""
    sums = sum_by_group(values, groups=groups)
    n_images = sum_by_group(np.ones(len(values)), groups=groups)

    def figure(weights: Weights) -> Float64[np.ndarray, " resamples"]:
        return np.asarray(np.einsum("rg,g->r", weights, sums) / (weights @ n_images))

    return figure


def macro_recall_figure(
    predictions: Int64[np.ndarray, " images"],
    targets: Int64[np.ndarray, " images"],
    *,
    groups: Groups,
) -> Figure:
    """Macro recall over the classes that have an image in the resample.

    A class whose few groups are not drawn drops out of that resample's mean.
    """
    n_images = _sum_by_group_and_cell(np.ones(len(targets)), cells=targets, groups=groups)
    right = _sum_by_group_and_cell(
        (predictions == targets).astype(np.float64), cells=targets, groups=groups
    )

    def figure(weights: Weights) -> Float64[np.ndarray, " resamples"]:
        n_drawn = weights @ n_images
        recalls = (weights @ right) / np.maximum(n_drawn, 1)
        return np.asarray(recalls.sum(axis=1) / (n_drawn > 0).sum(axis=1))

    return figure


def calibration_error_figure(
    probabilities: Float64[np.ndarray, "images classes"],
    targets: Int64[np.ndarray, " images"],
    *,
    groups: Groups,
    n_bins: int,
) -> Figure:
    """Expected calibration error of the best class, in bins of equal width."""
    confidence = probabilities.max(axis=1)
    excess = confidence - (probabilities.argmax(axis=1) == targets)
    gaps = _sum_by_group_and_cell(excess, cells=bins_of(confidence, n_bins=n_bins), groups=groups)
    n_images = sum_by_group(np.ones(len(targets)), groups=groups)

    def figure(weights: Weights) -> Float64[np.ndarray, " resamples"]:
        return np.asarray(
            np.abs(np.einsum("rg,gb->rb", weights, gaps)).sum(axis=1) / (weights @ n_images)
        )

    return figure


def log_loss_figure(
    probabilities: Float64[np.ndarray, "images classes"],
    targets: Int64[np.ndarray, " images"],
    *,
    groups: Groups,
) -> Figure:
    """Mean negative log probability of the right class."""
    return mean_figure(negative_log_likelihood(probabilities, targets), groups=groups)


def _sum_by_group_and_cell(
    values: Float64[np.ndarray, " images"],
    *,
    cells: Int64[np.ndarray, " images"],
    groups: Groups,
) -> Float64[np.ndarray, "groups cells"]:
    n_groups, n_cells = int(groups.max()) + 1, int(cells.max()) + 1
    sums = np.bincount(groups * n_cells + cells, weights=values, minlength=n_groups * n_cells)
    return sums.reshape(n_groups, n_cells)
