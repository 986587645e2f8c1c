"""Intervals that resample groups, not images.

Images of one group resemble each other, so a thousand images of nine groups say little
more than nine observations do. Each resample draws as many groups as there are, with
replacement, and takes all images of each; the interval spans the middle of what the
figure comes to (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993: the
percentile method on clusters). With a handful of groups such intervals are somewhat too
narrow, and the figure itself may lie outside where it is biased under resampling, as the
calibration error is.

A figure is a function of *weights*: how often each group is drawn, one row a resample.
Figures of one call see the same resamples, which is what pairs two models.
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from jaxtyping import Float64

from fgpipe.errors import DataError
from fgpipe.records import Score

Weights = Float64[np.ndarray, "resamples groups"]
Figure = Callable[[Weights], Float64[np.ndarray, " resamples"]]

MIN_GROUPS = 2
"""Resampling one group gives the same images every time: an interval of no width."""

_CELLS_AT_ONCE = 2**22
"""Weights held in memory at a time (32 MiB)."""


def resample_groups(*, n_groups: int, n_bootstrap: int, seed: int) -> Iterator[Weights]:
    """How often each group is drawn, in blocks of resamples that fit in memory.

    Each resample is ``generator.integers(n_groups, size=n_groups)`` counted, one after
    the other from one generator of ``seed``, whatever the size of the blocks.
    """
    generator = np.random.default_rng(seed)
    block = max(1, _CELLS_AT_ONCE // n_groups)
    for start in range(0, n_bootstrap, block):
        n_rows = min(block, n_bootstrap - start)
        drawn = generator.integers(n_groups, size=(n_rows, n_groups))
        cells = drawn + np.arange(n_rows)[:, None] * n_groups
        counts = np.bincount(cells.ravel(), minlength=n_rows * n_groups)
        yield counts.reshape(n_rows, n_groups).astype(np.float64)


def bootstrap(
    figures: Mapping[str, Figure],
    *,
    n_groups: int,
    n_bootstrap: int,
    confidence_level: float,
    seed: int,
) -> dict[str, Score]:
    """Each figure on all groups, with its percentile interval over one set of resamples.

    Args:
        figures: By name.
        n_groups: Width of the weights.
        n_bootstrap: Resamples behind each interval.
        confidence_level: Share of the resamples inside, between 0 and 1.
        seed: Of the resampling.

    Raises:
        DataError: If there are fewer than two groups.
    """
    if n_groups < MIN_GROUPS:
        raise DataError(
            f"an interval needs images of at least {MIN_GROUPS} groups; there is {n_groups}: "
            "add groups, or give images that are independent groups of their own in labels.csv"
        )
    resamples: dict[str, list[Float64[np.ndarray, " resamples"]]] = {name: [] for name in figures}
    for weights in resample_groups(n_groups=n_groups, n_bootstrap=n_bootstrap, seed=seed):
        for name, figure in figures.items():
            resamples[name].append(figure(weights))
    tail = (1 - confidence_level) / 2
    whole = np.ones((1, n_groups))
    return {
        name: Score(
            value=float(figure(whole)[0]),
            low=float(np.quantile(np.concatenate(resamples[name]), tail)),
            high=float(np.quantile(np.concatenate(resamples[name]), 1 - tail)),
        )
        for name, figure in figures.items()
    }
