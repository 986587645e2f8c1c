"""The recogniser: backbone and head in one network, built from its specification."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fgpipe.errors import ConfigError
from fgpipe.nn.backbones import Backbone, n_cells
from fgpipe.nn.heads.contract import FeatureMap, HeadOutput, Map, SoftTargets
from fgpipe.nn.heads.registry import create_head
from fgpipe.nn.losses import Criterion
from fgpipe.nn.pixel_input import Images, PixelInput
from fgpipe.records import RecogniserSpec

MOST_WEIGHTS = 530_000_000
"""Of an exported graph: protobuf holds 2 GiB, of which these in float32 leave 1 % to the rest."""


class Recogniser(nn.Module):
    """From uint8 RGB images to logits and embedding; colour space and normalisation are inside."""

    def __init__(self, spec: RecogniserSpec) -> None:
        """Build it, its weights drawn.

        Raises:
            ConfigError: If there is no such backbone, it takes no such images, or backbone
                and head have more weights than an exported graph holds.
        """
        super().__init__()
        self.pixels = PixelInput(mean=spec.mean, std=spec.std, color_space=spec.color_space)
        self.backbone = Backbone(
            spec.backbone, image_size_px=spec.image_size_px, mid_level=spec.mid_level
        )
        _check_n_weights(spec, self.backbone)
        self.head = create_head(spec, n_channels=self.backbone.n_channels)

    def forward(self, images: Images) -> HeadOutput:
        """Logits, embedding and attention of images as they were preprocessed."""
        output: HeadOutput = self.head(self.features(images))
        return output

    def features(self, images: Images) -> FeatureMap:
        """What the head is given of images."""
        features: Tensor = self.backbone(self.pixels(images))
        return features

    def loss(
        self, images: Images, targets: SoftTargets, *, criterion: Criterion
    ) -> Float[Tensor, ""]:
        """What training minimises."""
        return self.head.loss(self.features(images), targets, criterion=criterion)

    def class_map(self, images: Images, targets: SoftTargets) -> Map:
        """How much each cell of the feature map speaks for the images' own classes."""
        return self.head.class_map(self.features(images), targets)


def check_cells(spec: RecogniserSpec, *, low_size_px: int) -> None:
    """Refuse images whose feature map is too small for the head to learn anything from.

    Args:
        spec: What the network is.
        low_size_px: Side of the images in part of the training; 0 for none.

    Raises:
        ConfigError: If the head reads how channels vary over the map, and the map is one cell;
            or the backbone takes no images of a size.
    """
    if spec.head != "isqrt":
        return
    sizes_px = {"preprocess.image_size_px": 0, "train.low_size_px": low_size_px}
    for key, low_px in sizes_px.items():
        if n_cells(spec.backbone, image_size_px=spec.image_size_px, low_size_px=low_px) < 2:
            raise ConfigError(
                f"train.head (isqrt) reads how channels vary over the feature map, which is one "
                f"cell for train.backbone {spec.backbone} at {key} "
                f"({low_px or spec.image_size_px}); choose another head, such as linear, another "
                "backbone, or larger images"
            )


def _check_n_weights(spec: RecogniserSpec, backbone: Backbone) -> None:
    with torch.device("meta"):  # no weight is made
        head = create_head(spec, n_channels=backbone.n_channels)
    n_backbone = sum(weights.numel() for weights in backbone.parameters())
    n_head = sum(weights.numel() for weights in head.parameters())
    if n_backbone + n_head > MOST_WEIGHTS:
        raise ConfigError(
            f"train.backbone {spec.backbone} has {n_backbone / 1e6:,.0f} million weights, "
            f"train.head {spec.head} for {spec.n_classes:,} classes {n_head / 1e6:,.0f}; an "
            f"exported graph holds {MOST_WEIGHTS / 1e6:,.0f} million. Choose a smaller backbone, "
            "the head linear, or under cal fewer n_attentions"
        )


def build(spec: RecogniserSpec, *, seed: int) -> Recogniser:
    """The network of a specification, every weight drawn from ``seed``.

    Raises:
        ConfigError: As :class:`Recogniser` does.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Recogniser(spec)
