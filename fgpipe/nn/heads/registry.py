"""The heads by name."""

from fgpipe.errors import ConfigError
from fgpipe.nn.heads.contract import Head
from fgpipe.nn.heads.linear import LinearHead
from fgpipe.nn.heads.recurrent import GruHead
from fgpipe.records import RecogniserSpec

HEADS: dict[str, type[LinearHead] | type[GruHead]] = {"linear": LinearHead, "gru": GruHead}


def create_head(spec: RecogniserSpec, *, n_channels: int) -> Head:
    """The head of a specification.

    Args:
        spec: What the network is.
        n_channels: Of the feature map it will read.

    Raises:
        ConfigError: If there is none of that name.
    """
    if spec.head not in HEADS:
        raise ConfigError(f"train.head: {spec.head!r} is none of {', '.join(HEADS)}")
    return HEADS[spec.head](n_channels=n_channels, n_classes=spec.n_classes, dropout=spec.dropout)
