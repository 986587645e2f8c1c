"""One update of the weights, in as many parts as memory needs."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from fgpipe.errors import PipelineError
from fgpipe.nn.losses import Criterion
from fgpipe.nn.recogniser import Recogniser
from fgpipe.training.distributed import ALONE, Objective, Team, shared
from fgpipe.training.finite import gradient_scaler, is_spoiled, refuse
from fgpipe.training.memory import is_out_of_memory, release_memory
from fgpipe.training.precision import half_precision

Images = UInt8[Tensor, "batch height width 3"]
Targets = Float[Tensor, "batch classes"]


@dataclass(slots=True, kw_only=True)
class Stepper:
    """Updates a network from batches."""

    network: Recogniser
    optimiser: torch.optim.Optimizer
    criterion: Criterion
    precision: str
    """``fp32``, ``bf16`` or ``fp16``."""
    team: Team = ALONE
    """The processes that share each batch."""
    clip_norm: float
    """Longest gradient over all weights; 0 for any."""
    keep_in: Path | None
    """Folder for a batch whose loss or gradient is not finite; None keeps none."""
    n_parts: int = 1
    """Parts that a process's share of a batch is taken in, their gradients summed: twice as
    many each time that memory runs out, if there is one process."""
    objective: nn.Module = field(init=False)
    """From a batch to its loss, the gradients averaged over the team's processes."""
    scaler: torch.amp.GradScaler = field(init=False)
    """Leaves out updates by gradients that are not finite."""
    last: dict[str, Tensor] = field(init=False, default_factory=dict)
    """The batch of the last update, whose gradient is not looked at yet."""

    def __post_init__(self) -> None:
        self.scaler = gradient_scaler(self.device, self.precision)
        self.objective = Objective(self.network, self.criterion)

    def share(self) -> None:
        """Begin to share batches: every process goes on from the leader's weights."""
        self.objective = shared(Objective(self.network, self.criterion), self.team)

    def compile(self) -> None:
        """Have torch compile what the steps to come compute, for each size of batch by itself.

        Once for all sizes, an epoch's last batch would change how those after it are computed,
        and a training that resumes there would go on otherwise.
        """
        self.objective.compile(dynamic=False)

    @property
    def device(self) -> torch.device:
        """The network's."""
        return next(self.network.parameters()).device

    def step(self, images: Images, targets: Targets) -> float:
        """Update the weights once; the batch's mean loss before it.

        Batch norm sees one part at a time: with more parts its statistics are of fewer
        images.

        Args:
            images: This process's share of a batch.
            targets: Theirs.

        Raises:
            NotFiniteError: If the loss is not finite, or the gradient of the step before, as
                :meth:`check` does. That batch is kept, and has changed no weight.
            PipelineError: If memory does not do for two images.
        """
        self.check()
        while True:
            try:
                return self._step(images, targets)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                reason = str(error).splitlines()[0]
            self.optimiser.zero_grad()
            release_memory()
            # Parts of two images are the smallest. One process of several cannot try again by
            # itself: the others wait for its gradients.
            if len(images) < 4 * self.n_parts or self.team.size > 1:
                raise PipelineError(
                    f"memory does not do for {len(images) // self.n_parts} images a step "
                    f"({reason}); {_parts_that_take_less(len(images), self.n_parts)}"
                    "train.checkpoint_activations: true, a lower "
                    "preprocess.image_size_px or a smaller train.backbone takes less"
                )
            self.n_parts *= 2

    def check(self) -> None:
        """Refuse the last step if its gradient was not finite.

        Not within that step: the next batch is made while a GPU is busy with the gradient.

        Raises:
            NotFiniteError: If so. Its batch is kept, and has changed no weight.
        """
        if is_spoiled(self.scaler):
            self._refuse("the gradient is not finite", self.last)

    def _step(self, images: Images, targets: Targets) -> float:
        self.optimiser.zero_grad()
        total = 0.0
        batch = {"images": images, "targets": targets}
        n_images = int(self.team.total(len(images)))
        # Of a part of one image there are no batch statistics; and every process has as many
        # parts, for it waits for the others at each.
        n_parts = max(1, min(self.n_parts, n_images // self.team.size // 2))
        for part, of_part in zip(
            images.tensor_split(n_parts), targets.tensor_split(n_parts), strict=True
        ):
            with half_precision(self.device, self.precision):
                loss: Tensor = self.objective(part, of_part)
            share = len(part) / n_images
            value = self.team.total(loss.item() * share)
            if not np.isfinite(value):
                self.optimiser.zero_grad()
                self._refuse(f"the loss is {value}", batch)
            # The processes' gradients are averaged, and are to be summed.
            scaled = self.scaler.scale(loss * (share * self.team.size))
            scaled.backward()  # type: ignore[no-untyped-call]
            total += value
        if self.clip_norm:
            self.scaler.unscale_(self.optimiser)
            nn.utils.clip_grad_norm_(self.network.parameters(), self.clip_norm)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.last = batch
        return total

    def _refuse(self, what: str, batch: dict[str, Tensor]) -> NoReturn:
        """End the training; the leader keeps the whole batch."""
        whole = None
        if self.keep_in is not None:
            whole = {name: self._whole(share) for name, share in batch.items()}
        refuse(what, batch=whole, keep_in=self.keep_in if self.team.leads else None)

    def _whole(self, share: Tensor) -> Tensor:
        """What the processes have of a batch, in the batch's order."""
        n_rows = int(self.team.total(len(share)))
        return torch.from_numpy(self.team.gathered(share.cpu().contiguous().numpy(), n_rows))


def _parts_that_take_less(n_images: int, n_parts: int) -> str:
    return f"train.batch_parts: {2 * n_parts}, " if n_images >= 4 * n_parts else ""


def one_hot(targets: Tensor, *, n_classes: int) -> Targets:
    """Targets as rows of probabilities."""
    return nn.functional.one_hot(targets, n_classes).float()
