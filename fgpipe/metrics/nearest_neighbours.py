"""What the nearest labelled images say about an image: a classifier without training.

How often it is right tells how well an embedding parts the classes before any head has
learnt to use it.
"""

import numpy as np
from jaxtyping import Float32, Int64

N_NEIGHBOURS = 20

TEMPERATURE = 0.07
"""A neighbour's vote weighs ``exp(cosine / TEMPERATURE)``."""

ROWS_AT_ONCE = 1024
"""Rows whose similarities to all others are in memory together."""


def nearest_neighbour_classes(
    rows: Float32[np.ndarray, "rows features"],
    *,
    known: Float32[np.ndarray, "known features"],
    targets: Int64[np.ndarray, " known"],
    n_classes: int,
    n_neighbours: int = N_NEIGHBOURS,
) -> Int64[np.ndarray, " rows"]:
    """The class that each row's nearest known rows vote for.

    Args:
        rows: Embeddings of any length but 0; their direction alone counts.
        known: Those whose class is known, at least one.
        targets: The class of each of them, an integer from 0.
        n_classes: How many there are.
        n_neighbours: Known rows with a vote, or all if there are fewer. Of equally near
            ones the first counts; of classes with equal votes the lowest.

    Cost: ``rows * known * features`` multiplications.

    Source: Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance
    Discrimination", with the 20 neighbours of Caron et al., "Emerging Properties in
    Self-Supervised Vision Transformers".
    """
    known_units = unit_rows(known).T
    n_voters = min(n_neighbours, len(known))
    classes = np.empty(len(rows), dtype=np.int64)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        similarities = unit_rows(rows[start : start + ROWS_AT_ONCE]) @ known_units
        nearest = np.argsort(-similarities, axis=1, kind="stable")[:, :n_voters]
        # Less the largest, which changes no order: exp(1 / 0.07) is above a million.
        largest = similarities.max(axis=1, keepdims=True)
        weights = np.exp((np.take_along_axis(similarities, nearest, 1) - largest) / TEMPERATURE)
        votes = np.zeros((len(nearest), n_classes))
        np.add.at(votes, (np.arange(len(nearest))[:, None], targets[nearest]), weights)
        classes[start : start + ROWS_AT_ONCE] = votes.argmax(axis=1)
    return classes


def unit_rows(
    rows: Float32[np.ndarray, "rows features"],
) -> Float32[np.ndarray, "rows features"]:
    """Each row with length 1; a row of zeros stays."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Float32[np.ndarray, "rows features"] = rows / np.where(lengths > 0, lengths, 1)
    return unit
