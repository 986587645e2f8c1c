import gc
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx.reference import ReferenceEvaluator

from fgpipe.errors import ConfigError
from fgpipe.nn.export import export_graph
from fgpipe.nn.recogniser import build, check_cells
from fgpipe.records import RecogniserSpec


def spec(
    head: str = "linear", *, backbone: str = "test_resnet", **options: object
) -> RecogniserSpec:
    return RecogniserSpec(
        backbone=backbone,
        head=head,
        n_classes=3,
        dropout=0.1,
        image_size_px=64,
        mean=(0.1, 0.2, 0.3),
        std=(0.5, 0.6, 0.7),
        **options,
    )


def images(n: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, 64, 64, 3), dtype=torch.uint8, generator=generator)


def test_a_specification_and_a_seed_give_the_same_weights_and_leave_the_generator_alone() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()

    one, other, third = build(spec(), seed=1), build(spec(), seed=1), build(spec(), seed=2)

    assert torch.equal(torch.random.get_rng_state(), before)
    weights = [next(network.parameters()) for network in (one, other, third)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("backbone", "size_px", "low_size_px", "key"),
    [
        ("tf_efficientnet_lite0", 32, 0, "preprocess.image_size_px (32)"),
        ("seed_cnn", 64, 0, "preprocess.image_size_px (64)"),
        ("test_vit", 64, 16, "train.low_size_px (16)"),
    ],
)
def test_a_map_of_one_cell_is_refused_where_the_head_reads_what_varies_over_it(
    backbone: str, size_px: int, low_size_px: int, key: str
) -> None:
    chosen = spec("isqrt", backbone=backbone).model_copy(update={"image_size_px": size_px})

    with pytest.raises(ConfigError) as error:
        check_cells(chosen, low_size_px=low_size_px)

    assert str(error.value).startswith("train.head (isqrt) reads how channels vary over")
    assert f"one cell for train.backbone {backbone} at {key}; choose another" in str(error.value)
    check_cells(chosen.model_copy(update={"head": "linear"}), low_size_px=low_size_px)


def test_a_map_of_more_cells_is_not() -> None:
    check_cells(spec("isqrt", backbone="tf_efficientnet_lite0"), low_size_px=33)


def test_normalisation_is_the_specifications() -> None:
    network = build(spec(), seed=0)
    batch = images(2)

    pixels = network.pixels(batch)

    for channel, (mean, std) in enumerate(zip((0.1, 0.2, 0.3), (0.5, 0.6, 0.7), strict=True)):
        expected = (batch[1, 5, 7, channel].item() / 255 - mean) / std
        assert pixels[1, channel, 5, 7].item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.integration  # an export takes seconds
@pytest.mark.parametrize(
    "options",
    [
        {"head": "linear"},
        {"head": "linear", "pooling": "gem", "batch_norm": True},
        {"head": "mlp"},
        {"head": "gru"},
        {"head": "gru", "scan": "shuffled"},
        {"head": "lstm"},
        {"head": "isqrt"},
        {"head": "bilinear"},
        {"head": "cal", "n_attentions": 4},
        {"head": "cosine", "pooling": "gem", "batch_norm": True, "n_centres": 2},
        {"backbone": "test_vit"},
        {"head": "gru", "backbone": "test_vit"},
        {"backbone": "test_vit_relpos"},
        {"backbone": "test_mambaout"},
        {"backbone": "seed_cnn"},
        {"color_space": "lab"},
    ],
    ids=lambda options: " ".join(str(value) for value in options.values()),
)
def test_the_graph_does_what_torch_does_at_any_batch_size(
    tmp_path: Path, options: dict[str, object]
) -> None:
    network = build(spec(**options), seed=0)
    # Away from where training starts: logits are 0 there, and norms do nothing.
    torch.manual_seed(0)
    for name, value in network.head.state_dict().items():
        if value.is_floating_point():
            noise = torch.rand_like(value) if "var" in name else torch.randn_like(value)
            value.add_(0.2 * noise)
    export_graph(network, tmp_path / "model.onnx", image_size_px=64)
    graph = ReferenceEvaluator(str(tmp_path / "model.onnx"))

    for n in (1, 5):
        logits, embedding = graph.run(["logits", "embedding"], {"images": images(n).numpy()})

        with torch.no_grad():
            expected = network(images(n))
        assert np.allclose(logits, expected[0].numpy(), atol=1e-4)
        assert np.allclose(embedding, expected[1].numpy(), atol=1e-4)


@pytest.mark.integration
def test_the_graph_tells_nothing_of_where_it_was_made_and_is_the_same_twice(tmp_path: Path) -> None:
    for name in ("one", "other"):
        export_graph(build(spec(), seed=0), tmp_path / name, image_size_px=64)

    content = (tmp_path / "one").read_bytes()
    assert content == (tmp_path / "other").read_bytes()
    assert b".py" not in content


@pytest.mark.integration
def test_what_export_changes_so_as_to_trace_faster_it_changes_back(tmp_path: Path) -> None:
    network = build(spec(), seed=0)
    before = [getattr(module, "inplace", None) for module in network.modules()]

    export_graph(network, tmp_path / "model.onnx", image_size_px=64)

    assert any(before)
    assert [getattr(module, "inplace", None) for module in network.modules()] == before
    assert gc.isenabled()


def test_more_weights_than_a_graph_holds_are_refused_before_any_is_made() -> None:
    many = spec("cal", backbone="resnet50").model_copy(
        update={"n_classes": 10_000, "n_attentions": 32}
    )

    with pytest.raises(ConfigError, match=r"resnet50 has 24 million .* 10,000 classes 655; an"):
        build(many, seed=0)
