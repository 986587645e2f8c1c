"""What a training is given: images with targets, and how to learn from them."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int64

from fgpipe.images.batches import Pixels, Rows, Targets
from fgpipe.training.mixing import Mix
from fgpipe.training.optimisers import OptimiserName

Averaging = Literal["none", "ema", "soup"]
Sampling = Literal["uniform", "balanced"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """What there is to learn from."""

    pixels: Pixels
    """All images, memory-mapped."""
    targets: Targets
    """The class of each."""
    n_classes: int
    """How many classes there are."""
    parents: Int64[np.ndarray, " classes"] | None
    """The parent of each class, if the data name any."""
    train: Rows
    """Rows to train on."""
    validation: Rows
    """Rows that choose the epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How to learn; the fields are those of the ``train`` section."""

    mix: Mix | Literal["none"]
    mix_fraction: float
    mix_alpha: float
    sampling: Sampling
    head_epochs: int
    epochs: int
    low_size_px: int
    finish_epochs: int
    batch_size: int
    batch_parts: int
    optimiser: OptimiserName
    learning_rate: float
    backbone_rate: float
    layer_decay: float
    weight_decay: float
    warmup_fraction: float
    clip_norm: float
    averaging: Averaging
    ema_decay: float
    patience: int
    seed: int
    deterministic: bool
    compile: bool

    def counted(self, targets: Targets) -> Targets | None:
        """What decides how often a row is drawn: its target, or nothing."""
        return targets if self.sampling == "balanced" else None

    def size_px(self, epoch: int) -> int | None:
        """Side of the images of an epoch, counted from 1; None as they are."""
        is_low = self.low_size_px and epoch <= self.epochs - self.finish_epochs
        return self.low_size_px if is_low else None
