import pytest
import torch

from fgpipe.nn.poolings import AveragePooling, GemPooling, create_pooling


def feature_maps() -> torch.Tensor:
    return torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))


def gem(exponent: float) -> GemPooling:
    pooling = GemPooling()
    torch.nn.init.constant_(pooling.free_exponent, exponent)
    return pooling


def test_average_pooling_is_the_mean_over_cells() -> None:
    features = feature_maps()

    pooled = AveragePooling()(features)

    assert pooled[1, 2].item() == pytest.approx(sum(features[1, 2].flatten().tolist()) / 20)


@pytest.mark.parametrize("exponent", [1.0, 2.5, 6.0])
def test_gem_is_the_root_of_the_mean_of_powers_of_what_is_positive(exponent: float) -> None:
    features = feature_maps()

    pooled = gem(exponent)(features)

    for image in range(2):
        for channel in range(3):
            cells = features[image, channel].flatten().tolist()
            powers = [max(cell, 1e-6) ** exponent for cell in cells]
            expected = (sum(powers) / 20) ** (1 / exponent)
            assert pooled[image, channel].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("free", "in_use"), [(-3.0, 1.0), (0.9, 1.0), (4.0, 4.0), (50.0, 6.0)])
def test_the_exponent_stays_within_bounds_and_finds_back_from_beyond(
    free: float, in_use: float
) -> None:
    pooling = gem(free)

    pooling(feature_maps()).sum().backward()

    assert pooling.exponent.item() == pytest.approx(in_use)
    assert pooling.free_exponent.grad is not None
    assert pooling.free_exponent.grad > 0  # a generalised mean grows with its exponent


@pytest.mark.parametrize("value", [0.0, 1e4])
def test_gem_of_nothing_and_of_much_is_finite_at_the_highest_exponent(value: float) -> None:
    pooling = gem(6.0)
    features = torch.full((1, 2, 7, 7), value, requires_grad=True)

    pooled = pooling(features)
    pooled.sum().backward()

    assert torch.allclose(pooled, torch.full((1, 2), max(value, 1e-6)), rtol=1e-4)
    assert features.grad is not None
    assert features.grad.isfinite().all()
    assert pooling.free_exponent.grad.isfinite()


@pytest.mark.parametrize("pooling", [AveragePooling(), gem(1.0), gem(3.0), gem(6.0)])
def test_the_cells_parts_sum_to_the_pooled_value(pooling: AveragePooling | GemPooling) -> None:
    features = feature_maps()

    parts = pooling.parts(features)

    assert torch.allclose(parts.sum(dim=(2, 3)), pooling(features), atol=1e-6)


def test_a_cells_part_under_gem_is_its_share_of_the_powers() -> None:
    features = torch.tensor([1.0, 2.0]).reshape(1, 1, 1, 2)

    parts = gem(3.0).parts(features)

    pooled = ((1 + 8) / 2) ** (1 / 3)
    assert parts.flatten().tolist() == pytest.approx([pooled / 9, pooled * 8 / 9])


@pytest.mark.parametrize("name", ["average", "gem"])
def test_half_precision_is_pooled_in_float32(name: str) -> None:
    features = feature_maps().bfloat16()

    pooled = create_pooling(name)(features)

    assert pooled.dtype == torch.float32
    assert torch.allclose(pooled, create_pooling(name)(features.float()), atol=1e-6)
