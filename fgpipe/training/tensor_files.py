"""Tensors by name in one file: safetensors, replaced by a rename, nothing pickled."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fgpipe.records import write_atomically

Tensors = dict[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorFile:
    """What one holds."""

    tensors: Tensors
    """By name."""
    metadata: dict[str, str]
    """What is no tensor."""


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], *, metadata: Mapping[str, str]
) -> None:
    """Write a file of tensors, from whatever device they are on."""
    # Safetensors refuses two names for one piece of memory: each is copied, once.
    copies = {
        name: value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, value in tensors.items()
    }
    write_atomically(path, save(copies, metadata=dict(metadata)))


def read_tensors(path: Path) -> TensorFile | None:
    """Read what :func:`write_tensors` wrote; None if there is no such file."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            return TensorFile(tensors=tensors, metadata=file.metadata())
    except (OSError, SafetensorError):
        return None


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> Tensors:
    """The state of an optimiser, but for its rates."""
    tensors: Tensors = {}
    for index, values in optimiser.state_dict()["state"].items():
        tensors |= under(str(index), values)
    return tensors


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give an optimiser the state that :func:`optimiser_tensors` took."""
    parameters = [each for group in optimiser.param_groups for each in group["params"]]
    of_parameter: dict[int, Tensors] = {}
    for name, value in tensors.items():
        index, key = name.split(".", 1)
        of_parameter.setdefault(int(index), {})[key] = _laid_out_as(parameters[int(index)], value)
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": of_parameter, "param_groups": groups})


def _laid_out_as(parameter: Tensor, value: Tensor) -> Tensor:
    """With the parameter's strides: fused optimisers take all tensors to lie as it does."""
    if value.shape != parameter.shape:
        return value
    return torch.empty_like(parameter, dtype=value.dtype, device=value.device).copy_(value)


def under(prefix: str, tensors: Mapping[str, Tensor]) -> Tensors:
    """With a prefix before each name."""
    return {f"{prefix}.{name}": value for name, value in tensors.items()}


def below(prefix: str, tensors: Mapping[str, Tensor]) -> Tensors:
    """Those with that prefix, without it."""
    start = f"{prefix}."
    return {
        name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)
    }
