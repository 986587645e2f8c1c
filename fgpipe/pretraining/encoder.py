"""From uint8 images to one row each: the backbone, and the mean over space of what it sees."""

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from fgpipe.images.batches import Pixels, Rows, plain_batches
from fgpipe.nn.backbones import Backbone, normalisation
from fgpipe.nn.pixel_input import Images, PixelInput
from fgpipe.records import ColorSpace
from fgpipe.training.memory import in_parts
from fgpipe.training.precision import half_precision

IMAGES_AT_ONCE = 64
"""That pass the backbone together where it is not trained and memory does."""


class Encoder(nn.Module):
    """A backbone with its normalisation before and a mean over space behind it."""

    def __init__(self, name: str, *, image_size_px: int, color_space: ColorSpace) -> None:
        super().__init__()
        scale = normalisation(name)
        self.pixels = PixelInput(mean=scale.mean, std=scale.std, color_space=color_space)
        self.backbone = Backbone(name, image_size_px=image_size_px)

    @property
    def n_channels(self) -> int:
        """Length of a row."""
        return self.backbone.n_channels

    def forward(self, images: Images) -> Float[Tensor, "batch channels"]:
        """Rows of images, in float32 whatever precision the backbone computes in."""
        features: Tensor = self.backbone(self.pixels(images))
        return features.float().mean(dim=(2, 3))


def build_encoder(
    name: str, *, image_size_px: int, seed: int, color_space: ColorSpace = "rgb"
) -> Encoder:
    """The encoder over the backbone of that name, every weight drawn from ``seed``.

    Raises:
        ConfigError: If there is no such backbone, or it takes no images of the size.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Encoder(name, image_size_px=image_size_px, color_space=color_space)


def embed(
    encoder: Encoder, pixels: Pixels, *, rows: Rows, precision: str
) -> Float32[np.ndarray, "rows channels"]:
    """Rows of images as they are, the encoder set to evaluation.

    Args:
        encoder: Left in evaluation.
        pixels: All images, memory-mapped.
        rows: Which of them, in this order.
        precision: ``fp32``, ``bf16`` or ``fp16``.

    Raises:
        PipelineError: If memory does not do for one image.
    """
    encoder.eval()
    device = encoder.pixels.mean.device

    def embedded(images: Tensor) -> Tensor:
        of_images: Tensor = encoder(images.to(device)).cpu()
        return of_images

    batches = plain_batches(pixels, rows=rows, batch_size=IMAGES_AT_ONCE)
    with torch.inference_mode(), half_precision(device, precision):
        parts = list(in_parts(embedded, ((torch.from_numpy(images),) for images, _ in batches)))
    return torch.cat(parts).numpy()
