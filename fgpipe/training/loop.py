"""The training loop: the head alone, then epochs of steps, then the choice of weights.

An epoch depends on the weights and optimiser state it starts from and on the seed and its
number, on nothing else: a training that resumes at any epoch goes on exactly.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from fgpipe.errors import PipelineError
from fgpipe.images.augmentations import Augmentation
from fgpipe.images.batches import seed_for, steps_per_epoch, training_batches
from fgpipe.nn.losses import Criterion
from fgpipe.nn.recogniser import Recogniser
from fgpipe.records import EpochFigures, Resolved
from fgpipe.training.averaging import MovingAverage, greedy_soup
from fgpipe.training.checkpoint import Progress, State, Weights, restore_state, save_state
from fgpipe.training.distributed import ALONE, Team
from fgpipe.training.features import map_images, train_head
from fgpipe.training.finite import refuse
from fgpipe.training.hardware import keep_freed_memory, set_determinism
from fgpipe.training.memory import is_out_of_memory
from fgpipe.training.mixing import class_maps, mix_batch
from fgpipe.training.optimisers import create_optimiser, set_rates
from fgpipe.training.recipe import Examples, Recipe
from fgpipe.training.schedule import rate_factor
from fgpipe.training.speed import EpochSpeed, Stopwatch
from fgpipe.training.steps import Images, Stepper, Targets, one_hot
from fgpipe.training.validation import Logits, epoch_figures, served_loss, validation_logits

MIXING = 0x6D69786564
"""Keeps the seeds of mixing apart from those of rows, whose keys are small."""

SOUP_SIZE = 5
"""Epochs, the best on validation, that may come into a soup."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What an epoch is made from, but for the state it starts from."""

    examples: Examples
    """Images, targets and which rows are for what."""
    recipe: Recipe
    """How to learn."""
    criterion: Criterion
    """What is minimised."""
    augmentation: Augmentation
    """Applied to every training image anew in each epoch."""
    resolved: Resolved
    """Device, precision and threads."""

    def batches(
        self, epoch: int, *, size_px: int | None, device: torch.device, team: Team = ALONE
    ) -> Iterator[tuple[Images, Targets]]:
        """One epoch's batches, not mixed yet.

        Args:
            epoch: From 1.
            size_px: Side to shrink images to; None leaves them.
            device: Where they are to be.
            team: The processes that share each batch.
        """
        recipe, examples = self.recipe, self.examples
        for images, rows in training_batches(
            examples.pixels,
            rows=examples.train,
            batch_size=recipe.batch_size,
            augmentation=self.augmentation,
            seed=recipe.seed,
            epoch=epoch,
            targets=recipe.counted(examples.targets),
            size_px=size_px,
            part=(team.rank, team.size),
        ):
            classes = torch.from_numpy(examples.targets[rows])
            targets = one_hot(classes, n_classes=examples.n_classes)
            yield torch.from_numpy(images).to(device), targets.to(device)

    def with_recipe(self, **changes: Any) -> "Course":  # noqa: ANN401 - fields of the recipe
        """The same with another recipe."""
        return replace(self, recipe=replace(self.recipe, **changes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """What a training came to."""

    weights: Weights
    """The network's state."""
    epochs: tuple[int, ...]
    """Those it is the mean of, the best first; a single one but for a soup."""
    curves: tuple[EpochFigures, ...]
    """One entry an epoch done."""
    n_parts: int
    """In how many parts batches were taken."""


def fit(
    network: Recogniser,
    course: Course,
    *,
    checkpoint: Path,
    on_epoch: Callable[[EpochFigures, EpochSpeed], None],
    team: Team = ALONE,
) -> Fitted:
    """Train until the last epoch, or until validation loss stops falling.

    Args:
        network: Changed in place; left with the weights of the last epoch.
        course: What is learnt and how.
        checkpoint: File to resume from and to write after every epoch. What else is needed
            for a while lies beside it.
        on_epoch: Told the figures of each epoch, those before a resume included.
        team: The processes that train together, each of which calls this with networks and
            courses that are alike; only the leader writes and tells.

    Returns:
        The curves, and the weights of the epoch with the lowest validation loss, or the
        mean of several.

    Raises:
        NotFiniteError: If a loss, a gradient or an answer on validation is not finite.
        PipelineError: If memory does not do for two images.
    """
    torch.set_num_threads(max(1, course.resolved.threads // team.size))
    set_determinism(course.resolved.device, wanted=course.recipe.deterministic)
    keep_freed_memory()
    network.to(course.resolved.device).to(memory_format=torch.channels_last)
    state = start(network, course, folder=checkpoint.parent, team=team)
    if team.told_by_leader(checkpoint.exists()) and restore_state(checkpoint, state):
        for figures in state.progress.curves if team.leads else ():
            on_epoch(figures, EpochSpeed.unknown())
    elif course.recipe.head_epochs and team.leads:
        warm_up(state, course, folder=checkpoint.parent)
        save_state(checkpoint, state)
    state.stepper.share()
    if course.recipe.compile:
        state.stepper.compile()
    if state.average is not None and not state.progress.curves:
        state.average.restart(network)
    while not is_over(state.progress, recipe=course.recipe):
        speed = next_epoch(state, course)
        if not team.leads:
            continue
        save_state(checkpoint, state)
        figures = state.progress.curves[-1]
        on_epoch(figures, speed)
        tqdm.write(
            f"epoch {figures.epoch}/{course.recipe.epochs}: loss {figures.train_loss:.3f}, "
            f"on validation {figures.validation_loss:.3f}, top-1 {figures.validation_top1:.3f}; "
            f"{speed}"
        )
    return chosen(state, course)


def is_over(progress: Progress, *, recipe: Recipe) -> bool:
    """Whether all epochs are done, or ``patience`` of them brought nothing.

    The last epochs at the full size have a patience of their own, counted from their start:
    those at a low size are not held against them.
    """
    done = len(progress.curves)
    is_finishing = recipe.low_size_px and recipe.finish_epochs
    n_low = recipe.epochs - recipe.finish_epochs if is_finishing else 0
    return done >= recipe.epochs or done - max(progress.best_epoch, n_low) >= recipe.patience


def start(network: Recogniser, course: Course, *, folder: Path | None, team: Team = ALONE) -> State:
    """The state before the first step.

    Args:
        network: With its first weights, on its device.
        course: What is learnt and how.
        folder: Where a batch whose loss or gradient is not finite is kept; None keeps none.
        team: The processes that share each batch.
    """
    recipe = course.recipe
    optimiser = create_optimiser(
        network,
        name=recipe.optimiser,
        learning_rate=recipe.learning_rate,
        backbone_rate=recipe.backbone_rate,
        layer_decay=recipe.layer_decay,
        weight_decay=recipe.weight_decay,
    )
    return State(
        stepper=Stepper(
            network=network,
            optimiser=optimiser,
            criterion=course.criterion,
            precision=course.resolved.precision,
            team=team,
            clip_norm=recipe.clip_norm,
            keep_in=folder,
            n_parts=recipe.batch_parts,
        ),
        average=MovingAverage(network, decay=recipe.ema_decay)
        if recipe.averaging == "ema"
        else None,
        progress=Progress(curves=(), kept={}),
    )


def warm_up(state: State, course: Course, *, folder: Path) -> None:
    """Train the head alone, on feature maps kept in ``folder`` for as long as it takes.

    Raises:
        NotFiniteError: If a loss or a gradient is not finite.
        PipelineError: If memory does not do for one image, or a batch of maps.
    """
    file = folder / "features.f16"
    folder.mkdir(parents=True, exist_ok=True)
    network, precision = state.stepper.network, course.resolved.precision
    try:
        features = map_images(
            network, course.examples, precision=precision, seed=course.recipe.seed, file=file
        )
        train_head(
            network,
            features,
            recipe=course.recipe,
            criterion=course.criterion,
            precision=precision,
            n_classes=course.examples.n_classes,
            keep_in=folder,
        )
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise PipelineError(
            f"memory does not do for the maps of {course.recipe.batch_size} images; a lower "
            "train.batch_size or train.head_epochs: 0 takes less"
        ) from None
    finally:
        file.unlink(missing_ok=True)


def next_epoch(state: State, course: Course) -> EpochSpeed:
    """Train one epoch more, validate it, and keep its weights if it is among the best."""
    stepper, recipe, examples = state.stepper, course.recipe, course.examples
    team = stepper.team
    epoch = len(state.progress.curves) + 1
    torch.manual_seed(seed_for(recipe.seed, epoch, team.rank))
    n_steps = steps_per_epoch(len(examples.train), batch_size=recipe.batch_size, n_parts=team.size)
    batches = course.batches(epoch, size_px=recipe.size_px(epoch), device=stepper.device, team=team)
    stepper.network.train()
    losses = []
    stopwatch = Stopwatch()
    name = f"train epoch {epoch}/{recipe.epochs}"
    bar = tqdm(
        stopwatch.waiting_for(batches),
        total=n_steps,
        desc=name,
        unit="step",
        disable=None if team.leads else True,
    )
    for number, batch in enumerate(bar):
        step = (epoch - 1) * n_steps + number
        factor = rate_factor(
            step, n_steps=recipe.epochs * n_steps, warmup_fraction=recipe.warmup_fraction
        )
        set_rates(stepper.optimiser, factor)
        n_parts = stepper.n_parts
        loss = stepper.step(*mixed(*batch, stepper=stepper, recipe=recipe, step=step))
        if stepper.n_parts > n_parts:
            tqdm.write(f"out of memory: batches are taken in {stepper.n_parts} parts")
        if state.average is not None:
            state.average.update(stepper.network, step=step)
        losses.append(loss)
        bar.set_postfix(loss=f"{loss:.3f}")
    stepper.check()
    _validate(state, course, train_loss=float(np.mean(losses)))
    return stopwatch.speed(len(examples.train), device=course.resolved.device)


def mixed(
    images: Images, targets: Targets, *, stepper: Stepper, recipe: Recipe, step: int
) -> tuple[Images, Targets]:
    """The batch of a step, counted from 0 over all epochs; mixed if it falls to it."""
    generator = np.random.default_rng(seed_for(recipe.seed, step, MIXING))
    if recipe.mix == "none" or generator.random() >= recipe.mix_fraction:
        return images, targets
    return mix_batch(
        images,
        targets,
        method=recipe.mix,
        alpha=recipe.mix_alpha,
        generator=generator,
        class_maps=lambda: class_maps(
            stepper.network,
            images,
            targets,
            precision=stepper.precision,
            n_parts=stepper.n_parts,
        ),
    )


def _validate(state: State, course: Course, *, train_loss: float) -> None:
    stepper, progress = state.stepper, state.progress
    weights = state.average.weights if state.average is not None else None
    stepper.team.level(stepper.network.buffers() if weights is None else weights.values())
    epoch = len(progress.curves) + 1
    logits = _logits(state, course, weights=weights)
    if not np.isfinite(logits).all():  # the last update spoilt the weights
        refuse(f"an answer on validation after epoch {epoch} is not finite")
    figures = epoch_figures(
        logits,
        course.examples,
        epoch=epoch,
        learning_rate=stepper.optimiser.param_groups[-1]["lr"],
        train_loss=train_loss,
    )
    curves = (*progress.curves, figures)
    n_kept = SOUP_SIZE if course.recipe.averaging == "soup" else 1
    best = sorted(curves, key=lambda entry: (entry.validation_loss, entry.epoch))[:n_kept]
    kept = {each.epoch: progress.kept[each.epoch] for each in best if each is not figures}
    if figures in best:
        source = stepper.network.state_dict() if weights is None else weights
        kept[figures.epoch] = {name: value.detach().cpu().clone() for name, value in source.items()}
    state.progress = Progress(curves=curves, kept=kept)


def _logits(state: State, course: Course, *, weights: Weights | None) -> Logits:
    """Of the validation images, each process seeing to its share of them."""
    examples, team = course.examples, state.stepper.team
    own = replace(examples, validation=team.share(examples.validation))
    found = validation_logits(
        state.stepper.network, own, precision=course.resolved.precision, weights=weights
    )
    return team.gathered(found, len(examples.validation))


def chosen(state: State, course: Course) -> Fitted:
    """The best epoch's weights, or the mean of as many as make validation better."""
    curves, kept = state.progress.curves, state.progress.kept
    epochs = sorted(kept, key=lambda epoch: (curves[epoch - 1].validation_loss, epoch))
    if course.recipe.averaging == "soup":

        def loss(weights: Weights) -> float:
            there = {name: value.to(state.stepper.device) for name, value in weights.items()}
            return served_loss(_logits(state, course, weights=there), course.examples)

        weights, positions = greedy_soup([kept[epoch] for epoch in epochs], loss=loss)
        epochs = [epochs[position] for position in positions]
    else:
        weights, epochs = dict(kept[epochs[0]]), epochs[:1]
    return Fitted(
        weights=weights, epochs=tuple(epochs), curves=curves, n_parts=state.stepper.n_parts
    )
