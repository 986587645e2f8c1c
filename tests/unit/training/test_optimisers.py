from itertools import pairwise

import pytest
import torch

from fgpipe.training.optimisers import create_optimiser, set_rates
from tests.support.learning import network


def optimiser(
    model: torch.nn.Module, *, name: str = "adamw", layer_decay: float = 1.0
) -> torch.optim.Optimizer:
    return create_optimiser(
        model,
        name=name,
        learning_rate=5e-3,
        backbone_rate=0.5,
        layer_decay=layer_decay,
        weight_decay=0.01,
    )


def rate_of(made: torch.optim.Optimizer, parameter: torch.nn.Parameter) -> float:
    (group,) = [g for g in made.param_groups if any(p is parameter for p in g["params"])]
    return group["peak_rate"]


def test_biases_and_norms_are_not_decayed_and_the_head_is_faster() -> None:
    model = network()

    made = optimiser(model)

    rows = [
        (group["weight_decay"], group["peak_rate"], {p.ndim > 1 for p in group["params"]})
        for group in made.param_groups
    ]
    assert rows == [
        (0.01, 2.5e-3, {True}),
        (0.0, 2.5e-3, {False}),
        (0.01, 5e-3, {True}),
        (0.0, 5e-3, {False}),
    ]


@pytest.mark.parametrize("layer_decay", [1.0, 0.5])
def test_every_parameter_is_in_one_group(layer_decay: float) -> None:
    model = network()

    made = optimiser(model, layer_decay=layer_decay)

    grouped = [id(p) for group in made.param_groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())


def test_each_layer_learns_slower_than_the_one_above_it_by_the_decay() -> None:
    model = network()
    layers = model.backbone.layers()

    made = optimiser(model, layer_decay=0.5)

    rates = [rate_of(made, layer[0]) for layer in layers]
    assert rates[-1] == pytest.approx(2.5e-3)
    assert [upper / lower for lower, upper in pairwise(rates)] == (
        pytest.approx([2.0] * (len(layers) - 1))
    )
    assert rate_of(made, model.backbone.network.conv1[0].weight) == rates[0]
    assert rate_of(made, model.head.classifier.weight) == 5e-3


def test_a_rate_is_a_share_of_its_groups_peak() -> None:
    made = optimiser(network(), layer_decay=0.5)

    set_rates(made, 0.25)

    assert all(group["lr"] == 0.25 * group["peak_rate"] for group in made.param_groups)


@pytest.mark.parametrize(
    ("name", "type_"),
    [
        ("adamw", torch.optim.AdamW),
        ("nadam", torch.optim.NAdam),
        ("radam", torch.optim.RAdam),
        ("sgd", torch.optim.SGD),
    ],
)
def test_an_optimiser_is_torchs_own_and_decays_apart_from_the_gradient(
    name: str, type_: type[torch.optim.Optimizer]
) -> None:
    made = optimiser(network(), name=name)

    assert isinstance(made, type_)
    if name in {"nadam", "radam"}:
        assert made.defaults["decoupled_weight_decay"]


def test_the_fused_step_is_adamws_whatever_the_memory_format() -> None:
    models = [network(dropout=0.0).to(memory_format=torch.channels_last) for _ in range(2)]
    fused, plain = map(optimiser, models)
    for group in plain.param_groups:
        group["fused"] = False
    generator = torch.Generator().manual_seed(0)

    for _ in range(3):
        images = torch.randint(0, 256, (4, 32, 32, 3), generator=generator).to(torch.uint8)
        for model, made in zip(models, (fused, plain), strict=True):
            made.zero_grad()
            model(images).logits.square().sum().backward()
            made.step()

    for one, other in zip(*(model.parameters() for model in models), strict=True):
        assert one.grad is not None
        assert one.grad.stride() == one.stride()
        assert torch.allclose(one, other, atol=1e-5)
