"""What ``linear``, ``mlp`` and ``cosine`` read: pooled features, normalised if asked to be."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fgpipe.nn.heads.contract import FeatureMap, Map, in_float32, shares
from fgpipe.nn.poolings import PoolingName, create_pooling

Channels = Float[Tensor, "batch channels"]


class PooledFeatures(nn.Module):
    """Features pooled over space and, with ``batch_norm``, normalised over the batch.

    Pooled features of a network that ends in a ReLU all point into one corner of space, and
    some are a hundred times as large as others; normalised, each counts alike and has a sign.

    Source: Ioffe and Szegedy, "Batch Normalization"; between pooling and classifier as in
    Luo et al., "Bag of Tricks and a Strong Baseline for Deep Person Re-identification",
    whose shift is held at 0 where here it is learnt.
    """

    def __init__(self, *, n_channels: int, pooling: PoolingName, batch_norm: bool) -> None:
        super().__init__()
        self.pooling = create_pooling(pooling)
        self.norm = nn.BatchNorm1d(n_channels) if batch_norm else None

    def forward(self, features: FeatureMap) -> Channels:
        """A value a channel, in float32."""
        pooled: Tensor = self.pooling(features)
        return pooled if self.norm is None else self.norm(pooled)

    def map_of(self, features: FeatureMap, weights: Channels) -> Map:
        """Where a weighted sum of the pooled features comes from, summing to 1 over the grid.

        Batch norm is a factor a channel, by its running statistics, which goes into the
        weights; its shift is the same for every cell and says nothing.

        Args:
            features: A feature map.
            weights: Of each image's pooled features, as a linear layer has them for a class.

        Source: Zhou et al., "Learning Deep Features for Discriminative Localization", which
        is exact for the mean; for the generalised mean each cell has the share of the pooled
        value that its power has of the powers. Raised to be nowhere negative and scaled to
        sum to 1, as Huang et al., "SnapMix", do.
        """
        with in_float32(features.device):
            maps = torch.einsum("bc,bcxy->bxy", weights * self._factor(), self._parts(features))
        return shares(maps - maps.amin(dim=(1, 2), keepdim=True))

    def _parts(self, features: FeatureMap) -> FeatureMap:
        parts: Tensor = self.pooling.parts(features)
        return parts

    def _factor(self) -> Float[Tensor, " channels"] | float:
        if self.norm is None:
            return 1.0
        assert self.norm.running_var is not None
        factor: Tensor = self.norm.weight * (self.norm.running_var + self.norm.eps).rsqrt()
        return factor
