"""How much of their space embeddings use: what falls when a network gives all images one row.

A network that learns from images alone can please its loss by making no difference between
them (collapse), or by telling them apart in a few directions only.
"""

import numpy as np
from jaxtyping import Float32, Float64

from fgpipe.metrics.nearest_neighbours import unit_rows

Rows = Float32[np.ndarray, "rows features"]


def spread(rows: Rows) -> float:
    """Mean deviation of the channels of rows of unit length, as a share of the largest.

    Returns:
        0 where all rows point one way, 1 where they point all ways alike. Rows without
        negative numbers, as after a ReLU, stay below 1.

    Source: Chen and He, "Exploring Simple Siamese Representation Learning", where it is
    not yet multiplied with the square root of the number of channels.
    """
    deviations = unit_rows(rows).std(axis=0, dtype=np.float64)
    return float(deviations.mean() * np.sqrt(rows.shape[1]))


def effective_rank(rows: Rows) -> float:
    """In how many directions rows of unit length differ, those that matter little counting less.

    Returns:
        From 1 (one direction, or no difference at all) to the number of channels: the
        exponential of the entropy of the singular values' shares.

    Cost: ``rows * features**2`` multiplications, and as many as ``10 * features**3``.

    Source: Roy and Vetterli, "The effective rank: a measure of effective dimensionality".
    Differs in taking the mean away first, which else is the largest direction.
    """
    units = unit_rows(rows).astype(np.float64)
    centred = units - units.mean(axis=0)
    variances = np.linalg.eigvalsh(centred.T @ centred)
    singular: Float64[np.ndarray, " features"] = np.sqrt(np.maximum(variances, 0.0))
    if singular.max() <= 1e-6 * np.sqrt(len(rows)):  # rounding errors, which have directions
        return 1.0
    shares = singular / singular.sum()
    shares = shares[shares > 0]
    return float(np.exp(-np.sum(shares * np.log(shares))))
