"""Whether a probability means what it says, and the temperature that mends it.

Source: Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks"
(2017): one temperature divides all logits, and the calibration error compares the
probability of the best class with how often that class is right, in bins of equal width
that exclude their lower end and include their upper one.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int64

TEMPERATURE_RANGE = (0.1, 10.0)
"""Temperatures that are tried. Where the calibration images are all right (or their
likelihood is best with no confidence at all), the best temperature is 0 (or infinite): a
few images would make every later answer certain (or blank)."""

MIN_PROBABILITY = 1e-12
"""Lowest probability in a logarithm, so that one image costs at most 27.6 nats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliabilityBin:
    """Images whose best class has about the same probability."""

    low: float
    """Probabilities above this ..."""
    high: float
    """... and up to this."""
    n_images: int
    """How many there are, at least one."""
    confidence: float
    """Mean probability of their best class."""
    accuracy: float
    """Share of them whose best class is right."""


def softmax(
    logits: Float[np.ndarray, "images classes"], *, temperature: float = 1.0
) -> Float64[np.ndarray, "images classes"]:
    """Probabilities of logits divided by ``temperature``; rows sum to 1.

    Args:
        logits: Any finite numbers.
        temperature: Above 0; above 1 spreads the probabilities, below 1 sharpens them.
    """
    assert temperature > 0, temperature
    scaled = logits.astype(np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def fit_temperature(
    logits: Float[np.ndarray, "images classes"], targets: Int64[np.ndarray, " images"]
) -> float:
    """The temperature under which the right classes are most likely.

    The mean negative log likelihood is convex in the inverse of the temperature, so the
    sign of its slope is bisected; no start value or step size can lead it astray.

    Args:
        logits: Of images that no training step has seen.
        targets: Their true classes.

    Returns:
        A temperature within :data:`TEMPERATURE_RANGE`: an end of it where the likelihood
        still rises there, as with images that are all right.
    """
    assert len(targets) > 0, "no images"
    coldest, hottest = np.log(TEMPERATURE_RANGE)
    if _rises_when_sharper(logits, targets, temperature=TEMPERATURE_RANGE[0]):
        return TEMPERATURE_RANGE[0]
    if not _rises_when_sharper(logits, targets, temperature=TEMPERATURE_RANGE[1]):
        return TEMPERATURE_RANGE[1]
    for _ in range(40):
        middle = (coldest + hottest) / 2
        if _rises_when_sharper(logits, targets, temperature=float(np.exp(middle))):
            hottest = middle
        else:
            coldest = middle
    return float(np.exp((coldest + hottest) / 2))


def _rises_when_sharper(
    logits: Float[np.ndarray, "images classes"],
    targets: Int64[np.ndarray, " images"],
    *,
    temperature: float,
) -> bool:
    """Whether a lower temperature makes the right classes more likely."""
    expected = (softmax(logits, temperature=temperature) * logits).sum(axis=1)
    right = logits[np.arange(len(targets)), targets].astype(np.float64)
    return bool(np.mean(right - expected) > 0)


def negative_log_likelihood(
    probabilities: Float64[np.ndarray, "images classes"], targets: Int64[np.ndarray, " images"]
) -> Float64[np.ndarray, " images"]:
    """Negative natural logarithm of each image's right class's probability.

    A probability below :data:`MIN_PROBABILITY` counts as that.
    """
    right = probabilities[np.arange(len(targets)), targets]
    return np.asarray(-np.log(np.maximum(right, MIN_PROBABILITY)))


def log_loss(
    probabilities: Float64[np.ndarray, "images classes"], targets: Int64[np.ndarray, " images"]
) -> float:
    """Mean of :func:`negative_log_likelihood`."""
    return float(negative_log_likelihood(probabilities, targets).mean())


def bins_of(
    confidence: Float64[np.ndarray, " images"], *, n_bins: int
) -> Int64[np.ndarray, " images"]:
    """Which of ``n_bins`` bins of equal width each probability is in, from 0."""
    edges = np.linspace(0, 1, n_bins + 1)[1:-1]
    return np.searchsorted(edges, confidence, side="left").astype(np.int64)


def reliability_curve(
    probabilities: Float64[np.ndarray, "images classes"],
    targets: Int64[np.ndarray, " images"],
    *,
    n_bins: int,
) -> tuple[ReliabilityBin, ...]:
    """What the best class's probability promises and what it keeps, bin by bin.

    Bins without images are left out. The calibration error is the mean gap between
    confidence and accuracy, each bin weighted by its images.

    Args:
        probabilities: Rows sum to 1.
        targets: The true class of each image.
        n_bins: Bins of equal width between 0 and 1.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == targets
    bins = bins_of(confidence, n_bins=n_bins)
    return tuple(
        ReliabilityBin(
            low=int(index) / n_bins,
            high=(int(index) + 1) / n_bins,
            n_images=int(np.sum(bins == index)),
            confidence=float(confidence[bins == index].mean()),
            accuracy=float(right[bins == index].mean()),
        )
        for index in np.unique(bins)
    )
