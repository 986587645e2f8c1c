"""A training small enough for a test: forty images, a tiny network."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from fgpipe.images.augmentations import augmentation
from fgpipe.nn.losses import Criterion, create_criterion
from fgpipe.nn.recogniser import Recogniser, build
from fgpipe.records import EpochFigures, RecogniserSpec, Resolved
from fgpipe.training.loop import Course, Fitted, fit
from fgpipe.training.recipe import Examples, Recipe
from fgpipe.training.speed import EpochSpeed

RECIPE = Recipe(
    mix="none",
    mix_fraction=0.5,
    mix_alpha=1.0,
    sampling="uniform",
    head_epochs=0,
    epochs=3,
    low_size_px=0,
    finish_epochs=0,
    batch_size=8,
    batch_parts=1,
    optimiser="adamw",
    learning_rate=5e-3,
    backbone_rate=0.5,
    layer_decay=1.0,
    weight_decay=0.01,
    warmup_fraction=0.1,
    clip_norm=0.0,
    averaging="none",
    ema_decay=0.9,
    patience=10,
    seed=3,
    deterministic=True,
    compile=False,
)


def network(dropout: float = 0.2, *, backbone: str = "test_resnet") -> Recogniser:
    """Four classes, 32 px."""
    spec = RecogniserSpec(
        backbone=backbone,
        head="linear",
        n_classes=4,
        dropout=dropout,
        image_size_px=32,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
    )
    return build(spec, seed=0)


def running_out_above(n_images: int, model: Recogniser, method: str = "loss") -> None:
    """Have a method fail as the CPU's allocator does, for more images than these."""
    original = getattr(model, method)

    def hungry(images: torch.Tensor, *args: object, **how: object) -> torch.Tensor:
        if len(images) > n_images:
            torch.empty(2**60)  # nobody has an exabyte
        result: torch.Tensor = original(images, *args, **how)
        return result

    setattr(model, method, hungry)


def with_gradient_times(factor: float, model: Recogniser) -> None:
    """Have the gradient of the classifier be another, the loss what it is."""
    model.head.classifier.weight.register_hook(lambda gradient: factor * gradient)


def forty_images() -> Examples:
    """Noisy, their class told by the brightness of one quarter."""
    generator = np.random.default_rng(0)
    targets = np.arange(40) % 4
    pixels = generator.integers(0, 120, (40, 32, 32, 3), dtype=np.uint8)
    for row, target in enumerate(targets):
        y, x = 16 * (target // 2), 16 * (target % 2)
        pixels[row, y : y + 16, x : x + 16] += 100
    return Examples(
        pixels=pixels,
        targets=targets.astype(np.int64),
        n_classes=4,
        parents=np.array([0, 0, 1, 1]),
        train=np.arange(30),
        validation=np.arange(30, 40),
    )


def plain_criterion(n_classes: int = 4) -> Criterion:
    """Cross-entropy and nothing else."""
    return create_criterion(
        label_smoothing=0.0,
        logit_adjustment=0.0,
        class_counts=np.ones(n_classes, dtype=np.int64),
        parents=None,
        parent_weight=0.0,
    )


def course(examples: Examples, recipe: Recipe = RECIPE, *, augment: str = "flips") -> Course:
    """In float32 on one thread, with plain cross-entropy."""
    return Course(
        examples=examples,
        recipe=recipe,
        criterion=plain_criterion(examples.n_classes),
        augmentation=augmentation(augment),
        resolved=Resolved(device="cpu", precision="fp32", threads=1, libraries={}),
    )


def train(
    examples: Examples,
    checkpoint: Path,
    recipe: Recipe = RECIPE,
    *,
    augment: str = "flips",
    on_epoch: Callable[[EpochFigures, EpochSpeed], None] = lambda figures, speed: None,
) -> Fitted:
    """A training from the first weights, or from the checkpoint if there is one."""
    return fit(
        network(),
        course(examples, recipe, augment=augment),
        checkpoint=checkpoint,
        on_epoch=on_epoch,
    )


def same_weights(one: Fitted, other: Fitted) -> bool:
    """Bit for bit."""
    assert one.weights.keys() == other.weights.keys()
    return all(torch.equal(one.weights[name], other.weights[name]) for name in one.weights)
