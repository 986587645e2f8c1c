"""Checkpoints: where a killed training goes on, exactly.

One safetensors file an epoch, replaced by a rename, in a folder named by all that the
training depends on: inputs, parameters and code. A training with anything else different
never finds it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from fgpipe.records import EpochFigures, write_atomically

CODE = ("images", "nn", "stages/train.py", "training")
"""What of the package decides the weights."""

CURVES = TypeAdapter(tuple[EpochFigures, ...])


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a training is."""

    curves: tuple[EpochFigures, ...]
    """One entry an epoch done."""
    best_epoch: int
    """The one with the lowest validation loss."""
    best_weights: dict[str, Tensor]
    """The network's state after it."""


def input_key(*, inputs: Mapping[str, str], parameters: Mapping[str, object]) -> str:
    """A hash of all that a training depends on.

    Args:
        inputs: Hash of each record it reads.
        parameters: Its parameters, resolved, as plain data.
    """
    package = Path(__file__).parents[1]
    files = [path for part in CODE for path in _python_files(package / part)]
    code = {
        path.relative_to(package).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }
    content = json.dumps([dict(inputs), dict(parameters), code], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _python_files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(path.rglob("*.py"))


def save_checkpoint(
    path: Path, *, network: nn.Module, optimiser: torch.optim.Optimizer, progress: Progress
) -> None:
    """Write all that the next epoch depends on."""
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in progress.best_weights.items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": value for name, value in state.items()}
    metadata = {
        "curves": CURVES.dump_json(progress.curves).decode(),
        "best_epoch": str(progress.best_epoch),
    }
    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_atomically(path, save(contiguous, metadata=metadata))


def load_checkpoint(
    path: Path, *, network: nn.Module, optimiser: torch.optim.Optimizer
) -> Progress | None:
    """Take a training up where ``path`` left it; None if there is nothing to take up."""
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except SafetensorError:
        return None
    network.load_state_dict(_below("network.", tensors))
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in _below("optimiser.", tensors).items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = value
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": state, "param_groups": groups})
    return Progress(
        curves=CURVES.validate_json(metadata["curves"]),
        best_epoch=int(metadata["best_epoch"]),
        best_weights=_below("best.", tensors),
    )


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
