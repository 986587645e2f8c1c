import math

import pytest
import torch

from fgpipe.nn.heads.cal import CalHead, attention_pool


def head(*, dropout: float = 0.0) -> CalHead:
    torch.manual_seed(0)
    created = CalHead(n_channels=4, n_classes=3, dropout=dropout, n_attentions=2)
    torch.nn.init.normal_(created.classifier.weight)
    return created


def feature_maps() -> torch.Tensor:
    return torch.randn(3, 4, 2, 3, generator=torch.Generator().manual_seed(0))


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(logits, targets)


def test_attention_pooling_is_a_slow_loop_over_maps_channels_and_cells() -> None:
    features = feature_maps()
    attentions = torch.rand(3, 2, 2, 3, generator=torch.Generator().manual_seed(1))

    pooled = attention_pool(features, attentions)

    for image in range(3):
        roots = []
        for attention in range(2):
            for channel in range(4):
                seen = attentions[image, attention] * features[image, channel]
                mean = sum(seen.flatten().tolist()) / 6
                roots.append(math.copysign(math.sqrt(abs(mean) + 1e-6), mean))
        length = math.sqrt(sum(root**2 for root in roots))
        assert pooled[image].tolist() == pytest.approx([r / length for r in roots], abs=1e-6)


def test_attention_is_the_sum_of_the_maps() -> None:
    cal = head().eval()

    output = cal(feature_maps())

    maps = torch.relu(cal.attend(feature_maps())).sum(dim=1)
    assert torch.allclose(output.attention, maps / maps.sum(dim=(1, 2), keepdim=True), atol=1e-6)


def test_the_loss_is_that_of_the_logits_of_their_effect_and_of_the_centres() -> None:
    cal = head()
    torch.nn.init.normal_(cal.centres)
    centres = cal.centres.clone()
    targets = torch.eye(3)[[2, 0, 0]]

    torch.manual_seed(7)
    loss = cal.loss(feature_maps(), targets, criterion=cross_entropy)

    torch.manual_seed(7)
    attentions = torch.relu(cal.attend(feature_maps()))
    anywhere = torch.rand_like(attentions)
    pooled = [attention_pool(feature_maps(), maps) for maps in (attentions, anywhere)]
    logits, counterfactual = (cal.classifier(3.0 * seen) for seen in pooled)
    distances = [
        sum(((seen - centre / centre.norm()) ** 2).tolist())
        for seen, centre in zip(pooled[0], centres[[2, 0, 0]], strict=True)
    ]
    expected = (
        cross_entropy(logits, targets) / 2
        + cross_entropy(logits - counterfactual, targets) / 2
        + sum(distances) / 3
    )
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_same_units_are_dropped_from_what_is_seen_and_from_the_counterfactual() -> None:
    cal = head(dropout=0.9)
    torch.nn.init.zeros_(cal.classifier.weight)
    cal.classifier.weight.data[0, 0] = 1.0
    told: list[torch.Tensor] = []

    def criterion(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        told.append(logits.detach())
        return cross_entropy(logits, targets)

    for _ in range(20):
        cal.loss(feature_maps(), torch.eye(3), criterion=criterion)

    for logits, effect in zip(told[::2], told[1::2], strict=True):
        assert torch.equal(logits[:, 0] == 0, effect[:, 0] == 0)


def test_a_centre_moves_to_the_mean_of_its_images_and_others_stay() -> None:
    cal = head()
    torch.nn.init.normal_(cal.centres)
    before = cal.centres.clone()
    targets = torch.tensor([[0.6, 0.0, 0.4], [0.1, 0.0, 0.9], [0.9, 0.1, 0.0]])
    seen = attention_pool(feature_maps(), torch.relu(head().attend(feature_maps())))

    cal.loss(feature_maps(), targets, criterion=cross_entropy)

    expected = before.clone()
    expected[0] = 0.95 * before[0] + 0.05 * (seen[0] + seen[2]) / 2
    expected[2] = 0.95 * before[2] + 0.05 * seen[1]
    assert torch.allclose(cal.centres, expected, atol=1e-6)
    assert torch.equal(cal.centres[1], before[1])


def test_centres_are_state_and_no_weights_and_stay_in_use() -> None:
    cal = head()

    cal.eval()
    cal.loss(feature_maps(), torch.eye(3), criterion=cross_entropy)

    assert "centres" in cal.state_dict()
    assert "centres" not in dict(cal.named_parameters())
    assert torch.equal(cal.centres, torch.zeros(3, 8))
