"""``cosine``: the angle between the embedding and a class's centres, with a margin in training."""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fgpipe.nn.heads.contract import (
    FeatureMap,
    Head,
    HeadOutput,
    Map,
    SoftTargets,
    energy,
    in_float32,
)
from fgpipe.nn.heads.pooled import Channels, PooledFeatures
from fgpipe.nn.losses import Criterion
from fgpipe.nn.poolings import PoolingName

MarginName = Literal["arcface", "cosface"]
Cosines = Float[Tensor, "batch classes"]

REACHABLE = 0.99
"""Probability of a class that an image can have."""
GAP = 0.5
"""By how much the cosine of such an image's class is above all others'."""
SHORTEST = 1e-3
"""Vectors are divided by this at least: what is 0 stays 0, its gradient of a sane size."""


class CosineHead(Head):
    """Cosines between the embedding and centres of the classes, the nearest of each counting.

    Lengths, which say how clear a picture is, do not count; directions do. In training an
    image must be nearer to its class than to others by a margin, which leaves room between
    look-alikes. Several centres a class let it have several looks.

    A target that is a share of a class (mixed images) has that share of the margin.

    Source: Deng, Guo, Xue and Zafeiriou, "ArcFace"; Wang et al., "CosFace"; Deng et al.,
    "Sub-center ArcFace", for centres. Differs in the scale, which follows from the number of
    classes (:func:`scale_of`), and in reading pooled features without a layer between.
    """

    def __init__(
        self,
        *,
        n_channels: int,
        n_classes: int,
        dropout: float,
        pooling: PoolingName,
        batch_norm: bool,
        margin: MarginName,
        margin_size: float,
        n_centres: int,
    ) -> None:
        super().__init__()
        self.pooled = PooledFeatures(n_channels=n_channels, pooling=pooling, batch_norm=batch_norm)
        self.dropout = nn.Dropout(dropout)
        # Drawn, about of length 1: directions must differ before anything is learnt.
        drawn = torch.randn(n_classes, n_centres, n_channels) / math.sqrt(n_channels)
        self.centres = nn.Parameter(drawn)
        self.margin: MarginName = margin
        self.margin_size = margin_size
        self.scale = scale_of(n_classes)

    def forward(self, features: FeatureMap) -> HeadOutput:
        """Logits, the pooled features at length 1 as embedding, and where they are strong."""
        pooled = self.pooled(features)
        logits = self.scale * self._cosines(pooled).amax(dim=2)
        return HeadOutput(logits, unit(pooled), energy(features))

    def loss(
        self, features: FeatureMap, targets: SoftTargets, *, criterion: Criterion
    ) -> Float[Tensor, ""]:
        """That of the logits with the margin taken from the images' own classes."""
        cosines = self._cosines(self.pooled(features)).amax(dim=2)
        moved = with_margin(cosines, targets, margin=self.margin, size=self.margin_size)
        return criterion(self.scale * moved, targets)

    def class_map(self, features: FeatureMap, targets: SoftTargets) -> Map:
        """Where the cosines to the nearest centres of the images' classes come from."""
        cosines = self._cosines(self.pooled(features))
        nearest = nn.functional.one_hot(cosines.argmax(dim=2), cosines.shape[2])
        with in_float32(features.device):
            counted = (nearest * targets.float()[:, :, None]).flatten(1)
            weights = counted @ unit(self.centres).flatten(0, 1)
        return self.pooled.map_of(features, weights)

    def _cosines(self, pooled: Channels) -> Float[Tensor, "batch classes centres"]:
        with in_float32(pooled.device):
            return torch.einsum("bf,cnf->bcn", unit(self.dropout(pooled)), unit(self.centres))


def unit(vectors: Float[Tensor, "*any features"]) -> Float[Tensor, "*any features"]:
    """Vectors of the last axis, at length 1, in float32."""
    return nn.functional.normalize(vectors.float(), dim=-1, eps=SHORTEST)


def scale_of(n_classes: int) -> float:
    """What cosines are multiplied with to be logits.

    Too small, and no image can be called certain, so training never ends pulling; too
    large, and the loss sees the one nearest centre alone. The logits of a class whose cosine
    is above all others' by ``GAP`` give it the probability ``REACHABLE``::

        scale = log((n_classes - 1) * REACHABLE / (1 - REACHABLE)) / GAP

    which is 9 for 2 classes, 20 for 200, 23 for 1,000. A single class has that of two.

    Source: the bound of Wang et al., "CosFace", with a gap in place of the largest there can
    be. Zhang et al., "AdaCos", has ``sqrt(2) * log(n_classes - 1)``: 0 for two classes.
    """
    rivals = max(n_classes - 1, 1)
    return math.log(rivals * REACHABLE / (1 - REACHABLE)) / GAP


def with_margin(
    cosines: Cosines, targets: SoftTargets, *, margin: MarginName, size: float
) -> Cosines:
    """Cosines made worse where the target is, so that to be right is not enough.

    Args:
        cosines: To each class.
        targets: Share that each class has of the image, and of the margin.
        margin: ``arcface`` adds to the angle, ``cosface`` takes from the cosine.
        size: In radians, or of the cosine.

    Beyond the angle of ``pi - size`` adding to the angle would make the cosine larger again;
    there, as in ArcFace's own code, ``size * sin(size)`` is taken from the cosine.
    """
    sizes = size * targets
    if margin == "cosface":
        return cosines - sizes
    # The slope of the sine is infinite where the cosine is 1 or -1.
    sines = (1 - cosines.square()).clamp_min(1e-6).sqrt()
    moved = cosines * sizes.cos() - sines * sizes.sin()
    return moved.where(cosines > -sizes.cos(), cosines - sizes * sizes.sin())
