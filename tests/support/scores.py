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
