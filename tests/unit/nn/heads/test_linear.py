import torch

from fgpipe.nn.heads.linear import LinearHead


def head(**options: object) -> LinearHead:
    torch.manual_seed(0)
    chosen = {"pooling": "average", "batch_norm": False, "dropout": 0.0} | options
    created = LinearHead(n_channels=16, n_classes=2, **chosen)
    torch.nn.init.normal_(created.classifier.weight)
    torch.nn.init.normal_(created.classifier.bias)
    return created


def feature_maps() -> torch.Tensor:
    return torch.rand(3, 16, 4, 5, generator=torch.Generator().manual_seed(0))


def test_the_linear_head_is_the_classifier_of_each_channels_mean() -> None:
    linear = head(dropout=0.5).eval()
    features = feature_maps()

    logits = linear(features).logits

    weight, bias = linear.classifier.weight, linear.classifier.bias
    for image in range(3):
        mean = [features[image, channel].sum() / 20 for channel in range(16)]
        for target in range(2):
            expected = sum(w * m for w, m in zip(weight[target], mean, strict=True)) + bias[target]
            assert torch.isclose(logits[image, target], expected, atol=1e-5)


def test_the_linear_head_does_not_see_where_a_part_is() -> None:
    linear = head()

    embedding, mirrored = linear(feature_maps()).embedding, linear(feature_maps().flip(3)).embedding

    assert torch.allclose(embedding, mirrored, atol=1e-6)


def test_the_class_map_is_the_classifiers_weight_of_each_cell() -> None:
    linear = head()
    features = feature_maps()

    maps = linear.class_map(features, torch.eye(2)[[0, 1, 1]])

    for image, target in enumerate([0, 1, 1]):
        says = [
            (linear.classifier.weight[target] * features[image, :, row, column]).sum()
            for row in range(4)
            for column in range(5)
        ]
        raised = [value - min(says) for value in says]
        expected = torch.stack([value / sum(raised) for value in raised])
        assert torch.allclose(maps[image].flatten(), expected, atol=1e-5)


def test_the_class_map_finds_the_part_that_decides_with_any_pooling_and_norm() -> None:
    features = torch.rand(4, 16, 4, 5, generator=torch.Generator().manual_seed(0))
    features[:, 6, 2, 3] += 9.0
    for pooling in ("average", "gem"):
        for batch_norm in (False, True):
            linear = head(pooling=pooling, batch_norm=batch_norm)
            torch.nn.init.zeros_(linear.classifier.weight)
            linear.classifier.weight.data[1, 6] = 1.0

            maps = linear.class_map(features, torch.eye(2)[[1, 1, 1, 1]])

            assert (maps[:, 2, 3] > 0.5).all()
