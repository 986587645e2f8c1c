"""From uint8 images to one row each: the backbone, and the mean over space of what it sees."""

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn

from fgpipe.images.batches import Pixels, Rows, plain_batches
from fgpipe.nn.backbones import Backbone, normalisation, normalised
from fgpipe.training.precision import half_precision

IMAGES_AT_ONCE = 64
"""That pass the backbone together where it is not trained."""


class Encoder(nn.Module):
    """A backbone with its normalisation before and a mean over space behind it."""

    mean: Tensor
    std: Tensor

    def __init__(self, name: str) -> None:
        super().__init__()
        self.backbone = Backbone(name)
        scale = normalisation(name)
        for buffer, values in (("mean", scale.mean), ("std", scale.std)):
            tensor = torch.tensor(values).reshape(1, 3, 1, 1)
            self.register_buffer(buffer, tensor, persistent=False)

    @property
    def n_channels(self) -> int:
        """Length of a row."""
        return self.backbone.n_channels

    def forward(
        self, images: UInt8[Tensor, "batch height width 3"]
    ) -> Float[Tensor, "batch channels"]:
        """Rows of images, in float32 whatever precision the backbone computes in."""
        pixels = normalised(images, mean=self.mean, std=self.std)
        features: Tensor = self.backbone(pixels)
        return features.float().mean(dim=(2, 3))


def build_encoder(name: str, *, seed: int) -> Encoder:
    """The encoder over timm's backbone of that name, every weight drawn from ``seed``.

    Raises:
        ConfigError: If timm has no such model.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Encoder(name)


def embed(
    encoder: Encoder, pixels: Pixels, *, rows: Rows, precision: str
) -> Float32[np.ndarray, "rows channels"]:
    """Rows of images as they are, the encoder set to evaluation.

    Args:
        encoder: Left in evaluation.
        pixels: All images, memory-mapped.
        rows: Which of them, in this order.
        precision: ``fp32``, ``bf16`` or ``fp16``.
    """
    encoder.eval()
    device = encoder.mean.device
    with torch.inference_mode(), half_precision(device, precision):
        parts = [
            encoder(torch.from_numpy(images).to(device)).cpu().numpy()
            for images, _ in plain_batches(pixels, rows=rows, batch_size=IMAGES_AT_ONCE)
        ]
    return np.concatenate(parts)
