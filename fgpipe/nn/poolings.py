"""Poolings: from a feature map to one value a channel.

Each says besides what it makes of a map how much every cell has in it: the parts of a
channel sum over the grid to its pooled value, so that what a classifier says of an image
can be told cell by cell.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

PoolingName = Literal["average", "gem"]

FeatureMap = Float[Tensor, "batch channels rows columns"]
Channels = Float[Tensor, "batch channels"]


class AveragePooling(nn.Module):
    """The mean over space."""

    def forward(self, features: FeatureMap) -> Channels:
        """A value a channel, in float32."""
        return features.mean(dim=(2, 3), dtype=torch.float32)

    def parts(self, features: FeatureMap) -> FeatureMap:
        """What each cell adds to the pooled values."""
        return features.float() / (features.shape[2] * features.shape[3])


class GemPooling(nn.Module):
    """The generalised mean over space, whose exponent is learnt: 1 is a mean, more nears a maximum.

    A part that fills two cells of the grid nearly vanishes in a mean.

    Source: Radenović, Tolias and Chum, "Fine-tuning CNN Image Retrieval with No Human
    Annotation", with one exponent for all channels. Differs in holding the exponent between
    1 and 6: below, it is no mean that prefers anything; above, powers of the floor
    come to 0 in float32, whose root has no gradient there.
    """

    start = 3.0
    """Exponent before training, the paper's."""
    lowest, highest = 1.0, 6.0
    floor = 1e-6
    """What features are raised to: a power of a negative one is not defined."""

    def __init__(self) -> None:
        super().__init__()
        self.free_exponent = nn.Parameter(torch.tensor(self.start))

    @property
    def exponent(self) -> Float[Tensor, ""]:
        """The exponent in use.

        The gradient passes the bounds as if there were none: one that stopped there would
        leave the exponent on a bound for ever once it had stepped over.
        """
        free = self.free_exponent
        beyond = free - free.clamp(self.lowest, self.highest)
        return free - beyond.detach()

    def forward(self, features: FeatureMap) -> Channels:
        """A value a channel, in float32."""
        powers = features.float().clamp_min(self.floor) ** self.exponent
        pooled: Tensor = powers.mean(dim=(2, 3)) ** (1 / self.exponent)
        return pooled

    def parts(self, features: FeatureMap) -> FeatureMap:
        """What each cell adds to the pooled values: its share of the powers."""
        powers = features.float().clamp_min(self.floor) ** self.exponent
        pooled: Tensor = self(features)
        shares = powers / powers.sum(dim=(2, 3), keepdim=True)
        return shares * pooled[:, :, None, None]


def create_pooling(name: PoolingName) -> AveragePooling | GemPooling:
    """The pooling of a name."""
    return GemPooling() if name == "gem" else AveragePooling()
