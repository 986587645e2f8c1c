"""Means over repeats of a training, and differences of two methods paired by repeat.

A repeat is one training with a seed (or a fold) of its own. The interval of a mean is
Student's t ("The Probable Error of a Mean", 1908), and of a difference the same over what
each repeat differs by: what makes a repeat hard for both methods drops out of it.

Repeats are taken as independent. Trainings on overlapping images are not quite, and
intervals over folds or random splits of the same images are somewhat too narrow (Nadeau
and Bengio, "Inference for the Generalization Error", 2003).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64
from scipy.stats import t as student

from fgpipe.errors import DataError

CONFIDENCE_LEVEL = 0.95
"""Of every interval over repeats."""

MIN_REPEATS = 3
"""With fewer there is no interval: the t of two repeats at 95 % is 12.7 deviations wide."""

Judgement = Literal["better", "worse", "undecided", "too few"]
"""What the interval of a difference says; ``undecided``: it includes 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatedFigure:
    """A figure over repeats."""

    mean: float
    """Of the repeats."""
    low: float | None
    """Lower end of the interval; None with fewer than :data:`MIN_REPEATS`."""
    high: float | None
    """Upper end of it."""
    n: int
    """Repeats behind it."""


def over_repeats(
    values: Float64[np.ndarray, " repeats"], *, confidence_level: float = CONFIDENCE_LEVEL
) -> RepeatedFigure:
    """The mean, with its t interval where there are repeats enough.

    Args:
        values: One a repeat.
        confidence_level: Share of such intervals that hold the true mean, between 0 and 1.

    Raises:
        DataError: If there is no value.
    """
    n = len(values)
    if n == 0:
        raise DataError("a mean over repeats needs at least one of them; run the benchmark first")
    mean = float(values.mean())
    if n < MIN_REPEATS:
        return RepeatedFigure(mean=mean, low=None, high=None, n=n)
    error = float(values.std(ddof=1)) / n**0.5
    half = float(student.ppf((1 + confidence_level) / 2, df=n - 1)) * error
    return RepeatedFigure(mean=mean, low=mean - half, high=mean + half, n=n)


def paired_difference(
    values: Mapping[str, float],
    others: Mapping[str, float],
    *,
    confidence_level: float = CONFIDENCE_LEVEL,
) -> RepeatedFigure | None:
    """The mean of what each repeat that both have differs by; None where they share none.

    Args:
        values: By name of the repeat.
        others: What is subtracted.
        confidence_level: As for :func:`over_repeats`.
    """
    shared = [name for name in values if name in others]
    if not shared:
        return None
    differences = np.array([values[name] - others[name] for name in shared], dtype=np.float64)
    return over_repeats(differences, confidence_level=confidence_level)


def judge(difference: RepeatedFigure) -> Judgement:
    """What a difference says of a measure of which more is better."""
    if difference.low is None or difference.high is None:
        return "too few"
    if difference.low > 0:
        return "better"
    return "worse" if difference.high < 0 else "undecided"
