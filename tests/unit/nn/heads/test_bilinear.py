import math

import pytest
import torch

from fgpipe.errors import InputError
from fgpipe.nn.heads.bilinear import BilinearHead, bilinear_pool


def feature_maps() -> torch.Tensor:
    return torch.randn(2, 3, 2, 4, generator=torch.Generator().manual_seed(0))


def test_bilinear_pooling_is_a_slow_loop_over_pairs_of_channels() -> None:
    features = feature_maps()

    pooled = bilinear_pool(features, eps=1e-6)

    for image in range(2):
        roots = []
        for one in range(3):
            for other in range(3):
                products = features[image, one] * features[image, other]
                mean = sum(products.flatten().tolist()) / 8
                roots.append(math.copysign(math.sqrt(abs(mean) + 1e-6), mean))
        length = math.sqrt(sum(root**2 for root in roots))
        expected = [root / length for root in roots]
        assert pooled[image].tolist() == pytest.approx(expected, abs=1e-6)


def test_what_fires_together_tells_images_apart_that_have_equal_means() -> None:
    together, apart = torch.zeros(1, 2, 1, 2), torch.zeros(1, 2, 1, 2)
    together[0, :, 0, 0] = 1.0
    apart[0, 0, 0, 0] = apart[0, 1, 0, 1] = 1.0

    pooled = bilinear_pool(together), bilinear_pool(apart)

    assert torch.equal(together.mean(dim=(2, 3)), apart.mean(dim=(2, 3)))
    assert (pooled[0] - pooled[1]).norm() > 0.5


def test_a_brighter_picture_is_pooled_to_the_same() -> None:
    features = feature_maps()

    assert torch.allclose(bilinear_pool(features), bilinear_pool(5 * features), atol=1e-4)


def test_a_map_of_zeros_is_pooled_to_zeros_and_has_a_gradient() -> None:
    features = torch.zeros(1, 3, 2, 2, requires_grad=True)

    pooled = bilinear_pool(features)
    pooled.sum().backward()

    assert torch.equal(pooled, torch.zeros(1, 9))
    assert torch.equal(features.grad, torch.zeros_like(features))


@pytest.mark.parametrize("eps", [0.0, -1e-6])
def test_an_eps_that_is_not_positive_is_refused(eps: float) -> None:
    with pytest.raises(InputError, match=r"eps \((0|-1e-06)\) must be positive"):
        bilinear_pool(feature_maps(), eps=eps)


def test_the_products_are_taken_in_float32_under_autocast() -> None:
    torch.manual_seed(0)
    head = BilinearHead(n_channels=8, n_classes=2, dropout=0.0).eval()
    features = torch.randn(2, 8, 7, 7)

    with torch.autocast("cpu", torch.bfloat16):
        embedding = head(features).embedding
        reduced = head.reduce(features).float()

    assert torch.equal(embedding, head.length * bilinear_pool(reduced))
