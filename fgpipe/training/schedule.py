"""The learning rate over a training: a linear rise, then a cosine to zero.

Source: Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts",
without restarts; the rise after Goyal et al., "Accurate, Large Minibatch SGD".
"""

import math


def rate_factor(step: int, *, n_steps: int, warmup_fraction: float) -> float:
    """What the peak rate is multiplied with at a step.

    Args:
        step: From 0 to ``n_steps - 1``.
        n_steps: Steps of the whole training.
        warmup_fraction: Share of them over which the factor rises to 1, 0 to below 1.

    Returns:
        Above 0, at most 1; it would be 0 at step ``n_steps``.
    """
    n_warmup = int(warmup_fraction * n_steps)
    if step < n_warmup:
        return (step + 1) / (n_warmup + 1)
    progress = (step - n_warmup) / (n_steps - n_warmup)
    return 0.5 * (1 + math.cos(math.pi * progress))
