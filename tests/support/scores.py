"""Made-up model outputs, drawn from a seed."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from fgpipe.metrics.calibration import softmax


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """What a model says about images, and the truth."""

    logits: Float64[np.ndarray, "images classes"]
    probabilities: Float64[np.ndarray, "images classes"]
    targets: Int64[np.ndarray, " images"]
    groups: Int64[np.ndarray, " images"]


def outputs(
    *,
    n_images: int = 200,
    n_classes: int = 4,
    n_groups: int = 9,
    seed: int = 0,
    strength: float = 1.5,
) -> Outputs:
    """Logits that favour the right class by ``strength``; some groups are harder."""
    generator = np.random.default_rng(seed)
    targets = generator.integers(n_classes, size=n_images)
    groups = generator.integers(n_groups, size=n_images)
    logits = generator.normal(size=(n_images, n_classes))
    ease = strength * generator.uniform(0.3, 1.7, size=n_groups)
    logits[np.arange(n_images), targets] += ease[groups]
    return Outputs(logits=logits, probabilities=softmax(logits), targets=targets, groups=groups)


def calibration_error_by_hand(
    probabilities: Float64[np.ndarray, "images classes"],
    targets: Int64[np.ndarray, " images"],
    *,
    n_bins: int,
) -> float:
    """Guo et al., equation 3, bin by bin and image by image."""
    error = 0.0
    for index in range(n_bins):
        confidences, rights = [], []
        for row, target in zip(probabilities, targets, strict=True):
            confidence = max(row)
            if index / n_bins < confidence <= (index + 1) / n_bins:
                confidences.append(confidence)
                rights.append(float(row[target] == confidence))
        if confidences:
            gap = abs(sum(rights) / len(rights) - sum(confidences) / len(confidences))
            error += len(rights) / len(targets) * gap
    return float(error)
