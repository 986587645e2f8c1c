"""``linear``: a linear classifier on the pooled feature map."""

from torch import nn

from fgpipe.nn.heads.contract import (
    FeatureMap,
    Head,
    HeadOutput,
    Map,
    SoftTargets,
    energy,
    in_float32,
    undecided,
)
from fgpipe.nn.heads.pooled import PooledFeatures
from fgpipe.nn.poolings import PoolingName


class LinearHead(Head):
    """A linear classifier on the pooled feature map: what others are compared with."""

    def __init__(
        self,
        *,
        n_channels: int,
        n_classes: int,
        dropout: float,
        pooling: PoolingName,
        batch_norm: bool,
    ) -> None:
        super().__init__()
        self.pooled = PooledFeatures(n_channels=n_channels, pooling=pooling, batch_norm=batch_norm)
        self.dropout = nn.Dropout(dropout)
        self.classifier = undecided(n_channels, n_classes)

    def forward(self, features: FeatureMap) -> HeadOutput:
        """Logits, the pooled features as embedding, and where the features are strong."""
        embedding = self.pooled(features)
        return HeadOutput(self.classifier(self.dropout(embedding)), embedding, energy(features))

    def class_map(self, features: FeatureMap, targets: SoftTargets) -> Map:
        """Where the logits of the images' classes come from."""
        with in_float32(features.device):
            weights = targets.float() @ self.classifier.weight.float()
        return self.pooled.map_of(features, weights)
