import torch

from fgpipe.nn.heads.mlp import MlpHead


def head(*, batch_norm: bool = False) -> MlpHead:
    torch.manual_seed(0)
    created = MlpHead(
        n_channels=8, n_classes=3, dropout=0.5, pooling="average", batch_norm=batch_norm
    ).eval()
    torch.nn.init.normal_(created.classifier.weight)
    return created


def feature_maps() -> torch.Tensor:
    return torch.randn(3, 8, 2, 3, generator=torch.Generator().manual_seed(0))


def test_a_hidden_unit_is_leaky_below_zero() -> None:
    mlp = head()
    features = feature_maps()

    embedding = mlp(features).embedding

    for image in range(3):
        mean = features[image].mean(dim=(1, 2))
        for unit in range(mlp.hidden):
            value = (mlp.project.weight[unit] * mean).sum() + mlp.project.bias[unit]
            expected = value if value > 0 else 0.1 * value
            assert torch.isclose(embedding[image, unit], expected, atol=1e-5)


def test_the_class_map_is_the_slope_of_the_logit_in_each_cell_times_the_cell() -> None:
    mlp = head(batch_norm=True)
    torch.nn.init.uniform_(mlp.pooled.norm.running_var, 0.5, 2.0)
    features = feature_maps().requires_grad_()
    targets = torch.eye(3)

    maps = mlp.class_map(features, targets)

    (mlp(features).logits * targets).sum().backward()
    says = (features.grad * features).sum(dim=1).flatten(1)
    raised = says - says.min(dim=1, keepdim=True).values
    expected = raised / raised.sum(dim=1, keepdim=True)
    assert torch.allclose(maps.flatten(1), expected, atol=1e-5)
