"""``mlp``: a network of one hidden layer on the pooled feature map."""

import torch
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


class MlpHead(Head):
    """A hidden layer of leaky rectified units between pooled features and classifier.

    It can learn that two features count only together, which a linear head cannot.

    Source: Rumelhart, Hinton and Williams, "Learning Representations by Back-propagating
    Errors"; Maas, Hannun and Ng, "Rectifier Nonlinearities Improve Neural Network Acoustic
    Models", for the leak.
    """

    hidden = 512
    """Units of the hidden layer, which are the embedding."""
    leak = 0.1
    """Slope below 0, where without one nearly all units end for good: pooled features are all
    positive, so that a step of training moves every unit by their sum."""

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
        self.project = nn.Linear(n_channels, self.hidden)
        self.dropout = nn.Dropout(dropout)
        self.classifier = undecided(self.hidden, n_classes)

    def forward(self, features: FeatureMap) -> HeadOutput:
        """Logits, the hidden units as embedding, and where the features are strong."""
        embedding = nn.functional.leaky_relu(self.project(self.pooled(features)), self.leak)
        return HeadOutput(self.classifier(self.dropout(embedding)), embedding, energy(features))

    def class_map(self, features: FeatureMap, targets: SoftTargets) -> Map:
        """Where the logits of the images' classes come from.

        For one image the network is linear, with the slopes at which its units are.
        """
        active = self(features).embedding > 0
        slopes = torch.where(active, 1.0, self.leak)
        with in_float32(features.device):
            into_hidden = (targets.float() @ self.classifier.weight.float()) * slopes
            weights = into_hidden @ self.project.weight.float()
        return self.pooled.map_of(features, weights)
