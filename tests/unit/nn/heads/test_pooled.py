import pytest
import torch

from fgpipe.nn.heads.pooled import PooledFeatures


def feature_maps() -> torch.Tensor:
    return torch.rand(4, 3, 2, 3, generator=torch.Generator().manual_seed(0))


def test_batch_norm_makes_every_channel_count_alike() -> None:
    pooled = PooledFeatures(n_channels=3, pooling="average", batch_norm=True)
    features = feature_maps() * torch.tensor([1.0, 100.0, 0.1]).reshape(3, 1, 1)

    values = pooled(features)

    mean = features.mean(dim=(2, 3))
    deviation = ((mean - mean.mean(dim=0)).square().mean(dim=0) + 1e-5).sqrt()
    assert torch.allclose(values, (mean - mean.mean(dim=0)) / deviation, atol=1e-4)


def test_without_batch_norm_pooled_features_are_as_they_are() -> None:
    pooled = PooledFeatures(n_channels=3, pooling="average", batch_norm=False)
    features = feature_maps()

    assert torch.allclose(pooled(features), features.mean(dim=(2, 3)))


@pytest.mark.parametrize("pooling", ["average", "gem"])
def test_the_map_shows_where_a_weighted_sum_comes_from(pooling: str) -> None:
    pooled = PooledFeatures(n_channels=3, pooling=pooling, batch_norm=True).eval()
    torch.nn.init.uniform_(pooled.norm.running_var, 0.5, 2.0)
    torch.nn.init.normal_(pooled.norm.running_mean)
    torch.nn.init.normal_(pooled.norm.weight)
    torch.nn.init.normal_(pooled.norm.bias)
    features = feature_maps()
    weights = torch.tensor([[1.0, -2.0, 0.5]] * 4)

    shown = pooled.map_of(features, weights)

    # Through the network itself: the parts of a channel in place of its pooled value; what is
    # the same for every cell falls away with the lowest.
    parts = pooled.pooling.parts(features)
    for image in range(4):
        says = torch.stack(
            [
                (weights[image] * pooled.norm(parts[image, :, row, column][None])[0]).sum()
                for row in range(2)
                for column in range(3)
            ]
        )
        raised = says - says.min()
        assert torch.allclose(shown[image].flatten(), raised / raised.sum(), atol=1e-5)
