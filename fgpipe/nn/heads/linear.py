"""``linear``: a linear classifier on the pooled feature map."""

import torch
from torch import nn

from fgpipe.nn.heads.contract import (
    FeatureMap,
    Head,
    HeadOutput,
    Map,
    SoftTargets,
    energy,
    undecided,
)


class LinearHead(Head):
    """A linear classifier on the feature map's mean over space."""

    def __init__(self, *, n_channels: int, n_classes: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.classifier = undecided(n_channels, n_classes)

    def forward(self, features: FeatureMap) -> HeadOutput:
        """Logits, the pooled features as embedding, and where the features are strong."""
        embedding = features.mean(dim=(2, 3))
        return HeadOutput(self.classifier(self.dropout(embedding)), embedding, energy(features))

    def class_map(self, features: FeatureMap, targets: SoftTargets) -> Map:
        """The classifier's own: its weights of the images' classes, cell by cell.

        Source: Zhou et al., "Learning Deep Features for Discriminative Localization". Raised
        to be nowhere negative and scaled to sum to 1, as Huang et al. do for SnapMix.
        """
        speaks = targets.to(features.dtype) @ self.classifier.weight.to(features.dtype)
        maps = torch.einsum("bc,bcxy->bxy", speaks, features).float()
        maps = maps - maps.amin(dim=(1, 2), keepdim=True)
        total = maps.sum(dim=(1, 2), keepdim=True)
        even = 1.0 / (maps.shape[1] * maps.shape[2])
        return (maps / total.clamp_min(1e-12)).where(total > 1e-12, even)
