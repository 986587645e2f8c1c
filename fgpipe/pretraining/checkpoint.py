"""Where a killed pretraining goes on, exactly: one file an epoch, replaced by a rename."""

from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import TypeAdapter

from fgpipe.pretraining.methods import Learner
from fgpipe.records import PretrainingFigures
from fgpipe.training.tensor_files import (
    Tensors,
    below,
    optimiser_tensors,
    read_tensors,
    restore_optimiser,
    under,
    write_tensors,
)

CODE = (
    "images",
    "metrics",
    "nn/backbones.py",
    "nn/depthwise.py",
    "nn/initial_weights.py",
    "nn/pixel_input.py",
    "nn/recomputation.py",
    "nn/seed_cnn.py",
    "nn/timm_networks.py",
    "pretraining",
    "stages/pretrain.py",
    "training",
)
"""What of the package decides the weights."""

CURVES = TypeAdapter(tuple[PretrainingFigures, ...])


@dataclass(slots=True, kw_only=True)
class Progress:
    """All that the next epoch depends on, beside the images and the parameters."""

    learner: Learner
    """The network that learns, with its heads and its teacher."""
    optimiser: torch.optim.Optimizer
    """Of its weights."""
    curves: tuple[PretrainingFigures, ...]
    """One entry an epoch done, and one before."""
    kept: Tensors
    """The backbone's state after the epoch with the best neighbours; empty before one."""
    kept_epoch: int | None
    """That epoch."""


def save_progress(path: Path, progress: Progress) -> None:
    """Write it."""
    tensors = under("learner", progress.learner.state_dict())
    tensors |= under("optimiser", optimiser_tensors(progress.optimiser))
    tensors |= under("kept", progress.kept)
    metadata = {
        "curves": CURVES.dump_json(progress.curves).decode(),
        "kept_epoch": str(progress.kept_epoch or ""),
    }
    write_tensors(path, tensors, metadata=metadata)


def restore_progress(path: Path, progress: Progress) -> bool:
    """Take a pretraining up where ``path`` left it; False if there is nothing to take up.

    Args:
        path: What :func:`save_progress` wrote.
        progress: Changed in place.
    """
    file = read_tensors(path)
    if file is None:
        return False
    progress.learner.load_state_dict(below("learner", file.tensors))
    restore_optimiser(progress.optimiser, below("optimiser", file.tensors))
    progress.kept = below("kept", file.tensors)
    progress.curves = CURVES.validate_json(file.metadata["curves"])
    kept_epoch = file.metadata["kept_epoch"]
    progress.kept_epoch = int(kept_epoch) if kept_epoch else None
    return True
