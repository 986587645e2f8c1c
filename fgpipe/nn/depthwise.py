"""Depthwise convolutions whose gradient is computed in float32 under bf16 autocast.

On CPUs that compute in bf16 the gradients of depthwise convolutions with stride 2 or
kernels above 3x3 are two to five times slower in bf16 than in float32 (measured with
torch 2.14 on an AVX512_BF16 CPU: a 5x5 on 672 channels 41 ms against 11, a 3x3 with stride
2 on 96 channels 88 against 32), and they are more than half of an EfficientNet's training
step. Values forward, and every other layer, stay as autocast has them.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

FeatureMap = Float[Tensor, "batch channels height width"]
Result = Float[Tensor, "batch channels rows columns"]
Pad = Callable[[Tensor, list[int], list[int], list[int]], Tensor]


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise convolution; pads as the one it replaces does."""

    pad: Pad | None = None

    @classmethod
    def replacing(cls, former: nn.Conv2d, *, pad: Pad | None) -> "DepthwiseConv2d":
        """The same layer with the same weights.

        Args:
            former: Its bias must be None.
            pad: Called before the convolution with kernel, stride and dilation, where
                padding depends on the input's size.
        """
        layer = cls(
            former.in_channels,
            former.out_channels,
            former.kernel_size,  # type: ignore[arg-type]
            stride=former.stride,  # type: ignore[arg-type]
            padding=0 if pad else former.padding,  # type: ignore[arg-type]
            dilation=former.dilation,  # type: ignore[arg-type]
            groups=former.groups,
            bias=False,
        )
        layer.weight = former.weight
        layer.pad = pad
        return layer

    def forward(self, features: FeatureMap) -> Result:
        """Convolve; under bf16 autocast on the CPU by way of :class:`_MixedGradient`."""
        if self.pad is not None:
            features = self.pad(
                features, list(self.kernel_size), list(self.stride), list(self.dilation)
            )
        mixed = (
            torch.is_grad_enabled()
            and features.device.type == "cpu"
            and torch.is_autocast_enabled("cpu")
        )
        if not mixed:
            return super().forward(features)
        half = torch.get_autocast_dtype("cpu")
        result: Tensor = _MixedGradient.apply(
            features.to(half), self.weight, self.stride, self.padding, self.dilation
        )
        return result


class _MixedGradient(torch.autograd.Function):
    """Forward in the input's precision, backward in float32."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's own type has no name
        features: Tensor,
        weight: Tensor,
        stride: tuple[int, int],
        padding: tuple[int, int],
        dilation: tuple[int, int],
    ) -> Tensor:
        """The convolution."""
        ctx.save_for_backward(features, weight)
        ctx.geometry = (stride, padding, dilation)
        half = weight.to(features.dtype)
        groups = features.shape[1]
        return nn.functional.conv2d(features, half, None, stride, padding, dilation, groups)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - as above
        """Gradients of input and weight."""
        features, weight = ctx.saved_tensors
        stride, padding, dilation = ctx.geometry
        of_features, of_weight, _ = torch.ops.aten.convolution_backward(
            gradient.float(),
            features.float(),
            weight.float(),
            None,
            stride,
            padding,
            dilation,
            False,  # noqa: FBT003 - not transposed; the operator takes positions
            [0, 0],
            features.shape[1],
            [ctx.needs_input_grad[0], ctx.needs_input_grad[1], False],
        )
        of_features = None if of_features is None else of_features.to(features.dtype)
        return of_features, of_weight, None, None, None


def is_slow_in_bf16(layer: nn.Module) -> bool:
    """Whether a layer is a depthwise convolution that gains from a float32 gradient."""
    return (
        isinstance(layer, nn.Conv2d)
        and layer.groups == layer.in_channels == layer.out_channels
        and layer.groups > 1
        and layer.bias is None
        and isinstance(layer.padding, tuple)
        and layer.padding_mode == "zeros"
        and (max(layer.stride) > 1 or max(layer.kernel_size) > 3)
    )
