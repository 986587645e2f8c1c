"""Optimisers: torch's own, with a rate for each layer."""

from collections.abc import Iterable
from typing import Literal

import torch
from torch import nn

from fgpipe.nn.recogniser import Recogniser

OptimiserName = Literal["adamw", "nadam", "radam", "sgd"]

MOMENTUM = 0.9
"""Of ``sgd``, which takes Nesterov's."""


def create_optimiser(
    network: Recogniser,
    *,
    name: OptimiserName,
    learning_rate: float,
    backbone_rate: float,
    layer_decay: float,
    weight_decay: float,
) -> torch.optim.Optimizer:
    """An optimiser over what is not frozen; biases and norms are not decayed.

    Each group keeps its peak rate beside its current one; the head's come last.

    Args:
        network: A backbone whose rate is 0 is frozen here.
        name: Which one. The adaptive ones decay weights apart from the gradient.
        learning_rate: Peak rate of the head.
        backbone_rate: Peak rate of the backbone's last layer, as a fraction of it.
        layer_decay: What each layer's rate is multiplied with for the layer below it, above
            0 and at most 1: the nearer to the pixels, the less there is to learn anew.
        weight_decay: Share of a weight that a step at rate 1 takes away.

    Source: layer-wise rates from Howard and Ruder, "Universal Language Model Fine-tuning for
    Text Classification", by a constant factor as in Clark et al., "ELECTRA".
    """
    layers = network.backbone.layers()
    rates = [
        learning_rate * backbone_rate * layer_decay ** (len(layers) - 1 - depth)
        for depth in range(len(layers))
    ]
    if backbone_rate == 0:
        network.backbone.requires_grad_(requires_grad=False)
    groups: list[dict[str, object]] = []
    for parameters, rate in [
        *_joined(layers, rates),
        (list(network.head.parameters()), learning_rate),
    ]:
        groups += [
            {**group, "lr": rate, "peak_rate": rate}
            for group in decayed_apart(parameters, weight_decay=weight_decay)
        ]
    match name:
        case "adamw":
            return torch.optim.AdamW(groups, fused=True)  # a third of the time
        case "nadam":
            return torch.optim.NAdam(groups, decoupled_weight_decay=True)
        case "radam":
            return torch.optim.RAdam(groups, decoupled_weight_decay=True)
        case "sgd":
            return torch.optim.SGD(groups, momentum=MOMENTUM, nesterov=True)


def decayed_apart(
    parameters: Iterable[nn.Parameter], *, weight_decay: float
) -> list[dict[str, object]]:
    """What of the parameters learns, as groups of an optimiser; biases and norms not decayed."""
    learning = [parameter for parameter in parameters if parameter.requires_grad]
    groups: list[dict[str, object]] = []
    for decayed in (True, False):
        chosen = [parameter for parameter in learning if (parameter.ndim > 1) is decayed]
        if chosen:
            groups.append({"params": chosen, "weight_decay": weight_decay if decayed else 0.0})
    return groups


def _joined(
    layers: list[list[nn.Parameter]], rates: list[float]
) -> list[tuple[list[nn.Parameter], float]]:
    """Neighbouring layers of equal rate as one: fewer groups, fewer operations a step."""
    joined: list[tuple[list[nn.Parameter], float]] = []
    for layer, rate in zip(layers, rates, strict=True):
        if joined and joined[-1][1] == rate:
            joined[-1][0].extend(layer)
        else:
            joined.append((list(layer), rate))
    return joined


def set_rates(optimiser: torch.optim.Optimizer, factor: float) -> None:
    """Set each group's rate to a share of its peak."""
    for group in optimiser.param_groups:
        group["lr"] = group["peak_rate"] * factor
