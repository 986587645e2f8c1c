"""The recogniser: backbone and head in one network, built from its specification."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from fgpipe.nn.backbones import Backbone, normalised
from fgpipe.nn.heads.contract import FeatureMap, HeadOutput, Map, SoftTargets
from fgpipe.nn.heads.registry import create_head
from fgpipe.nn.losses import Criterion
from fgpipe.records import RecogniserSpec

Images = UInt8[Tensor, "batch height width 3"]


class Recogniser(nn.Module):
    """From uint8 images to logits and embedding; normalisation is inside."""

    mean: Tensor
    std: Tensor

    def __init__(self, spec: RecogniserSpec) -> None:
        super().__init__()
        self.backbone = Backbone(
            spec.backbone, image_size_px=spec.image_size_px, mid_level=spec.mid_level
        )
        self.head = create_head(spec, n_channels=self.backbone.n_channels)
        # Not in the state: the specification has them.
        for name, values in (("mean", spec.mean), ("std", spec.std)):
            tensor = torch.tensor(values).reshape(1, 3, 1, 1)
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, images: Images) -> HeadOutput:
        """Logits, embedding and attention of images as they were preprocessed."""
        output: HeadOutput = self.head(self.features(images))
        return output

    def features(self, images: Images) -> FeatureMap:
        """What the head is given of images."""
        features: Tensor = self.backbone(self.normalise(images))
        return features

    def loss(
        self, images: Images, targets: SoftTargets, *, criterion: Criterion
    ) -> Float[Tensor, ""]:
        """What training minimises."""
        return self.head.loss(self.features(images), targets, criterion=criterion)

    def class_map(self, images: Images, targets: SoftTargets) -> Map:
        """How much each cell of the feature map speaks for the images' own classes."""
        return self.head.class_map(self.features(images), targets)

    def normalise(self, images: Images) -> Float[Tensor, "batch 3 height width"]:
        """What the backbone expects of uint8 images."""
        return normalised(images, mean=self.mean, std=self.std)


def build(spec: RecogniserSpec, *, seed: int) -> Recogniser:
    """The network of a specification, every weight drawn from ``seed``."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Recogniser(spec)
