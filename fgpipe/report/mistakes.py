"""Which mistakes a person should look at: arrays in, rows out."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

Probabilities = Float64[np.ndarray, "images classes"]
Targets = Int64[np.ndarray, " images"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfusedPair:
    """A class that is often taken for another."""

    actual: int
    """The true class."""
    given: int
    """The class it is taken for."""
    n_images: int
    """How often."""
    share: float
    """Of the true class's images."""
    rows: tuple[int, ...]
    """Images where it happened, the surest first."""


def confused_pairs(
    probabilities: Probabilities, targets: Targets, *, n_pairs: int, n_rows: int
) -> tuple[ConfusedPair, ...]:
    """The pairs of classes that are confused most often, the most frequent first.

    Args:
        probabilities: Rows sum to 1.
        targets: True classes.
        n_pairs: Most pairs to give.
        n_rows: Most images a pair.
    """
    given = probabilities.argmax(axis=1)
    order = worst_mistakes(probabilities, targets, n_rows=len(targets))
    pairs: dict[tuple[int, int], list[int]] = {}
    for row in order:
        pairs.setdefault((int(targets[row]), int(given[row])), []).append(row)
    ranked = sorted(pairs.items(), key=lambda item: (-len(item[1]), item[0]))
    return tuple(
        ConfusedPair(
            actual=actual,
            given=taken,
            n_images=len(rows),
            share=len(rows) / int(np.sum(targets == actual)),
            rows=tuple(rows[:n_rows]),
        )
        for (actual, taken), rows in ranked[:n_pairs]
    )


def worst_mistakes(
    probabilities: Probabilities, targets: Targets, *, n_rows: int
) -> tuple[int, ...]:
    """Rows that are given a wrong class, the one that is surest of it first.

    Args:
        probabilities: Rows sum to 1.
        targets: True classes.
        n_rows: Most rows to give.
    """
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != targets)
    order = np.argsort(-probabilities[wrong].max(axis=1), kind="stable")
    return tuple(int(row) for row in wrong[order][:n_rows])
