"""Averages of weights: over the steps of a training, and over its best epochs.

A training's last steps wander around a minimum; their mean lies nearer to it than any of
them, at no cost when the model serves.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

Weights = Mapping[str, Tensor]


class MovingAverage:
    """An exponential moving average of a network's state, its batch statistics included.

    Args:
        network: Whose state it starts from.
        decay: What a step keeps of it, below 1. It rises to that, so that the first
            weights are soon forgotten: ``(1 + step) / (10 + step)`` where that is less.

    Source: Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging";
    the rise is TensorFlow's.
    """

    def __init__(self, network: nn.Module, *, decay: float) -> None:
        self._decay = decay
        self.weights: dict[str, Tensor] = {}
        self.restart(network)

    def restart(self, network: nn.Module) -> None:
        """Start again from a network's state."""
        self.weights = {
            name: value.detach().clone() for name, value in network.state_dict().items()
        }

    @torch.no_grad()
    def update(self, network: nn.Module, *, step: int) -> None:
        """Take in the state after a step.

        Args:
            network: Whose state it is.
            step: From 0.
        """
        decay = min(self._decay, (1 + step) / (10 + step))
        pairs = [(self.weights[name], value) for name, value in network.state_dict().items()]
        averaged = [(mean, value) for mean, value in pairs if mean.is_floating_point()]
        torch._foreach_lerp_(
            [mean for mean, _ in averaged], [value for _, value in averaged], 1 - decay
        )
        for mean, value in pairs:
            if not mean.is_floating_point():  # counts of batches
                mean.copy_(value)


def mean_of(members: Sequence[Weights]) -> dict[str, Tensor]:
    """The mean of states, computed in float64; what is no floating-point number of the first."""
    first, *_ = members
    return {
        name: torch.stack([member[name].double() for member in members]).mean(dim=0).to(value.dtype)
        if value.is_floating_point()
        else value.clone()
        for name, value in first.items()
    }


def greedy_soup(
    members: Sequence[Weights], *, loss: Callable[[dict[str, Tensor]], float]
) -> tuple[dict[str, Tensor], tuple[int, ...]]:
    """The mean of as many states as make it better.

    Args:
        members: The best first.
        loss: Of a state, on validation; the lower the better.

    Returns:
        The mean, and the positions of those that are in it: the first, and each after it
        with which the loss was no higher than without.

    Source: Wortsman et al., "Model soups", its greedy one; there members are trainings of
    other parameters, here they are epochs of one.
    """
    chosen = [0]
    mean = dict(members[0])
    best = loss(mean)
    for position in range(1, len(members)):
        tried = mean_of([members[each] for each in (*chosen, position)])
        value = loss(tried)
        if value <= best:
            chosen.append(position)
            mean, best = tried, value
    return mean, tuple(chosen)
