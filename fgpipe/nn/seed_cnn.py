"""``seed_cnn``: the textbook network for small images, the baseline of record.

Three 3x3 convolutions of 32, 64 and 64 channels with 2x2 max-pooling between them, then a
dense layer of 64: TensorFlow's tutorial "Convolutional Neural Network (CNN)", which trains it
on CIFAR-10. With the ``linear`` head it is that network, weight for weight: 122,570 at 32x32
pixels and 10 classes. It starts as Keras starts it, weights after Glorot and Bengio, uniform,
and biases of 0; but for the classifier, which is the head's and starts at 0.

The last map is flattened, not averaged, so the dense layer is a part of the backbone and has
weights for one size of images alone; what the head reads is a map of a single cell.
"""

from collections import OrderedDict

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fgpipe.errors import ConfigError

NAME = "seed_cnn"
SIZE_PX = 32
"""Of the tutorial's images."""

MEAN, STD = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
"""Pixels stay in 0 to 1."""

MIN_SIZE_PX = 18
"""Convolutions do not pad: of a smaller image nothing is left."""

N_FEATURES = 64


class SeedCnn(nn.Module):
    """The network without its classifier, in the form of timm's."""

    def __init__(self, *, image_size_px: int) -> None:
        super().__init__()
        if image_size_px < MIN_SIZE_PX:
            raise ConfigError(
                f"preprocess.image_size_px ({image_size_px}) must be at least {MIN_SIZE_PX} for "
                f"train.backbone {NAME}"
            )
        self.image_size_px = image_size_px
        side = ((image_size_px - 2) // 2 - 2) // 2 - 2
        self.layers = nn.Sequential(
            OrderedDict(
                conv1=_Layer(nn.Conv2d(3, 32, 3), nn.MaxPool2d(2)),
                conv2=_Layer(nn.Conv2d(32, 64, 3), nn.MaxPool2d(2)),
                conv3=_Layer(nn.Conv2d(64, 64, 3), nn.Flatten()),
                dense=_Layer(nn.Linear(64 * side * side, N_FEATURES), nn.Unflatten(1, (-1, 1, 1))),
            )
        )

    def forward_features(
        self, pixels: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch 64 1 1"]:
        """The dense layer's 64 activations as a map of one cell.

        Raises:
            ConfigError: If the images are not of the size it was built for.
        """
        side = pixels.shape[-1]
        if side != self.image_size_px:
            raise ConfigError(
                f"{NAME} was built for images of {self.image_size_px} px and is given {side}"
            )
        features: Tensor = self.layers(pixels)
        return features

    def group_matcher(self, *, coarse: bool) -> dict[str, str]:
        """How timm tells layers by the names of their weights; each is a stage."""
        del coarse
        return {name: rf"^layers\.{name}" for name, _ in self.layers.named_children()}


class _Layer(nn.Module):
    """Weights, a rectifier, and what changes the shape after them."""

    def __init__(self, weights: nn.Conv2d | nn.Linear, reshape: nn.Module) -> None:
        super().__init__()
        nn.init.xavier_uniform_(weights.weight)
        assert weights.bias is not None
        nn.init.zeros_(weights.bias)
        self.weights = weights
        self.reshape = reshape

    def forward(self, features: Tensor) -> Tensor:
        """One after the other."""
        result: Tensor = self.reshape(torch.relu(self.weights(features)))
        return result
