"""Batch statistics where activations are computed twice.

A forward pass that the backward pass repeats would count its batch twice in the running mean
and variance of batch norm, and the trained network would be another one than without.
"""

from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def keep_statistics(network: nn.Module) -> None:
    """Let no batch norm of a network learn from a pass that repeats another.

    Args:
        network: Changed in place, for good.
    """
    for layer in network.modules():
        if isinstance(layer, _BatchNorm):
            layer.register_forward_pre_hook(_hold)
            # Always: torch breaks the repeated pass off, by an exception, at the last tensor that
            # it needs, which may be this layer's.
            layer.register_forward_hook(_release, always_call=True)


def _hold(layer: nn.Module, _: object) -> None:
    """Set the momentum to 0, at which a batch counts for nothing.

    Without statistics it would count for nothing either, but the pass must keep the same
    tensors as the one it repeats.
    """
    if _in_backward() and layer.training:
        held: Any = layer
        held.momentum_held, held.momentum = held.momentum, 0.0


def _release(layer: nn.Module, *_: object) -> None:
    """Set it back."""
    if _in_backward() and layer.training:
        held: Any = layer
        held.momentum = held.momentum_held
        held.num_batches_tracked.sub_(1)


def _in_backward() -> bool:
    """Whether this thread runs a backward pass; torch's own checkpointing asks the same."""
    return bool(torch._C._current_graph_task_id() != -1)  # noqa: SLF001 - it has no public name
