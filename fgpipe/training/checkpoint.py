"""Checkpoints: where a killed training goes on, exactly.

One safetensors file an epoch, replaced by a rename, in a folder named by all that the
training depends on: inputs, parameters and code. A training with anything else different
never finds it.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import TypeAdapter
from torch import Tensor

from fgpipe.errors import UnavailableError
from fgpipe.records import EpochFigures
from fgpipe.training.averaging import MovingAverage
from fgpipe.training.steps import Stepper
from fgpipe.training.tensor_files import (
    below,
    optimiser_tensors,
    read_tensors,
    restore_optimiser,
    under,
    write_tensors,
)

CODE = ("images", "metrics", "nn", "stages/train.py", "training")
"""What of the package decides the weights: see :func:`fgpipe.training.input_key.input_key`."""

CURVES = TypeAdapter(tuple[EpochFigures, ...])

Weights = dict[str, Tensor]


@contextmanager
def taken(folder: Path) -> Iterator[None]:
    """Keep others off the checkpoints of one training, which they would share.

    Args:
        folder: Named by all that the training depends on; may be removed meanwhile.

    Raises:
        UnavailableError: If another process is at it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UnavailableError(
            "another process is at this very training, with the same data, parameters and code; "
            "wait for it to end"
        ) from None
    try:
        yield
    finally:
        lock.release()


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


def save_state(path: Path, state: State) -> None:
    """Write all that the next epoch depends on."""
    stepper, progress = state.stepper, state.progress
    tensors = under("network", stepper.network.state_dict())
    tensors |= under("optimiser", optimiser_tensors(stepper.optimiser))
    if state.average is not None:
        tensors |= under("average", state.average.weights)
    for epoch, weights in progress.kept.items():
        tensors |= under(f"kept.{epoch}", weights)
    metadata = {
        "curves": CURVES.dump_json(progress.curves).decode(),
        "n_parts": str(stepper.n_parts),
        "scaler": json.dumps(stepper.scaler.state_dict()),
    }
    write_tensors(path, tensors, metadata=metadata)


def restore_state(path: Path, state: State) -> bool:
    """Take a training up where ``path`` left it; False if there is nothing to take up.

    Args:
        path: What :func:`save_state` wrote.
        state: Changed in place.
    """
    file = read_tensors(path)
    if file is None:
        return False
    stepper = state.stepper
    stepper.network.load_state_dict(below("network", file.tensors))
    restore_optimiser(stepper.optimiser, below("optimiser", file.tensors))
    stepper.n_parts = int(file.metadata["n_parts"])
    stepper.scaler.load_state_dict(json.loads(file.metadata["scaler"]))
    if state.average is not None:
        for name, value in below("average", file.tensors).items():
            state.average.weights[name].copy_(value)
    kept: dict[int, Weights] = {}
    for name, value in below("kept", file.tensors).items():
        epoch, key = name.split(".", 1)
        kept.setdefault(int(epoch), {})[key] = value
    state.progress = Progress(curves=CURVES.validate_json(file.metadata["curves"]), kept=kept)
    return True
