"""Mixed images: two images of a batch in one, and what becomes of their labels.

===========  ============================================================================
``mixup``    a weighted mean of the two images, and of their labels. Source: Zhang et al.,
             "mixup: Beyond Empirical Risk Minimization"
``cutmix``   a box of the one is replaced by the same box of the other; labels are weighted
             by area. Source: Yun et al., "CutMix: Regularization Strategy to Train Strong
             Classifiers with Localizable Features"
``snapmix``  a box of the one is replaced by another box of the other, resized; labels are
             weighted by how much of what speaks for each class lies in its box. In
             fine-grained classes that can be much in a small box, or nothing in a large
             one. Source: Huang, Wang and Tao, "SnapMix: Semantically Proportional Mixing
             for Augmenting Fine-grained Data"
===========  ============================================================================

As in the papers, all images of a batch share what is drawn; partners are the batch in
another order, so that now and then one is its own.
"""

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from fgpipe.images.boxes import Region
from fgpipe.nn.recogniser import Recogniser
from fgpipe.training.memory import in_parts
from fgpipe.training.precision import half_precision

Images = UInt8[Tensor, "batch height width 3"]
Targets = Float[Tensor, "batch classes"]
Maps = Float[Tensor, "batch rows columns"]
Mix = Literal["mixup", "cutmix", "snapmix"]


def mix_batch(
    images: Images,
    targets: Targets,
    *,
    method: Mix,
    alpha: float,
    generator: np.random.Generator,
    class_maps: Callable[[], Maps] | None = None,
) -> tuple[Images, Targets]:
    """A batch of mixed images and their targets.

    Args:
        images: Left as they are.
        targets: Rows of probabilities; left as they are.
        method: How they are mixed.
        alpha: The first image's share, and under ``snapmix`` the size of the second's box, are
            drawn from Beta(alpha, alpha).
        generator: What decides.
        class_maps: Under ``snapmix``: how much each cell of each image speaks for the image's
            class, not negative, summing to 1 over the grid.

    Returns:
        Mixed images, and targets whose rows sum to 1 but under ``snapmix``: what spoke for
        the first class may have been covered by what speaks for none.
    """
    partner = torch.from_numpy(generator.permutation(len(images))).to(images.device)
    share = float(generator.beta(alpha, alpha))
    others, other_targets = images[partner], targets[partner]
    if method == "mixup":
        mixed = torch.lerp(others.float(), images.float(), share).round_().to(torch.uint8)
        return mixed, share * targets + (1 - share) * other_targets

    shape = images.shape[1], images.shape[2]
    covered = draw_box(shape, area=1 - share, generator=generator)
    if method == "cutmix":
        kept = 1 - n_pixels(covered) / (shape[0] * shape[1])
        mixed = _pasted(images, others[:, *covered], at=covered)
        return mixed, kept * targets + (1 - kept) * other_targets

    assert class_maps is not None
    shown = draw_box(shape, area=float(generator.beta(alpha, alpha)), generator=generator)
    if not n_pixels(covered) or not n_pixels(shown):
        return images, targets
    shares = pixel_shares(class_maps(), shape)
    lost = shares[:, *covered].sum(dim=(1, 2))[:, None]
    gained = shares[:, *shown].sum(dim=(1, 2))[partner][:, None]
    mixed = _pasted(images, others[:, *shown], at=covered)
    return mixed, (1 - lost) * targets + gained * other_targets


def draw_box(shape: tuple[int, int], *, area: float, generator: np.random.Generator) -> Region:
    """A box of the image's aspect, its centre anywhere, cut off at the image's edges.

    Args:
        shape: Height and width of the image.
        area: Share of the image that it covers if nothing is cut off.
        generator: What decides.
    """

    def drawn(length: int) -> slice:
        side = round(length * math.sqrt(area))
        start = int(generator.integers(length)) - side // 2
        return slice(max(0, start), min(length, start + side))

    return drawn(shape[0]), drawn(shape[1])


def n_pixels(box: Region) -> int:
    """How many a box has."""
    return math.prod(side.stop - side.start for side in box)


def _pasted(images: Images, patches: Images, *, at: Region) -> Images:
    """A copy of images, each with a patch that is made to fit."""
    result = images.clone()
    place = result[:, *at]
    if patches.shape != place.shape:
        pixels = patches.permute(0, 3, 1, 2).float()
        pixels = nn.functional.interpolate(pixels, place.shape[1:3], mode="bilinear")
        patches = pixels.round_().to(torch.uint8).permute(0, 2, 3, 1)
    place.copy_(patches)
    return result


def pixel_shares(maps: Maps, shape: tuple[int, int]) -> Float[Tensor, "batch height width"]:
    """Class maps at the size of the images, summing to 1 over the pixels."""
    large = nn.functional.interpolate(maps[:, None].float(), shape, mode="bilinear")[:, 0]
    return large / large.sum(dim=(1, 2), keepdim=True)


def class_maps(
    network: Recogniser, images: Images, targets: Targets, *, precision: str, n_parts: int
) -> Maps:
    """How much each cell speaks for its image's class; the network is left in training.

    Args:
        network: As far as it is trained.
        images: A batch.
        targets: Theirs.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        n_parts: In how many parts a step takes the batch; it is taken in more where memory
            does not do for that.

    Raises:
        PipelineError: If memory does not do for one image.
    """

    def class_map(part: Tensor, of_part: Tensor) -> Tensor:
        return network.class_map(part, of_part).float()

    network.eval()
    with torch.no_grad(), half_precision(images.device, precision):
        (maps,) = in_parts(class_map, [(images, targets)], n_parts=n_parts)
    network.train()
    return maps
