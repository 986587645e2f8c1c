"""From uint8 RGB images to what a backbone expects: the first part of network and graph.

Images are RGB wherever they are stored, shown, augmented and served; that the network sees
them in another colour space is part of the network, as its weights are. What an augmentation
changes of brightness or colour is therefore what its name says in every colour space, and the
exported graph takes the same images whatever it makes of them.

===========  =============================================================================
``rgb``      as given
``gray``     the luminance of ITU-R BT.601, three times
``hsv``      the saturation times the hue's cosine, from -1 to 1 and then moved to 0 to 1;
             the same with its sine; and the value. A hue is an angle, so as a number red is
             far from red and the mean of two reds green; so, grey is in the middle and
             colours around it
``lab``      CIE L*a*b* of sRGB under D65: L* / 100, (a* + 128) / 255, (b* + 128) / 255
``ycrcb``    ITU-R BT.601 luminance, 0.713 (R - Y) + 0.5, 0.564 (B - Y) + 0.5
===========  =============================================================================

Sources: Smith, "Color gamut transform pairs" (hue, saturation and value); IEC 61966-2-1 and
CIE 15 (sRGB, L*a*b*); ITU-R BT.601. Channels differ from OpenCV's in the range 0 to 1, and
``hsv`` in the hue's form.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from fgpipe.records import ColorSpace

Images = UInt8[Tensor, "batch height width 3"]
Channel = Float[Tensor, "batch height width"]
Channels = tuple[Channel, Channel, Channel]

FROM_LINEAR_RGB = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)
"""To CIE XYZ under D65; a row's sum is the white's."""


class PixelInput(nn.Module):
    """Colour space and normalisation, in float32 whatever the network computes in."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        *,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        color_space: ColorSpace = "rgb",
    ) -> None:
        """Build it; it has no weights.

        Args:
            mean: Subtracted from channels in 0 to 1.
            std: Channels are divided by it after that.
            color_space: What the channels are; see the module.
        """
        super().__init__()
        self.color_space = color_space
        # Not in the state: a specification has them.
        for name, values in (("mean", mean), ("std", std)):
            tensor = torch.tensor(values).reshape(1, 3, 1, 1)
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, images: Images) -> Float[Tensor, "batch 3 height width"]:
        """What the backbone is given of images."""
        pixels = images.permute(0, 3, 1, 2).to(self.mean.dtype)
        if self.color_space != "rgb":
            red, green, blue = pixels.unbind(dim=1)
            pixels = torch.stack(CONVERSIONS[self.color_space](red, green, blue), dim=1)
        # One pass, not three.
        return torch.addcmul(-self.mean / self.std, pixels, 1 / (255 * self.std))


def _luminance(red: Channel, green: Channel, blue: Channel) -> Channel:
    return 0.299 * red + 0.587 * green + 0.114 * blue


def _gray(red: Channel, green: Channel, blue: Channel) -> Channels:
    luminance = _luminance(red, green, blue)
    return luminance, luminance, luminance


def _hsv(red: Channel, green: Channel, blue: Channel) -> Channels:
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    # Whole numbers up to here: where there is a chroma it is 1 at least.
    divisor = chroma.clamp(min=1)
    sixths = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    hue = sixths * (math.pi / 3)
    half = 127.5 * chroma / value.clamp(min=1)
    return 127.5 + half * torch.cos(hue), 127.5 + half * torch.sin(hue), value


def _ycrcb(red: Channel, green: Channel, blue: Channel) -> Channels:
    luminance = _luminance(red, green, blue)
    return luminance, 127.5 + 0.713 * (red - luminance), 127.5 + 0.564 * (blue - luminance)


def _lab(red: Channel, green: Channel, blue: Channel) -> Channels:
    red, green, blue = (_linear(channel / 255) for channel in (red, green, blue))
    fx, fy, fz = (
        _lightness((r * red + g * green + b * blue) / (r + g + b)) for r, g, b in FROM_LINEAR_RGB
    )
    return 2.55 * (116 * fy - 16), 128 + 500 * (fx - fy), 128 + 200 * (fy - fz)


def _linear(channel: Channel) -> Channel:
    """Of sRGB's channel in 0 to 1, the light."""
    return torch.where(channel <= 0.04045, channel / 12.92, ((channel + 0.055) / 1.055) ** 2.4)


def _lightness(share: Channel) -> Channel:
    """CIE's cube root of a share of the white, a straight line near black."""
    root = share.clamp(min=216 / 24389) ** (1 / 3)
    return torch.where(share > 216 / 24389, root, share * (841 / 108) + 4 / 29)


CONVERSIONS: dict[ColorSpace, Callable[[Channel, Channel, Channel], Channels]] = {
    "gray": _gray,
    "hsv": _hsv,
    "lab": _lab,
    "ycrcb": _ycrcb,
}
"""From red, green and blue in 0 to 255 to channels of the same range."""
