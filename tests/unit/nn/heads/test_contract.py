"""What holds for every head."""

import pytest
import torch

from fgpipe.nn.heads.contract import Head, energy, in_float32, shares
from fgpipe.nn.heads.registry import create_head
from fgpipe.nn.losses import Criterion
from fgpipe.records import RecogniserSpec

OPTIONS = {
    "linear": {"head": "linear"},
    "linear gem norm": {"head": "linear", "pooling": "gem", "batch_norm": True},
    "mlp": {"head": "mlp"},
    "mlp gem norm": {"head": "mlp", "pooling": "gem", "batch_norm": True},
    "gru": {"head": "gru"},
    "gru shuffled": {"head": "gru", "scan": "shuffled"},
    "lstm": {"head": "lstm"},
    "isqrt": {"head": "isqrt"},
    "bilinear": {"head": "bilinear"},
    "cal": {"head": "cal", "n_attentions": 3},
    "arcface": {"head": "cosine", "margin": "arcface", "margin_size": 0.3, "n_centres": 2},
    "cosface": {"head": "cosine", "margin": "cosface", "margin_size": 0.2, "batch_norm": True},
}

every_head = pytest.mark.parametrize("name", OPTIONS)


def create(name: str, *, dropout: float = 0.0) -> Head:
    torch.manual_seed(0)
    spec = RecogniserSpec(
        backbone="any",
        n_classes=5,
        dropout=dropout,
        image_size_px=64,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        **OPTIONS[name],
    )
    return create_head(spec, n_channels=16)


def feature_maps(rows: int = 3, columns: int = 4) -> torch.Tensor:
    return torch.randn(6, 16, rows, columns, generator=torch.Generator().manual_seed(0))


def one_hot() -> torch.Tensor:
    return torch.eye(5)[[0, 1, 2, 3, 4, 0]]


def plain() -> Criterion:
    return lambda logits, targets: torch.nn.functional.cross_entropy(logits.float(), targets)


@every_head
@pytest.mark.parametrize("half", [False, True])
def test_a_head_gives_logits_an_embedding_and_attention(name: str, *, half: bool) -> None:
    head = create(name).eval()
    features = feature_maps().to(torch.bfloat16 if half else torch.float32)

    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        output = head(features)

    assert output.logits.shape == (6, 5)
    assert output.embedding.shape[0] == 6
    assert output.attention.shape == (6, 3, 4)
    assert output.attention.dtype == torch.float32
    assert (output.attention >= 0).all()
    assert torch.allclose(output.attention.sum(dim=(1, 2)), torch.ones(6), atol=1e-6)


@every_head
@pytest.mark.parametrize("half", [False, True])
def test_a_class_map_is_not_negative_and_sums_to_one(name: str, *, half: bool) -> None:
    head = create(name)
    features = feature_maps().to(torch.bfloat16 if half else torch.float32)

    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        maps = head.class_map(features, one_hot())

    assert maps.dtype == torch.float32
    assert (maps >= 0).all()
    assert torch.allclose(maps.sum(dim=(1, 2)), torch.ones(6), atol=1e-6)


@every_head
@pytest.mark.parametrize("half", [False, True])
def test_a_few_steps_lower_the_loss(name: str, *, half: bool) -> None:
    head = create(name)
    optimiser = torch.optim.Adam(head.parameters(), lr=0.01)
    losses = []

    for _ in range(8):
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = head.loss(feature_maps(), one_hot(), criterion=plain())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())

    assert losses[-1] < losses[0] - 0.1


@every_head
def test_every_weight_learns(name: str) -> None:
    head = create(name)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.5)

    head.loss(feature_maps(), one_hot(), criterion=plain()).backward()

    for weight, parameter in head.named_parameters():
        assert parameter.grad is not None, weight
        assert parameter.grad.abs().max() > 0, weight


@every_head
@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("training", [False, True])
def test_a_map_that_is_the_same_everywhere_has_finite_logits_and_gradients(
    name: str, *, value: float, training: bool
) -> None:
    head = create(name).train(training)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    features = torch.full((6, 16, 3, 4), value, requires_grad=True)

    output = head(features)
    loss = head.loss(features, one_hot(), criterion=plain())
    loss.backward()

    assert all(part.isfinite().all() for part in output)
    assert head.class_map(features, one_hot()).isfinite().all()
    assert loss.isfinite()
    assert features.grad is not None
    assert features.grad.abs().max() < 1e4
    assert all(weight.grad.isfinite().all() for weight in head.parameters())


@every_head
def test_an_untrained_head_prefers_no_class_unless_it_has_centres(name: str) -> None:
    head = create(name)

    logits = head(feature_maps()).logits

    is_undecided = torch.equal(logits, torch.zeros(6, 5))
    assert is_undecided is (OPTIONS[name]["head"] != "cosine")


@every_head
def test_one_head_reads_grids_of_several_sizes(name: str) -> None:
    head = create(name).eval()

    small, large = head(feature_maps(2, 2)), head(feature_maps(5, 7))

    assert small.embedding.shape == large.embedding.shape
    assert large.attention.shape == (6, 5, 7)


@every_head
def test_in_use_an_images_logits_depend_on_no_other_image_and_on_no_chance(name: str) -> None:
    head = create(name, dropout=0.5).eval()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.5)

    together, alone = head(feature_maps()).logits, head(feature_maps()[2:3]).logits

    assert torch.allclose(together[2:3], alone, atol=1e-4)


@every_head
def test_dropout_drops_in_training(name: str) -> None:
    head = create(name, dropout=0.5).train()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.5)

    one, other = head(feature_maps()), head(feature_maps())

    assert not torch.allclose(one.logits, other.logits)
    assert torch.allclose(one.embedding, other.embedding)


def test_energy_is_each_cells_share_of_the_squares() -> None:
    features = feature_maps()

    attention = energy(features)

    total = sum(value.item() ** 2 for value in features[1].flatten())
    for row in range(3):
        for column in range(4):
            squares = sum(features[1, channel, row, column].item() ** 2 for channel in range(16))
            assert attention[1, row, column].item() == pytest.approx(squares / total, rel=1e-4)


def test_what_is_zero_everywhere_is_shared_evenly() -> None:
    amounts = torch.zeros(2, 2, 5)
    amounts[1, 0, 3] = 7.0

    parts = shares(amounts)

    assert torch.equal(parts[0], torch.full((2, 5), 0.1))
    assert parts[1, 0, 3] == 1.0


def test_float32_is_computed_in_float32_whatever_autocast_says() -> None:
    matrix = torch.rand(4, 4)

    with torch.autocast("cpu", torch.bfloat16):
        rounded = matrix @ matrix
        with in_float32(matrix.device):
            exact = matrix @ matrix

    assert rounded.dtype == torch.bfloat16
    assert torch.equal(exact, matrix @ matrix)
