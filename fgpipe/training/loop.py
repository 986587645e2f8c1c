"""The training loop: epochs of steps, each step a function with a test.

An epoch depends on the weights and optimiser state it starts from and on the seed and its
number, on nothing else: a training that resumes at any epoch goes on exactly.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64, Int64, UInt8
from torch import Tensor, nn
from tqdm import tqdm

from fgpipe.errors import PipelineError
from fgpipe.images.batches import Pixels, Rows, plain_batches, seed_for, training_batches
from fgpipe.images.transforms import Augmentation
from fgpipe.metrics.accuracy import coarse_accuracy, macro_recall, top1
from fgpipe.metrics.calibration import fit_temperature, log_loss, softmax
from fgpipe.nn.recogniser import Recogniser
from fgpipe.records import EpochFigures, Resolved
from fgpipe.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from fgpipe.training.schedule import rate_factor

Targets = Int64[np.ndarray, " images"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """What there is to learn from."""

    pixels: Pixels
    """All images, memory-mapped."""
    targets: Targets
    """The class of each."""
    parents: Int64[np.ndarray, " classes"] | None
    """The parent of each class, if the data name any."""
    train: Rows
    """Rows to train on."""
    validation: Rows
    """Rows that choose the epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How to learn; the fields are those of the ``train`` section."""

    epochs: int
    batch_size: int
    learning_rate: float
    backbone_rate: float
    weight_decay: float
    warmup_fraction: float
    label_smoothing: float
    patience: int
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochSpeed:
    """How long an epoch took; for people, never for a record."""

    seconds: float
    images_per_second: float


def fit(
    network: Recogniser,
    examples: Examples,
    *,
    recipe: Recipe,
    augmentation: Augmentation,
    resolved: Resolved,
    checkpoint: Path,
    on_epoch: Callable[[EpochFigures, EpochSpeed], None],
) -> Progress:
    """Train until the last epoch, or until validation loss stops falling.

    Args:
        network: Changed in place; left with the weights of the last epoch.
        examples: Images, targets and which rows are for what.
        recipe: How to learn.
        augmentation: Applied to every training image anew in each epoch.
        resolved: Device, precision and threads.
        checkpoint: File to resume from and to write after every epoch.
        on_epoch: Told the figures of each epoch, those before a resume included.

    Returns:
        The curves, and the weights of the epoch with the lowest validation loss.

    Raises:
        PipelineError: If the loss is not finite.
    """
    torch.set_num_threads(resolved.threads)
    network.to(resolved.device).to(memory_format=torch.channels_last)
    optimiser = create_optimiser(network, recipe=recipe)
    progress = load_checkpoint(checkpoint, network=network, optimiser=optimiser) or Progress(
        curves=(), best_epoch=0, best_weights={}
    )
    for figures in progress.curves:
        on_epoch(figures, EpochSpeed(seconds=0.0, images_per_second=0.0))
    while not is_over(progress, recipe=recipe):
        start = time.perf_counter()
        progress = _next_epoch(
            network,
            examples,
            optimiser=optimiser,
            progress=progress,
            recipe=recipe,
            augmentation=augmentation,
            resolved=resolved,
        )
        save_checkpoint(checkpoint, network=network, optimiser=optimiser, progress=progress)
        seconds = time.perf_counter() - start
        speed = EpochSpeed(seconds=seconds, images_per_second=len(examples.train) / seconds)
        on_epoch(progress.curves[-1], speed)
    return progress


def is_over(progress: Progress, *, recipe: Recipe) -> bool:
    """Whether all epochs are done, or ``patience`` of them brought nothing."""
    done = len(progress.curves)
    return done >= recipe.epochs or done - progress.best_epoch >= recipe.patience


def _next_epoch(
    network: Recogniser,
    examples: Examples,
    *,
    optimiser: torch.optim.Optimizer,
    progress: Progress,
    recipe: Recipe,
    augmentation: Augmentation,
    resolved: Resolved,
) -> Progress:
    epoch = len(progress.curves) + 1
    torch.manual_seed(seed_for(recipe.seed, epoch))
    batches = training_batches(
        examples.pixels,
        rows=examples.train,
        batch_size=recipe.batch_size,
        augmentation=augmentation,
        seed=recipe.seed,
        epoch=epoch,
    )
    n_steps = steps_per_epoch(len(examples.train), batch_size=recipe.batch_size)
    network.train()
    losses = []
    bar = tqdm(
        batches,
        total=n_steps,
        desc=f"train epoch {epoch}/{recipe.epochs}",
        unit="step",
        disable=None,
    )
    for number, (images, rows) in enumerate(bar):
        factor = rate_factor(
            (epoch - 1) * n_steps + number,
            n_steps=recipe.epochs * n_steps,
            warmup_fraction=recipe.warmup_fraction,
        )
        loss = train_step(
            network,
            optimiser,
            images=torch.from_numpy(images).to(resolved.device),
            targets=torch.from_numpy(examples.targets[rows]).to(resolved.device),
            rate_factor=factor,
            label_smoothing=recipe.label_smoothing,
            precision=resolved.precision,
        )
        losses.append(loss)
        bar.set_postfix(loss=f"{loss:.3f}")
    figures = _figures(
        network,
        examples,
        epoch=epoch,
        learning_rate=optimiser.param_groups[-1]["lr"],
        train_loss=float(np.mean(losses)),
        resolved=resolved,
    )
    curves = (*progress.curves, figures)
    best = min(curves, key=lambda entry: entry.validation_loss)
    if best is not figures:
        return Progress(
            curves=curves, best_epoch=progress.best_epoch, best_weights=progress.best_weights
        )
    weights = {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
    return Progress(curves=curves, best_epoch=epoch, best_weights=weights)


def steps_per_epoch(n_images: int, *, batch_size: int) -> int:
    """Batches of an epoch; a last one of a single image is left out."""
    whole, rest = divmod(n_images, batch_size)
    return max(1, whole + (rest > 1))


def create_optimiser(network: Recogniser, *, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW over what is not frozen; biases and norms are not decayed.

    A backbone whose rate is 0 is frozen here. The peak rate of each group is kept beside
    its current one; the head's come last.
    """
    groups: list[dict[str, object]] = []
    for part, factor in ((network.backbone, recipe.backbone_rate), (network.head, 1.0)):
        if factor == 0:
            part.requires_grad_(requires_grad=False)
            continue
        parameters = [parameter for parameter in part.parameters() if parameter.requires_grad]
        rate = recipe.learning_rate * factor
        groups += [
            {
                "params": [p for p in parameters if (p.ndim > 1) is decayed],
                "weight_decay": recipe.weight_decay if decayed else 0.0,
                "lr": rate,
                "peak_rate": rate,
            }
            for decayed in (True, False)
        ]
    return torch.optim.AdamW(groups)


def train_step(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    *,
    images: UInt8[Tensor, "batch height width 3"],
    targets: Int64[Tensor, " batch"],
    rate_factor: float,
    label_smoothing: float,
    precision: str,
) -> float:
    """One update of the weights; gives the loss before it.

    Raises:
        PipelineError: If the loss is not finite; the weights are then unchanged.
    """
    for group in optimiser.param_groups:
        group["lr"] = group["peak_rate"] * rate_factor
    with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bf16"):
        logits, _ = network(images)
    loss = nn.functional.cross_entropy(logits.float(), targets, label_smoothing=label_smoothing)
    value = loss.item()
    if not np.isfinite(value):
        raise PipelineError(
            f"the loss is {value}; a lower train.learning_rate or `precision: fp32` may help"
        )
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    return value


def infer(
    network: nn.Module, batches: Iterator[tuple[np.ndarray, np.ndarray]], *, resolved: Resolved
) -> Float64[np.ndarray, "images classes"]:
    """Logits of every batch's images, the network set to evaluation."""
    network.eval()
    device = resolved.device
    half = torch.autocast(device, torch.bfloat16, enabled=resolved.precision == "bf16")
    with torch.inference_mode(), half:
        outputs = [network(torch.from_numpy(images).to(device))[0] for images, _ in batches]
    return torch.cat(outputs).double().cpu().numpy()


def _figures(
    network: Recogniser,
    examples: Examples,
    *,
    epoch: int,
    learning_rate: float,
    train_loss: float,
    resolved: Resolved,
) -> EpochFigures:
    batches = plain_batches(examples.pixels, rows=examples.validation, batch_size=64)
    logits = infer(network, batches, resolved=resolved)
    targets = examples.targets[examples.validation]
    # As it would be served: an epoch is not worse for being surer than it may be.
    probabilities = softmax(logits, temperature=fit_temperature(logits, targets))
    predictions = probabilities.argmax(axis=1)
    return EpochFigures(
        epoch=epoch,
        learning_rate=learning_rate,
        train_loss=train_loss,
        validation_loss=log_loss(probabilities, targets),
        validation_top1=top1(predictions, targets),
        validation_macro_recall=macro_recall(predictions, targets),
        validation_coarse_accuracy=None
        if examples.parents is None
        else coarse_accuracy(probabilities, targets, parents=examples.parents),
    )
