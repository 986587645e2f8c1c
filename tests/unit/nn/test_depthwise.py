import pytest
import torch
from timm.layers import Conv2dSame, pad_same
from torch import Tensor, nn

from fgpipe.nn.depthwise import DepthwiseConv2d, is_slow_in_bf16


def gradients(layer: nn.Module, pixels: Tensor, *, half: bool) -> tuple[Tensor, Tensor, Tensor]:
    pixels = pixels.clone().requires_grad_()
    layer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        result = layer(pixels)
    (result.float() ** 2).sum().backward()
    assert pixels.grad is not None
    return result.detach(), pixels.grad, layer.weight.grad.clone()


@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (5, 1), (5, 2)])
@pytest.mark.parametrize("same", [True, False])
def test_value_and_gradient_are_the_replaced_layers(
    *, kernel: int, stride: int, same: bool
) -> None:
    torch.manual_seed(0)
    kind = Conv2dSame if same else nn.Conv2d
    former = kind(8, 8, kernel, stride=stride, padding=0 if same else 1, groups=8, bias=False)
    layer = DepthwiseConv2d.replacing(former, pad=pad_same if same else None)
    pixels = torch.randn(2, 8, 10, 10)

    exact = gradients(former, pixels, half=False)
    plain = gradients(layer, pixels, half=False)
    mixed = gradients(layer, pixels, half=True)

    for one, other in zip(plain, exact, strict=True):
        assert torch.allclose(one, other, atol=1e-5)
    assert mixed[0].dtype == torch.bfloat16
    for one, other in zip(mixed, exact, strict=True):
        assert (one.float() - other).norm() < 0.02 * other.norm()


def test_the_weights_gradient_under_autocast_comes_from_float32() -> None:
    torch.manual_seed(0)
    former = nn.Conv2d(4, 4, 5, padding=2, groups=4, bias=False)
    layer = DepthwiseConv2d.replacing(former, pad=None)
    pixels = torch.randn(4, 4, 16, 16).bfloat16().float()

    mixed = gradients(layer, pixels, half=True)[2]
    half = gradients(former, pixels, half=True)[2]

    upstream = 2 * gradients(former, pixels, half=True)[0].float()
    exact = torch.nn.grad.conv2d_weight(pixels, (4, 1, 5, 5), upstream, padding=2, groups=4)
    assert (mixed - exact).norm() < (half - exact).norm()


def test_only_what_is_slow_is_replaced() -> None:
    assert is_slow_in_bf16(nn.Conv2d(8, 8, 5, groups=8, bias=False))
    assert is_slow_in_bf16(nn.Conv2d(8, 8, 3, stride=2, groups=8, bias=False))
    assert not is_slow_in_bf16(nn.Conv2d(8, 8, 3, groups=8, bias=False))
    assert not is_slow_in_bf16(nn.Conv2d(8, 8, 5, bias=False))
    assert not is_slow_in_bf16(nn.Conv2d(8, 8, 5, groups=8))
    assert not is_slow_in_bf16(nn.Linear(8, 8))
