"""``cal``: attention maps that are taught by what the answer would be without them."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from fgpipe.nn.heads.contract import (
    FeatureMap,
    Head,
    HeadOutput,
    SoftTargets,
    in_float32,
    shares,
    undecided,
)
from fgpipe.nn.heads.reduction import reduction
from fgpipe.nn.losses import Criterion

Attentions = Float[Tensor, "batch attentions rows columns"]
Embeddings = Float[Tensor, "batch features"]


class CalHead(Head):
    """A linear classifier on the features seen through each of several attention maps.

    Nothing but the answer teaches where to look, and a map that looks at the background, if
    that goes with the class, is not corrected. So training asks too what the answer would
    have been had the head looked anywhere: what is minimised is also the loss of the
    difference. Besides, each image's embedding is drawn to the running mean of its class, so
    that one map comes to mean one part.

    Source: Rao et al., "Counterfactual Attention Learning for Fine-Grained Visual
    Categorization and Re-identification"; the pooling and the centres are those of Hu et al.,
    "See Better Before Looking Closer". Differs in what those do with pixels: there are no
    attention crops and drops, which would pass the backbone twice more. The two
    cross-entropies are averaged, not summed; with the distance to the centres on top, the loss
    compares with no other head's. The centres are plain moving means of an update's images,
    not one image after the other, and an image of mixed classes has the one of its largest
    share.
    """

    centres: Tensor
    length = 3.0
    """Of the embedding. Its 40,960 values, at the papers' 100 and with the steps of an adaptive
    optimiser, would move logits by dozens at once."""
    momentum = 0.95
    """What an update keeps of the centres, the paper's."""

    def __init__(
        self, *, n_channels: int, n_classes: int, dropout: float, n_attentions: int
    ) -> None:
        super().__init__()
        self.attend = reduction(n_channels, n_attentions)
        self.dropout = nn.Dropout(dropout)
        self.classifier = undecided(n_attentions * n_channels, n_classes)
        self.register_buffer("centres", torch.zeros(n_classes, n_attentions * n_channels))

    def forward(self, features: FeatureMap) -> HeadOutput:
        """Logits, the features seen through each map as embedding, the maps' sum as attention."""
        attentions = torch.relu(self.attend(features))
        embedding = self.length * attention_pool(features, attentions)
        logits = self.classifier(self.dropout(embedding))
        return HeadOutput(logits, embedding, shares(attentions.float().sum(dim=1)))

    def loss(
        self, features: FeatureMap, targets: SoftTargets, *, criterion: Criterion
    ) -> Float[Tensor, ""]:
        """Half that of the logits and half that of the attention's effect, and the centres'.

        The effect is what the logits are above those of attention drawn uniformly from 0 to
        1 (to 2 in the paper: the embedding has one length, so that is the same), with the
        same units of the embedding dropped. In training, moves the centres.
        """
        attentions = torch.relu(self.attend(features))
        seen = attention_pool(features, attentions)
        anywhere = attention_pool(features, torch.rand_like(attentions))
        kept = self.length * self.dropout(torch.ones_like(seen))
        logits, counterfactual = self.classifier(torch.cat([kept * seen, kept * anywhere])).chunk(2)
        answers = criterion(logits, targets) + criterion(logits - counterfactual, targets)
        return answers / 2 + self._distance(seen, targets.argmax(dim=1))

    def _distance(self, seen: Embeddings, classes: Int64[Tensor, " batch"]) -> Float[Tensor, ""]:
        """Mean squared distance from the directions of the centres, which then move."""
        centres = nn.functional.normalize(self.centres[classes], dim=1)
        if self.training:
            self._move(seen.detach(), classes)
        return (seen - centres).square().sum(dim=1).mean()

    @torch.no_grad()
    def _move(self, seen: Embeddings, classes: Int64[Tensor, " batch"]) -> None:
        present, position = torch.unique(classes, return_inverse=True)
        members = nn.functional.one_hot(position).float()
        with in_float32(seen.device):
            means = members.T @ seen / members.sum(dim=0)[:, None]
        self.centres[present] = self.centres[present].lerp(means, 1 - self.momentum)


def attention_pool(
    features: FeatureMap, attentions: Attentions, *, eps: float = 1e-6
) -> Embeddings:
    """Mean of the feature map over space, weighted by each of the attention maps.

    Args:
        features: A feature map.
        attentions: Weights of its cells, not negative.
        eps: Added under the square root, where its gradient would be infinite.

    Returns:
        For each image the channels as the first map sees them, then the second, and so on,
        each value replaced by its root with its sign, together of unit L2 norm (zero where
        all are), in float32.

    Source: Hu et al., "See Better Before Looking Closer", there bilinear attention pooling.
    """
    with in_float32(features.device):
        cells = features.float().flatten(2).transpose(1, 2)
        weights = attentions.float().flatten(2)
        means = (weights @ cells / cells.shape[1]).flatten(1)
        roots = means.sign() * (means.abs() + eps).sqrt()
        return nn.functional.normalize(roots, dim=1)
