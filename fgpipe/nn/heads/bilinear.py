"""``bilinear``: a linear classifier on the products of channels."""

from jaxtyping import Float
from torch import Tensor, nn

from fgpipe.errors import InputError
from fgpipe.nn.heads.contract import FeatureMap, Head, HeadOutput, energy, in_float32, undecided
from fgpipe.nn.heads.reduction import reduction


class BilinearHead(Head):
    """A linear classifier on which channels fire together.

    Source: Lin, RoyChowdhury and Maji, "Bilinear CNNs for Fine-grained Visual Recognition".
    Differs in multiplying 64 channels, made of all by a 1x1 convolution and batch norm, not
    512: else the classifier alone had a quarter of a million inputs a class.
    """

    n_reduced = 64
    """Channels that are multiplied; the embedding has their products."""
    length = 10.0
    """Of the embedding, about that of pooled features, so that learning rates that suit a
    linear head suit this one. A step moves logits in proportion to it."""

    def __init__(self, *, n_channels: int, n_classes: int, dropout: float) -> None:
        super().__init__()
        self.reduce = reduction(n_channels, self.n_reduced)
        self.dropout = nn.Dropout(dropout)
        self.classifier = undecided(self.n_reduced**2, n_classes)

    def forward(self, features: FeatureMap) -> HeadOutput:
        """Logits, the products as embedding, and where the features are strong."""
        reduced = self.reduce(features)
        with in_float32(features.device):
            embedding = self.length * bilinear_pool(reduced.float())
        return HeadOutput(self.classifier(self.dropout(embedding)), embedding, energy(features))


def bilinear_pool(
    features: FeatureMap, *, eps: float = 1e-6
) -> Float[Tensor, "batch channels*channels"]:
    """Pool a feature map into the products of its channels, averaged over space.

    Two channels that fire in the same place leave a large product, wherever in the
    image that place is. Sub-categories often differ only in which parts go together,
    and a mean over each channel alone cannot see that.

    Args:
        features: A feature map, as a backbone returns it before any pooling.
        eps: Added under the square root, where its gradient would be infinite.
            Must be positive.

    Returns:
        For each image the ``channels * channels`` products, row-major, each replaced by its
        root with its sign, together of unit L2 norm (zero where the feature map is zero).
        Same dtype and device as ``features``.

    Raises:
        InputError: If ``eps`` is not positive.

    Cost: ``batch * channels**2 * height * width`` multiplications, and a result
    ``channels`` times as long as a mean pooling's.

    Source: Lin, RoyChowdhury and Maji, "Bilinear CNNs for Fine-grained Visual
    Recognition", with both streams the same network. Differs in averaging over space
    where the paper sums; but for ``eps``, the normalisation makes the two equal.
    """
    if eps <= 0:
        raise InputError(f"eps ({eps:g}) must be positive")
    cells = features.flatten(2)
    products = (cells @ cells.transpose(1, 2) / cells.shape[2]).flatten(1)
    roots = products.sign() * (products.abs() + eps).sqrt()
    return nn.functional.normalize(roots, dim=1)
