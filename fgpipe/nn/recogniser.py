"""The recogniser: backbone and head in one network, built from its specification."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from fgpipe.nn.backbones import Backbone
from fgpipe.nn.heads import Output, create_head
from fgpipe.records import RecogniserSpec


class Recogniser(nn.Module):
    """From uint8 images to logits and embedding; normalisation is inside."""

    mean: Tensor
    std: Tensor

    def __init__(self, spec: RecogniserSpec) -> None:
        super().__init__()
        self.backbone = Backbone(spec.backbone)
        self.head = create_head(
            spec.head,
            n_channels=self.backbone.n_channels,
            n_classes=spec.n_classes,
            dropout=spec.dropout,
        )
        # Not in the state: the specification has them.
        for name, values in (("mean", spec.mean), ("std", spec.std)):
            tensor = torch.tensor(values).reshape(1, 3, 1, 1)
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, images: UInt8[Tensor, "batch height width 3"]) -> Output:
        """Logits and embedding of images as they were preprocessed."""
        return self.head(self.backbone(self.normalise(images)))  # type: ignore[no-any-return]

    def normalise(
        self, images: UInt8[Tensor, "batch height width 3"]
    ) -> Float[Tensor, "batch 3 height width"]:
        """What the backbone expects of uint8 images."""
        pixels = images.permute(0, 3, 1, 2).to(self.mean.dtype) / 255
        return (pixels - self.mean) / self.std


def build(spec: RecogniserSpec, *, seed: int) -> Recogniser:
    """The network of a specification, every weight drawn from ``seed``."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Recogniser(spec)
