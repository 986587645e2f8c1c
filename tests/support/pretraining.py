"""Images in two classes, told by where their bright quarter is, for a pretraining in seconds."""

from typing import Any

import numpy as np

from fgpipe.images.views import view_augmentation
from fgpipe.pretraining.encoder import build_encoder
from fgpipe.pretraining.loop import Course, Recipe
from fgpipe.pretraining.methods import Learner, MethodName, create_learner
from fgpipe.pretraining.probes import Probe
from fgpipe.records import Resolved


def pixels_and_targets() -> tuple[np.ndarray, np.ndarray]:
    """Forty noisy images of 32 px."""
    generator = np.random.default_rng(0)
    targets = np.arange(40) % 2
    pixels = generator.integers(0, 120, (40, 32, 32, 3), dtype=np.uint8)
    for row, target in enumerate(targets):
        pixels[row, 16 * target : 16 * target + 16] += 100
    return pixels, targets


def make_probe() -> Probe:
    """Thirty of them known, ten asked."""
    pixels, targets = pixels_and_targets()
    known, asked = np.arange(30), np.arange(30, 40)
    return Probe(pixels=pixels, targets=targets, n_classes=2, known=known, asked=asked)


def make_course(**changes: Any) -> Course:
    """Three epochs of two steps."""
    values = {"epochs": 3, "batch_size": 16, "learning_rate": 1e-3, "weight_decay": 0.0, "seed": 3}
    pixels, _ = pixels_and_targets()
    return Course(
        images=pixels[:30],
        augmentation=view_augmentation(size_px=32, min_scale=0.5, jitter=0.2, blur=0.0),
        probe=make_probe(),
        recipe=Recipe(**values | changes),
        resolved=Resolved(device="cpu", precision="fp32", threads=1, libraries={}),
    )


def make_learner(name: MethodName = "byol") -> Learner:
    """A tiny backbone and its heads."""
    return create_learner(
        name, build_encoder("test_resnet", image_size_px=32, seed=0), momentum=0.9, seed=1
    )
