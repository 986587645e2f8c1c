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
from torch import Tensor

from fgpipe.records import EpochFigures, write_atomically
from fgpipe.training.averaging import MovingAverage
from fgpipe.training.steps import Stepper

CODE = ("images", "nn", "stages/train.py", "training")
"""What of the package decides the weights."""

CURVES = TypeAdapter(tuple[EpochFigures, ...])

Weights = dict[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a training is."""

    curves: tuple[EpochFigures, ...]
    """One entry an epoch done."""
    kept: Mapping[int, Weights]
    """The network's state after the epochs with the lowest validation loss."""

    @property
    def best_epoch(self) -> int:
        """The one with the lowest validation loss; 0 before the first."""
        best = min(self.curves, key=lambda figures: figures.validation_loss, default=None)
        return 0 if best is None else best.epoch


@dataclass(slots=True, kw_only=True)
class State:
    """All that the next epoch depends on, beside the data and the parameters."""

    stepper: Stepper
    """Network and optimiser."""
    average: MovingAverage | None
    """Of the network's weights, if any is kept."""
    progress: Progress
    """The epochs done."""


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


def save_state(path: Path, state: State) -> None:
    """Write all that the next epoch depends on."""
    stepper, progress = state.stepper, state.progress
    tensors = _under("network", stepper.network.state_dict())
    for index, values in stepper.optimiser.state_dict()["state"].items():
        tensors |= _under(f"optimiser.{index}", values)
    if state.average is not None:
        tensors |= _under("average", state.average.weights)
    for epoch, weights in progress.kept.items():
        tensors |= _under(f"kept.{epoch}", weights)
    metadata = {
        "curves": CURVES.dump_json(progress.curves).decode(),
        "n_parts": str(stepper.n_parts),
        "scaler": json.dumps(stepper.scaler.state_dict()),
    }
    # Safetensors refuses two names for one piece of memory: each is copied, once.
    copies = {
        name: value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, value in tensors.items()
    }
    write_atomically(path, save(copies, metadata=metadata))


def restore_state(path: Path, state: State) -> bool:
    """Take a training up where ``path`` left it; False if there is nothing to take up.

    Args:
        path: What :func:`save_state` wrote.
        state: Changed in place.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError):
        return False
    stepper = state.stepper
    stepper.network.load_state_dict(_below("network", tensors))
    of_parameter: dict[int, dict[str, Tensor]] = {}
    for name, value in _below("optimiser", tensors).items():
        index, key = name.split(".", 1)
        of_parameter.setdefault(int(index), {})[key] = value
    groups = stepper.optimiser.state_dict()["param_groups"]
    stepper.optimiser.load_state_dict({"state": of_parameter, "param_groups": groups})
    stepper.n_parts = int(metadata["n_parts"])
    if stepper.scaler.is_enabled():
        stepper.scaler.load_state_dict(json.loads(metadata["scaler"]))
    if state.average is not None:
        for name, value in _below("average", tensors).items():
            state.average.weights[name].copy_(value)
    kept: dict[int, Weights] = {}
    for name, value in _below("kept", tensors).items():
        epoch, key = name.split(".", 1)
        kept.setdefault(int(epoch), {})[key] = value
    state.progress = Progress(curves=CURVES.validate_json(metadata["curves"]), kept=kept)
    return True


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": value for name, value in tensors.items()}


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {
        name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)
    }
