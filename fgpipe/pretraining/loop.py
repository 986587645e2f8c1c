"""The epochs of a pretraining, with a look at what has been learnt after each.

Kept is the epoch after which validation's neighbours are best. A network whose rows have
become one (collapse) does not find back: there it ends.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32
from tqdm import tqdm

from fgpipe.errors import NotFiniteError, PipelineError
from fgpipe.images.batches import seed_for, steps_per_epoch
from fgpipe.images.views import Images, View, Views, view_batches
from fgpipe.metrics.spread import spread
from fgpipe.pretraining.checkpoint import Progress, restore_progress, save_progress
from fgpipe.pretraining.methods import Learner
from fgpipe.pretraining.probes import Probe, epoch_figures, look
from fgpipe.records import PretrainingFigures, Resolved
from fgpipe.training.hardware import keep_freed_memory, set_determinism
from fgpipe.training.memory import is_out_of_memory
from fgpipe.training.optimisers import decayed_apart
from fgpipe.training.precision import half_precision
from fgpipe.training.schedule import rate_factor
from fgpipe.training.speed import Stopwatch
from fgpipe.training.tensor_files import Tensors

WARMUP_FRACTION = 0.1
"""Share of all steps over which the rate rises."""

CLIP_NORM = 3.0
"""Longest gradient, which is DINO's; the others' are shorter."""

COLLAPSED_SPREAD = 0.02
"""Below it the rows compared are one: those of two images have a cosine of about 0.9996.
Trainings that go well have 0.5 to 1."""

COLLAPSED_RANK = 1.5
"""Below it the backbone's rows lie on a line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How to learn; the fields are those of the ``pretrain`` section."""

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What an epoch is made from, but for the state it starts from."""

    images: Images
    """All to learn from."""
    augmentation: View
    """Makes a view of one."""
    probe: Probe
    """What is looked at after each epoch."""
    recipe: Recipe
    """How to learn."""
    resolved: Resolved
    """Device, precision and threads."""

    @property
    def n_steps(self) -> int:
        """Of an epoch."""
        return steps_per_epoch(len(self.images), batch_size=self.recipe.batch_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Learnt:
    """What a pretraining came to."""

    weights: Tensors
    """The backbone's state after the epoch kept; empty if none is."""
    epoch: int | None
    """That epoch."""
    curves: tuple[PretrainingFigures, ...]
    """One entry an epoch done, and one before."""
    collapsed: bool
    """Whether it ended early for that."""


def learn(learner: Learner, course: Course, *, checkpoint: Path) -> Learnt:
    """Train until the last epoch, or until all rows have become one.

    Args:
        learner: Changed in place; left with the weights of the last epoch.
        course: What is learnt from and how.
        checkpoint: File to resume from and to write after every epoch.

    Raises:
        PipelineError: If the loss is not finite, or memory does not do for a batch.
    """
    torch.set_num_threads(course.resolved.threads)
    set_determinism(course.resolved.device, wanted=True)
    keep_freed_memory()
    learner.to(course.resolved.device).to(memory_format=torch.channels_last)
    optimiser = create_optimiser(learner, weight_decay=course.recipe.weight_decay)
    progress = Progress(learner=learner, optimiser=optimiser, curves=(), kept={}, kept_epoch=None)
    if not restore_progress(checkpoint, progress):
        embedded = look(learner.learnt, course.probe, precision=course.resolved.precision)
        progress.curves = (epoch_figures(embedded, course.probe, epoch=0),)
    while len(progress.curves) <= course.recipe.epochs and not _has_collapsed(progress):
        next_epoch(progress, course)
        save_progress(checkpoint, progress)
    return Learnt(
        weights=progress.kept,
        epoch=progress.kept_epoch,
        curves=progress.curves,
        collapsed=_has_collapsed(progress),
    )


def create_optimiser(learner: Learner, *, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW over what learns; biases and norms are not decayed."""
    return torch.optim.AdamW(decayed_apart(learner.parameters(), weight_decay=weight_decay))


def next_epoch(progress: Progress, course: Course) -> None:
    """Train one epoch more, look at it, and keep the backbone if it is the best."""
    recipe, learner = course.recipe, progress.learner
    epoch = len(progress.curves)
    torch.manual_seed(seed_for(recipe.seed, epoch))
    batches = view_batches(
        course.images,
        batch_size=recipe.batch_size,
        augmentation=course.augmentation,
        seed=recipe.seed,
        epoch=epoch,
    )
    learner.train()
    losses, spreads = [], []
    stopwatch = Stopwatch()
    name = f"pretrain epoch {epoch}/{recipe.epochs}"
    waited = stopwatch.waiting_for(batches)
    bar = tqdm(waited, total=course.n_steps, desc=name, unit="step", disable=None)
    for number, (first, second) in enumerate(bar):
        step = (epoch - 1) * course.n_steps + number
        loss, rows = _step(progress, course, first, second, step=step)
        losses.append(loss)
        spreads.append(spread(rows))
        bar.set_postfix(loss=f"{losses[-1]:.3f}")
    embedded = look(learner.learnt, course.probe, precision=course.resolved.precision)
    if not (np.isfinite(embedded.known).all() and np.isfinite(embedded.asked).all()):
        raise _not_finite("what the backbone makes of images is not finite")
    figures = epoch_figures(
        embedded,
        course.probe,
        epoch=epoch,
        loss=float(np.mean(losses)),
        spread=float(np.mean(spreads)),
    )
    progress.curves = (*progress.curves, figures)
    _keep_if_best(progress)
    speed = stopwatch.speed(len(course.images), device=course.resolved.device)
    tqdm.write(
        f"pretraining epoch {epoch}/{recipe.epochs}: loss {figures.loss:.3f}, spread "
        f"{figures.spread:.3f}, effective rank {figures.effective_rank:.1f}, neighbours "
        f"{figures.neighbour_accuracy:.3f}; {speed}"
    )


def _step(
    progress: Progress, course: Course, first: Views, second: Views, *, step: int
) -> tuple[float, Float32[np.ndarray, "batch outputs"]]:
    """Update the weights once; the batch's loss before it, and what its images became."""
    learner, optimiser, recipe = progress.learner, progress.optimiser, course.recipe
    n_steps = recipe.epochs * course.n_steps
    device = torch.device(course.resolved.device)
    factor = rate_factor(step, n_steps=n_steps, warmup_fraction=WARMUP_FRACTION)
    for group in optimiser.param_groups:
        group["lr"] = recipe.learning_rate * factor
    views = (torch.from_numpy(view).to(device) for view in (first, second))
    optimiser.zero_grad()
    try:
        with half_precision(device, course.resolved.precision):
            loss, rows = learner.loss(*views)
        value = loss.item()
        if not np.isfinite(value):
            raise _not_finite(f"the loss of pretraining is {value}")
        loss.backward()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise PipelineError(
            f"memory does not do for two views of {len(first)} images a step; a lower "
            "pretrain.batch_size or pretrain.image_size_px takes less"
        ) from None
    norm = torch.nn.utils.clip_grad_norm_(learner.parameters(), CLIP_NORM)
    if not norm.isfinite():
        raise _not_finite("the gradient of pretraining is not finite")
    learner.before_update(epoch=1 + step // course.n_steps)
    optimiser.step()
    learner.after_update(step=step, n_steps=n_steps)
    return value, rows.float().cpu().numpy()


def _not_finite(what: str) -> PipelineError:
    return NotFiniteError(
        f"{what}; a lower pretrain.learning_rate or pretrain.precision: fp32 may help"
    )


def _has_collapsed(progress: Progress) -> bool:
    """Whether training made one row of all; what it starts from may be as it is."""
    *_, last = progress.curves
    if last.spread is None:
        return False
    return last.spread < COLLAPSED_SPREAD or last.effective_rank < COLLAPSED_RANK


def _keep_if_best(progress: Progress) -> None:
    """Keep the backbone of the last epoch, unless an earlier one had better neighbours."""
    if _has_collapsed(progress):
        return
    *_, last = progress.curves
    kept = progress.kept_epoch
    if kept is None or last.neighbour_accuracy >= progress.curves[kept].neighbour_accuracy:
        state = progress.learner.learnt.backbone.network.state_dict()
        progress.kept = {name: value.detach().cpu().clone() for name, value in state.items()}
        progress.kept_epoch = last.epoch
