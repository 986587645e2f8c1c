import math

import pytest
import torch

from fgpipe.nn.heads.cosine import CosineHead, scale_of, unit, with_margin


def head(**options: object) -> CosineHead:
    torch.manual_seed(0)
    chosen = {
        "pooling": "average",
        "batch_norm": False,
        "dropout": 0.0,
        "margin": "arcface",
        "margin_size": 0.3,
        "n_centres": 2,
    } | options
    return CosineHead(n_channels=8, n_classes=3, **chosen)


def feature_maps() -> torch.Tensor:
    return torch.randn(4, 8, 2, 3, generator=torch.Generator().manual_seed(0))


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(logits, targets)


def test_logits_are_the_scaled_cosine_to_the_nearest_centre() -> None:
    cosine = head()
    features = feature_maps()

    output = cosine(features)

    for image in range(4):
        mean = features[image].mean(dim=(1, 2))
        for target in range(3):
            cosines = [
                float(mean @ centre / (mean.norm() * centre.norm()))
                for centre in cosine.centres.detach()[target]
            ]
            expected = cosine.scale * max(cosines)
            assert output.logits[image, target].item() == pytest.approx(expected, abs=1e-4)
        assert output.embedding[image].norm().item() == pytest.approx(1.0, abs=1e-5)


def test_centres_are_drawn_from_the_generator_about_of_length_one() -> None:
    centres = head().centres

    assert torch.equal(centres, head().centres)
    assert 0.5 < centres.norm(dim=2).mean() < 2.0
    assert unit(centres).flatten(0, 1).std(dim=0).min() > 0.1


@pytest.mark.parametrize(("margin", "size"), [("arcface", 0.5), ("cosface", 0.35)])
def test_a_margin_is_taken_from_the_right_class_alone(margin: str, size: float) -> None:
    cosines = torch.tensor([[0.3, -0.2, 0.9]])

    moved = with_margin(cosines, torch.tensor([[0.0, 1.0, 0.0]]), margin=margin, size=size)

    expected = math.cos(math.acos(-0.2) + 0.5) if margin == "arcface" else -0.2 - 0.35
    assert moved[0].tolist() == pytest.approx([0.3, expected, 0.9], abs=1e-6)


@pytest.mark.parametrize("margin", ["arcface", "cosface"])
def test_a_share_of_a_class_has_that_share_of_the_margin(margin: str) -> None:
    cosines = torch.tensor([[0.3, -0.2]])

    moved = with_margin(cosines, torch.tensor([[0.25, 0.75]]), margin=margin, size=0.4)

    if margin == "arcface":
        expected = [math.cos(math.acos(0.3) + 0.1), math.cos(math.acos(-0.2) + 0.3)]
    else:
        expected = [0.3 - 0.1, -0.2 - 0.3]
    assert moved[0].tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("margin", ["arcface", "cosface"])
@pytest.mark.parametrize("size", [0.0, 0.5, 0.99])
def test_a_smaller_angle_is_better_at_any_angle_and_has_a_finite_slope(
    margin: str, size: float
) -> None:
    angles = torch.linspace(0, math.pi, 200, dtype=torch.float64)
    cosines = angles.cos().float()[:, None].requires_grad_()

    moved = with_margin(cosines, torch.ones(200, 1), margin=margin, size=size)
    moved.sum().backward()

    assert (moved.diff(dim=0) < 1e-3).all()
    assert (moved <= cosines + 1e-6).all()
    assert cosines.grad.isfinite().all()
    assert (cosines.grad.abs() < 1001).all()


def test_rounding_beyond_one_has_a_margin_too() -> None:
    cosines = torch.tensor([[1.0 + 1e-6], [-1.0 - 1e-6]], requires_grad=True)

    moved = with_margin(cosines, torch.ones(2, 1), margin="arcface", size=0.5)
    moved.sum().backward()

    assert moved.isfinite().all()
    assert cosines.grad.isfinite().all()


def test_the_margin_is_in_the_loss_and_not_in_use() -> None:
    without, with_one = head(margin_size=0.0), head(margin_size=0.5)
    targets = torch.eye(3)[[0, 1, 2, 0]]

    losses = [
        each.loss(feature_maps(), targets, criterion=cross_entropy) for each in (without, with_one)
    ]

    logits = without(feature_maps()).logits
    assert torch.equal(logits, with_one(feature_maps()).logits)
    assert losses[0].item() == pytest.approx(cross_entropy(logits, targets).item(), rel=1e-5)
    assert losses[1] > losses[0] + 0.5


@pytest.mark.parametrize("n_classes", [2, 3, 10, 200, 5000])
def test_the_scale_lets_a_class_be_all_but_certain(n_classes: int) -> None:
    logits = torch.zeros(n_classes, dtype=torch.float64)
    logits[0] = 0.5 * scale_of(n_classes)

    assert logits.softmax(dim=0)[0].item() == pytest.approx(0.99)


def test_a_single_class_has_a_scale() -> None:
    assert scale_of(1) == scale_of(2) > 9


@pytest.mark.parametrize("margin", ["arcface", "cosface"])
def test_two_classes_are_learnt_with_a_margin(margin: str) -> None:
    torch.manual_seed(0)
    features = torch.rand(20, 8, 2, 2)
    classes = torch.arange(20) % 2
    features[:, 0] += 1.0 * classes[:, None, None]
    cosine = CosineHead(
        n_channels=8,
        n_classes=2,
        dropout=0.0,
        pooling="average",
        batch_norm=True,
        margin=margin,
        margin_size=0.3,
        n_centres=1,
    )
    optimiser = torch.optim.Adam(cosine.parameters(), lr=0.03)

    for _ in range(40):
        optimiser.zero_grad()
        cosine.loss(features, torch.eye(2)[classes], criterion=cross_entropy).backward()
        optimiser.step()

    logits = cosine(features).logits
    of_class, of_other = logits[range(20), classes], logits[range(20), 1 - classes]
    assert (of_class - of_other > 0.3 * cosine.scale).all()


def test_the_class_map_is_that_of_the_nearest_centre() -> None:
    cosine = head(n_centres=2)
    features = feature_maps()
    targets = torch.eye(3)[[0, 1, 2, 0]]

    maps = cosine.class_map(features, targets)

    for image, target in enumerate([0, 1, 2, 0]):
        mean = features[image].mean(dim=(1, 2))
        centres = unit(cosine.centres)[target]
        nearest = max(centres.detach(), key=lambda centre: float(centre @ mean))
        says = torch.einsum("c,cxy->xy", nearest, features[image])
        raised = says - says.min()
        assert torch.allclose(maps[image], raised / raised.sum(), atol=1e-5)


def test_angles_are_taken_in_float32_under_autocast() -> None:
    cosine = head().eval()

    with torch.autocast("cpu", torch.bfloat16):
        logits = cosine(feature_maps()).logits

    assert torch.equal(logits, cosine(feature_maps()).logits)
