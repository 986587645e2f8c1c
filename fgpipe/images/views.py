"""Two random views of one image: what a network that learns without labels is to find alike.

A view is a part of the image, enlarged, perhaps mirrored, in other light and blurred. What
differs between two views is what the network learns to leave out of account, so a change
that tells classes apart (a hue, the texture that a blur takes away) must not be among them.

Source: Grill et al., "Bootstrap Your Own Latent". Differs in that views are never grey nor
solarised, that hue and saturation change half as much as there, and in the blur, whose
extent is a share of the view's side.
"""

import random
from collections.abc import Iterator
from typing import Protocol

import albumentations as A  # noqa: N812 - the name its users know
import cv2
import numpy as np
from jaxtyping import UInt8

from fgpipe.images.batches import seed_for, steps_per_epoch

Views = UInt8[np.ndarray, "batch size size 3"]
Image = UInt8[np.ndarray, "height width 3"]

BLUR = (0.1 / 224, 2.0 / 224)
"""Least and largest standard deviation of the blur, as a share of the view's side."""


class Images(Protocol):
    """Images in a row, in memory or not."""

    def __len__(self) -> int: ...

    def __getitem__(self, position: int, /) -> Image: ...


class View:
    """A random part of an image, changed; equal seeds, equal bytes."""

    def __init__(self, steps: list[A.BasicTransform]) -> None:
        self._pipeline = A.Compose(steps)

    def __call__(self, image: Image, *, seed: int) -> Image:
        """The view that ``seed`` draws."""
        # One stream for all steps, as in fgpipe.images.augmentations.
        generators = np.random.default_rng(seed), random.Random(seed)  # noqa: S311 - no secret
        self._pipeline.set_random_state(*generators)
        view: Image = self._pipeline(image=image)["image"]
        return view


def view_augmentation(*, size_px: int, min_scale: float, jitter: float, blur: float) -> View:
    """What makes a view of an image.

    Args:
        size_px: Height and width of the view.
        min_scale: Smallest share of the image's area that a view shows, above 0.
        jitter: How far brightness and contrast change, and half as far saturation, a tenth
            as far the hue: 0 not at all, 0.4 as a rule, 1 to black. In 8 of 10 views.
        blur: Share of the views that are blurred.
    """
    steps: list[A.BasicTransform] = [
        A.RandomResizedCrop(
            size=(size_px, size_px),
            scale=(min_scale, 1.0),
            ratio=(3 / 4, 4 / 3),
            interpolation=cv2.INTER_LINEAR,
            area_for_downscale="image",
            p=1.0,
        ),
        A.HorizontalFlip(p=0.5),
    ]
    if jitter:
        steps.append(
            A.ColorJitter(
                brightness=(1 - jitter, 1 + jitter),
                contrast=(1 - jitter, 1 + jitter),
                saturation=(1 - jitter / 2, 1 + jitter / 2),
                hue=(-jitter / 10, jitter / 10),
                p=0.8,
            )
        )
    if blur:
        least, largest = BLUR
        sigma = (least * size_px, largest * size_px)
        steps.append(A.GaussianBlur(sigma_limit=sigma, blur_limit=0, p=blur))
    return View(steps)


def view_batches(
    images: Images, *, batch_size: int, augmentation: View, seed: int, epoch: int
) -> Iterator[tuple[Views, Views]]:
    """One epoch: every image once, shuffled, in two views.

    A view is keyed by seed, epoch, image and which of the two it is, so that a training that
    resumes at an epoch sees the very bytes that an undisturbed one sees.

    Args:
        images: All of them, perhaps memory-mapped.
        batch_size: Images a batch; the last is smaller, as in
            :func:`~fgpipe.images.batches.steps_per_epoch`.
        augmentation: What makes a view.
        seed: Of order and views.
        epoch: From 1.

    Yields:
        Both views of a batch.
    """
    order = np.random.default_rng([seed, epoch]).permutation(len(images))
    for number in range(steps_per_epoch(len(order), batch_size=batch_size)):
        chosen = [int(row) for row in order[number * batch_size : (number + 1) * batch_size]]
        first, second = (
            np.stack(
                [augmentation(images[row], seed=seed_for(seed, epoch, row, view)) for row in chosen]
            )
            for view in (0, 1)
        )
        yield first, second
