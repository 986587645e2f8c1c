"""What every head takes and gives, and how it learns unless it says otherwise."""

import contextlib
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fgpipe.nn.losses import Criterion

FeatureMap = Float[Tensor, "batch channels rows columns"]
Map = Float[Tensor, "batch rows columns"]
SoftTargets = Float[Tensor, "batch classes"]


class HeadOutput(NamedTuple):
    """What a head makes of feature maps."""

    logits: Float[Tensor, "batch classes"]
    """One a class."""
    embedding: Float[Tensor, "batch features"]
    """What the last layer reads: images that look alike to the head lie near each other."""
    attention: Map
    """How much each cell counted: not negative, summing to 1 over the grid."""


class Head(nn.Module):
    """A head; each is a subclass in a module of its own."""

    def forward(self, features: FeatureMap) -> HeadOutput:
        """Logits, embedding and attention of feature maps."""
        raise NotImplementedError

    def loss(
        self, features: FeatureMap, targets: SoftTargets, *, criterion: Criterion
    ) -> Float[Tensor, ""]:
        """What training minimises; a head whose training differs from its use overrides it.

        Args:
            features: A batch's feature maps.
            targets: Rows of probabilities, one-hot where an image has one label.
            criterion: From logits and targets to the loss of the batch.
        """
        return criterion(self(features).logits, targets)

    def class_map(self, features: FeatureMap, targets: SoftTargets) -> Map:
        """How much each cell speaks for the images' own classes, summing to 1 over the grid.

        Where a head has no map a class, it is the attention.
        """
        del targets
        attention: Tensor = self(features).attention
        return attention


def energy(features: FeatureMap) -> Map:
    """Each cell's share of the squares of the feature map: attention where a head has none."""
    return shares(features.float().square().sum(dim=1))


def shares(amounts: Map) -> Map:
    """Each cell's share of what the grid has, in float32; even where it has nothing.

    Args:
        amounts: Not negative.
    """
    amounts = amounts.float()
    total = amounts.sum(dim=(1, 2), keepdim=True)
    even = 1.0 / (amounts.shape[1] * amounts.shape[2])
    return (amounts / total.clamp_min(1e-12)).where(total > 1e-12, even)


def in_float32(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Where what is float32 is computed in float32, whatever autocast says outside.

    Nothing where there is no autocast, so that an exported graph holds no trace of it.
    """
    if torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return contextlib.nullcontext()


def undecided(n_features: int, n_classes: int) -> nn.Linear:
    """A linear layer that starts undecided: equal logits for every image."""
    layer = nn.Linear(n_features, n_classes)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
