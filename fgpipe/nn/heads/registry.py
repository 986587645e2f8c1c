"""The heads by name."""

from typing import assert_never

from fgpipe.nn.heads.bilinear import BilinearHead
from fgpipe.nn.heads.cal import CalHead
from fgpipe.nn.heads.contract import Head
from fgpipe.nn.heads.cosine import CosineHead
from fgpipe.nn.heads.isqrt import IsqrtHead
from fgpipe.nn.heads.linear import LinearHead
from fgpipe.nn.heads.mlp import MlpHead
from fgpipe.nn.heads.recurrent import RecurrentHead
from fgpipe.records import RecogniserSpec


def create_head(spec: RecogniserSpec, *, n_channels: int) -> Head:  # noqa: PLR0911 - one a head
    """The head of a specification, its weights drawn from torch's generator.

    Args:
        spec: What the network is.
        n_channels: Of the feature map it will read.
    """
    n_classes, dropout = spec.n_classes, spec.dropout
    match spec.head:
        case "linear":
            return LinearHead(
                n_channels=n_channels,
                n_classes=n_classes,
                dropout=dropout,
                pooling=spec.pooling,
                batch_norm=spec.batch_norm,
            )
        case "mlp":
            return MlpHead(
                n_channels=n_channels,
                n_classes=n_classes,
                dropout=dropout,
                pooling=spec.pooling,
                batch_norm=spec.batch_norm,
            )
        case "gru" | "lstm":
            return RecurrentHead(
                n_channels=n_channels,
                n_classes=n_classes,
                dropout=dropout,
                cell=spec.head,
                scan=spec.scan,
            )
        case "isqrt":
            return IsqrtHead(n_channels=n_channels, n_classes=n_classes, dropout=dropout)
        case "bilinear":
            return BilinearHead(n_channels=n_channels, n_classes=n_classes, dropout=dropout)
        case "cal":
            return CalHead(
                n_channels=n_channels,
                n_classes=n_classes,
                dropout=dropout,
                n_attentions=spec.n_attentions,
            )
        case "cosine":
            return CosineHead(
                n_channels=n_channels,
                n_classes=n_classes,
                dropout=dropout,
                pooling=spec.pooling,
                batch_norm=spec.batch_norm,
                margin=spec.margin,
                margin_size=spec.margin_size,
                n_centres=spec.n_centres,
            )
    assert_never(spec.head)
