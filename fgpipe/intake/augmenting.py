"""``fgpipe data show --augmented``: what ``params.yaml`` makes of some images in training."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from fgpipe.config import PreprocessConfig, TrainConfig
from fgpipe.errors import DataError
from fgpipe.images.augmentations import Augmentation, augmentation
from fgpipe.images.batches import seed_for
from fgpipe.images.files import read_image
from fgpipe.images.labels_file import LabelledImage, read_labels
from fgpipe.images.transforms import Preprocessing
from fgpipe.intake.showing import sample_of
from fgpipe.report.augmented_page import AugmentedImage, AugmentedLook, MixedImage
from fgpipe.training.mixing import Mix, mix_batch

MAX_ROWS = 40
"""Most images shown: with eight versions each some 2 MB."""

MAX_A_CLASS = 3
"""Most images shown of a class."""

N_VERSIONS = 8
"""Of each image."""

N_MIXED = 16
"""Pairs shown."""

SETTINGS = ("augment", "erasing", "mix", "mix_fraction", "mix_alpha")


def look_at_augmented(
    raw: Path, *, preprocess: PreprocessConfig, train: TrainConfig
) -> AugmentedLook:
    """Some images of each class, or of some classes, as training sees them.

    Args:
        raw: The folder ``data/raw``.
        preprocess: How images are preprocessed.
        train: How they are augmented and mixed.

    Raises:
        ConfigError: If the augmentation is not to be had.
        DataError: If ``data/raw`` is not as imported, or an image does not decode.
    """
    images = read_labels(raw)
    transform = Preprocessing.from_config(**preprocess.of_the_array())
    augment = augmentation(
        train.augment, erasing=train.erasing, sizes_px=[preprocess.image_size_px]
    )
    rows = tuple(
        _augmented(image, raw=raw, transform=transform, augment=augment, seed=train.seed, row=row)
        for row, image in enumerate(_sample(images))
    )
    mixed = () if train.mix == "none" else tuple(_mixed(rows, method=train.mix, config=train))
    decisive = {f"preprocess.{name}": value for name, value in preprocess.model_dump().items()}
    decisive |= {f"train.{name}": getattr(train, name) for name in SETTINGS}
    return AugmentedLook(
        n_images=len(images),
        settings=tuple((key, str(value)) for key, value in decisive.items()),
        rows=rows,
        mixed=mixed,
    )


def _sample(images: Sequence[LabelledImage]) -> list[LabelledImage]:
    """A few images of each class, at most :data:`MAX_ROWS`, sorted by class and path."""
    of_label: dict[str, dict[str, LabelledImage]] = defaultdict(dict)
    for image in images:
        of_label[image.label][image.path] = image
    n_each = max(1, min(MAX_A_CLASS, MAX_ROWS // len(of_label)))
    return [
        of_label[label][path]
        for label in sample_of(list(of_label), n=MAX_ROWS)
        for path in sample_of(list(of_label[label]), n=n_each)
    ]


def _augmented(
    image: LabelledImage,
    *,
    raw: Path,
    transform: Preprocessing,
    augment: Augmentation,
    seed: int,
    row: int,
) -> AugmentedImage:
    decoded = read_image(raw / image.path, name=image.path)
    try:
        square = transform(decoded, image.box)
    except DataError as error:
        raise DataError(f"{image.path}: {error}; mend its row in labels.csv") from None
    return AugmentedImage(
        path=image.path,
        label=image.label,
        preprocessed=square,
        versions=tuple(
            augment(square, seed=seed_for(seed, epoch, row)) for epoch in range(1, N_VERSIONS + 1)
        ),
    )


def _mixed(
    rows: Sequence[AugmentedImage], *, method: Mix, config: TrainConfig
) -> Iterator[MixedImage]:
    """Pairs of the images shown, each of another batch: a batch shares what is drawn."""
    images = torch.from_numpy(np.stack([row.versions[0] for row in rows]))
    # Each image is a class of its own, so that its target tells the partner.
    targets = torch.eye(len(rows))
    even = torch.ones(len(rows), 1, 1)
    for number in range(N_MIXED):
        mixed, weights = mix_batch(
            images,
            targets,
            method=method,
            alpha=config.mix_alpha,
            generator=np.random.default_rng(seed_for(config.seed, number)),
            class_maps=lambda: even,
        )
        one = number * len(rows) // N_MIXED
        of_others = weights[one] * (1 - targets[one])
        other = int(of_others.argmax())
        if of_others[other] > 0:
            yield MixedImage(
                labels=(rows[one].label, rows[other].label),
                weights=None
                if method == "snapmix"
                else (float(weights[one, one]), float(weights[one, other])),
                picture=mixed[one].numpy(),
            )
