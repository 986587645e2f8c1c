"""A head's first epochs, on feature maps that the backbone computes once.

A new head's first gradients are noise, and noise spoils a backbone that knows something: so
the head learns alone at first. Since the backbone then stands still, and images are not
augmented, each image passes it once and not once an epoch.

Maps are kept in a file that is memory-mapped, in half precision: memory does not grow with
the number of images.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float16, Int64
from torch import Tensor

from fgpipe.images.batches import Rows, epoch_order, plain_batches, seed_for, steps_per_epoch
from fgpipe.nn.losses import Criterion
from fgpipe.nn.recogniser import Recogniser
from fgpipe.training.finite import gradient_scaler, is_spoiled, refuse
from fgpipe.training.memory import in_parts
from fgpipe.training.optimisers import decayed_apart
from fgpipe.training.precision import half_precision
from fgpipe.training.recipe import Examples, Recipe
from fgpipe.training.schedule import rate_factor
from fgpipe.training.steps import one_hot

MAX_BYTES = 4_000_000_000
"""Largest file of maps; of more images a sample is taken, which does for a start."""

IMAGES_AT_ONCE = 64
"""That pass the backbone together, where memory does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureMaps:
    """What a backbone makes of images, as they are."""

    maps: Float16[np.ndarray, "rows channels height width"]
    """Memory-mapped."""
    targets: Int64[np.ndarray, " rows"]
    """The class of each."""


def map_images(
    network: Recogniser, examples: Examples, *, precision: str, seed: int, file: Path
) -> FeatureMaps:
    """Pass the training images through the backbone once.

    Args:
        network: Left in evaluation.
        examples: Images and the rows to train on.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        seed: Of the sample, where maps of all rows would take more than :data:`MAX_BYTES`.
        file: Where the maps are kept, for the caller to remove.

    Raises:
        PipelineError: If memory does not do for one image.
    """
    network.eval()
    device = next(network.parameters()).device
    rows = examples.train
    limit = float(np.finfo(np.float16).max)

    def of_images(images: Tensor) -> Tensor:
        features = network.features(images.to(device))
        return features.float().clamp(-limit, limit).half().cpu()

    def mapped(rows: Rows) -> Iterator[Tensor]:
        batches = plain_batches(examples.pixels, rows=rows, batch_size=IMAGES_AT_ONCE)
        return in_parts(of_images, ((torch.from_numpy(images),) for images, _ in batches))

    with torch.inference_mode(), half_precision(device, precision):
        shape = next(mapped(rows[:1])).shape[1:]
        n_rows = min(len(rows), max(1, MAX_BYTES // (2 * int(np.prod(shape)))))
        if n_rows < len(rows):
            rows = np.sort(np.random.default_rng(seed).choice(rows, n_rows, replace=False))
        with file.open("wb") as new:  # a full disk is an error here, and a kill in a mapping
            os.posix_fallocate(new.fileno(), 0, 2 * n_rows * int(np.prod(shape)))
        maps = np.memmap(file, dtype=np.float16, mode="r+", shape=(n_rows, *shape))
        for number, part in enumerate(mapped(rows)):
            start = number * IMAGES_AT_ONCE
            maps[start : start + len(part)] = part.numpy()
    return FeatureMaps(maps=maps, targets=examples.targets[rows])


def train_head(
    network: Recogniser,
    features: FeatureMaps,
    *,
    recipe: Recipe,
    criterion: Criterion,
    precision: str,
    n_classes: int,
    keep_in: Path | None,
) -> list[float]:
    """Train the head alone for the recipe's ``head_epochs``; each epoch's mean loss.

    Args:
        network: Its head is changed in place, its backbone is not.
        features: What :func:`map_images` made.
        recipe: How to learn; the optimiser is AdamW, whose rate falls from its peak to 0 as
            a cosine.
        criterion: What is minimised.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        n_classes: How many there are.
        keep_in: Folder for a batch of maps whose loss or gradient is not finite; None keeps
            none.

    Raises:
        NotFiniteError: If a loss or a gradient is not finite; the weights are as before it.
    """
    network.head.train()
    device = next(network.parameters()).device
    optimiser = torch.optim.AdamW(
        decayed_apart(network.head.parameters(), weight_decay=recipe.weight_decay)
    )
    scaler = gradient_scaler(device, precision)
    n_steps = steps_per_epoch(len(features.maps), batch_size=recipe.batch_size)
    means = []
    for epoch in range(recipe.head_epochs):
        seed = seed_for(recipe.seed, 0, epoch)  # the epochs proper are numbered from 1
        torch.manual_seed(seed)
        losses = []
        for number, (maps, targets) in enumerate(_shuffled(features, recipe=recipe, seed=seed)):
            factor = rate_factor(
                epoch * n_steps + number, n_steps=recipe.head_epochs * n_steps, warmup_fraction=0.0
            )
            for group in optimiser.param_groups:
                group["lr"] = recipe.learning_rate * factor
            with half_precision(device, precision):
                loss = network.head.loss(
                    maps.to(device),
                    one_hot(targets.to(device), n_classes=n_classes),
                    criterion=criterion,
                )
            losses.append(loss.item())
            batch = {"maps": maps, "targets": targets}
            if not np.isfinite(losses[-1]):
                refuse(f"the head's loss is {losses[-1]}", batch=batch, keep_in=keep_in)
            optimiser.zero_grad()
            scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            scaler.step(optimiser)
            scaler.update()
            if is_spoiled(scaler):
                refuse("the head's gradient is not finite", batch=batch, keep_in=keep_in)
        means.append(float(np.mean(losses)))
    return means


def _shuffled(
    features: FeatureMaps, *, recipe: Recipe, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    size = recipe.batch_size
    order = epoch_order(
        np.arange(len(features.maps)),
        targets=recipe.counted(features.targets),
        generator=np.random.default_rng(seed),
    )
    for number in range(steps_per_epoch(len(order), batch_size=size)):
        chosen = np.sort(order[number * size : (number + 1) * size])  # as in the file
        maps = torch.from_numpy(features.maps[chosen]).float()
        yield maps, torch.from_numpy(features.targets[chosen])
