from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fgpipe.errors import NotFiniteError, PipelineError
from fgpipe.nn.recogniser import Recogniser
from fgpipe.training.distributed import Team
from fgpipe.training.loop import start
from fgpipe.training.optimisers import create_optimiser
from fgpipe.training.recipe import Examples
from fgpipe.training.steps import Stepper, one_hot
from tests.support.learning import (
    RECIPE,
    course,
    forty_images,
    network,
    plain_criterion,
    running_out_above,
    with_gradient_times,
)


@pytest.fixture(scope="module")
def examples() -> Examples:
    return forty_images()


def stepper(
    model: Recogniser,
    *,
    backbone_rate: float = 0.5,
    clip_norm: float = 0.0,
    precision: str = "fp32",
    keep_in: Path = Path(),
) -> Stepper:
    model.train()
    optimiser = create_optimiser(
        model,
        name="adamw",
        learning_rate=RECIPE.learning_rate,
        backbone_rate=backbone_rate,
        layer_decay=1.0,
        weight_decay=0.01,
    )
    return Stepper(
        network=model,
        optimiser=optimiser,
        criterion=plain_criterion(),
        precision=precision,
        clip_norm=clip_norm,
        keep_in=keep_in,
    )


def step(doing: Stepper, examples: Examples) -> float:
    return doing.step(
        torch.from_numpy(examples.pixels[:16]),
        one_hot(torch.from_numpy(examples.targets[:16]), n_classes=4),
    )


def sizes_of_parts(model: Recogniser) -> list[int]:
    """What grows by the number of images whenever the network is asked for a loss."""
    sizes: list[int] = []
    original = model.loss

    def loss(images: torch.Tensor, targets: torch.Tensor, **how: object) -> torch.Tensor:
        sizes.append(len(images))
        return original(images, targets, **how)

    model.loss = loss
    return sizes


def gradients(model: Recogniser) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def test_one_step_lowers_the_loss_on_its_batch(examples: Examples) -> None:
    doing = stepper(network(dropout=0.0))

    before = step(doing, examples)
    after = step(doing, examples)

    assert after < before


def test_every_parameter_moves_and_once_a_step(examples: Examples) -> None:
    model = network(dropout=0.0)
    torch.nn.init.normal_(model.head.classifier.weight)
    doing = stepper(model)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}

    for _ in range(2):  # timm starts the last norm of a block at zero: nothing passes at first
        step(doing, examples)

    moved = {name: not torch.equal(v, before[name]) for name, v in model.named_parameters()}
    assert all(moved.values()), moved
    assert {float(state["step"]) for state in doing.optimiser.state.values()} == {2.0}


def test_a_frozen_backbone_keeps_weights_and_statistics(examples: Examples) -> None:
    model = network()
    doing = stepper(model, backbone_rate=0.0)
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    model.train()

    step(doing, examples)

    for name, value in model.backbone.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert model.head.classifier.weight.abs().sum() > 0


def test_frozen_stages_keep_weights_and_statistics_and_the_others_learn(
    examples: Examples,
) -> None:
    model = network()
    torch.nn.init.normal_(model.head.classifier.weight)
    model.backbone.freeze(2)
    doing = stepper(model)
    before = {name: value.clone() for name, value in model.backbone.network.state_dict().items()}

    for _ in range(2):
        step(doing, examples)

    changed = {
        name
        for name, value in model.backbone.network.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert not any(name.startswith(("conv1.", "bn1.", "layer1.")) for name in changed)
    for stage in ("layer2", "layer3", "layer4"):
        assert any(name.startswith(stage) and "running_mean" in name for name in changed)
        assert any(name.startswith(stage) and "conv1.weight" in name for name in changed)


def test_a_loss_that_is_not_finite_stops_changes_no_weight_and_keeps_the_batch(
    examples: Examples, tmp_path: Path
) -> None:
    model = network()
    torch.nn.init.constant_(model.head.classifier.bias, torch.inf)
    doing = stepper(model, keep_in=tmp_path)
    before = model.head.classifier.weight.detach().clone()

    with pytest.raises(PipelineError, match=r"the loss is nan.*batch_not_finite.*learning_rate"):
        step(doing, examples)

    assert torch.equal(model.head.classifier.weight, before)
    kept = load_file(tmp_path / "batch_not_finite.safetensors")
    assert torch.equal(kept["images"], torch.from_numpy(examples.pixels[:16]))
    assert kept["targets"].argmax(dim=1).tolist() == examples.targets[:16].tolist()


@pytest.mark.parametrize("clip_norm", [0.0, 1.0])
@pytest.mark.parametrize("factor", [torch.inf, torch.nan])
def test_a_gradient_that_is_not_finite_changes_no_weight_and_its_own_batch_is_kept(
    examples: Examples, tmp_path: Path, factor: float, clip_norm: float
) -> None:
    model = network()
    with_gradient_times(factor, model)
    doing = stepper(model, clip_norm=clip_norm, keep_in=tmp_path)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}

    loss = step(doing, examples)
    with pytest.raises(NotFiniteError, match=r"gradient is not finite.*batch_not.*learning_rate"):
        doing.step(torch.from_numpy(examples.pixels[16:24]), torch.eye(4).repeat(2, 1))

    assert loss == pytest.approx(np.log(4), rel=0.2)
    assert all(torch.equal(value, before[name]) for name, value in model.named_parameters())
    kept = load_file(tmp_path / "batch_not_finite.safetensors")
    assert torch.equal(kept["images"], torch.from_numpy(examples.pixels[:16]))
    assert kept["targets"].argmax(dim=1).tolist() == examples.targets[:16].tolist()


def test_a_scale_that_is_too_large_under_fp16_costs_steps_and_no_training(
    examples: Examples,
) -> None:
    model = network(dropout=0.0)
    doing = stepper(model, precision="fp16")
    doing.scaler.load_state_dict({**doing.scaler.state_dict(), "scale": 2.0**24})

    losses = [step(doing, examples) for _ in range(16)]
    doing.check()

    assert losses[1] == losses[0]
    assert losses[-1] < losses[0]


def test_a_gradient_longer_than_the_limit_is_shortened_to_it(examples: Examples) -> None:
    free, clipped = network(dropout=0.0), network(dropout=0.0)

    step(stepper(free), examples)
    step(stepper(clipped, clip_norm=0.01), examples)

    assert gradients(free).norm() > 0.1
    assert gradients(clipped).norm() == pytest.approx(0.01, rel=1e-3)
    direction = torch.cosine_similarity(gradients(free), gradients(clipped), dim=0)
    assert direction == pytest.approx(1.0, abs=1e-5)


def test_parts_of_a_batch_leave_the_gradient_of_the_whole(examples: Examples) -> None:
    whole, parted = network(dropout=0.0), network(dropout=0.0)
    one, three = stepper(whole), stepper(parted)
    three.n_parts = 3  # 6, 6 and 4 images
    for model in (whole, parted):
        torch.nn.init.normal_(
            model.head.classifier.weight, generator=torch.Generator().manual_seed(0)
        )
        model.eval()  # batch statistics are those of a part

    losses = step(one, examples), step(three, examples)

    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert torch.allclose(gradients(whole), gradients(parted), rtol=1e-4, atol=1e-6)


def test_a_training_begins_with_the_parts_that_its_recipe_says(examples: Examples) -> None:
    whole, parted = network(dropout=0.0), network(dropout=0.0)
    for model in (whole, parted):
        torch.nn.init.normal_(
            model.head.classifier.weight, generator=torch.Generator().manual_seed(0)
        )
        model.eval()  # batch statistics are those of a part
    sizes = sizes_of_parts(parted)
    one, four = (
        start(model, course(examples, replace(RECIPE, batch_parts=n)), folder=None).stepper
        for model, n in ((whole, 1), (parted, 4))
    )

    losses = step(one, examples), step(four, examples)

    assert sizes == [4, 4, 4, 4]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert torch.allclose(gradients(whole), gradients(parted), rtol=1e-4, atol=1e-6)


class OneOfTwo(Team):
    """The larger or smaller share of seven images, the other process being imagined."""

    def total(self, value: float) -> float:
        return 7.0 if value in {3, 4} else value


@pytest.mark.parametrize("share", [3, 4])
def test_processes_with_unequal_shares_take_as_many_parts(examples: Examples, share: int) -> None:
    model = network()
    sizes = sizes_of_parts(model)
    doing = stepper(model)
    doing.n_parts = 2
    doing.team = OneOfTwo(size=2)

    doing.step(
        torch.from_numpy(examples.pixels[:share]),
        one_hot(torch.from_numpy(examples.targets[:share]), n_classes=4),
    )

    assert sizes == [share]


def test_no_part_is_of_a_single_image(examples: Examples) -> None:
    model = network()
    sizes = sizes_of_parts(model)
    doing = stepper(model)
    doing.n_parts = 16

    doing.step(
        torch.from_numpy(examples.pixels[:17]),
        one_hot(torch.from_numpy(examples.targets[:17]), n_classes=4),
    )

    assert sum(sizes) == 17
    assert min(sizes) == 2


def test_a_batch_that_memory_does_not_do_for_is_taken_in_parts(examples: Examples) -> None:
    model = network(dropout=0.0)
    running_out_above(5, model)
    doing = stepper(model)

    before = step(doing, examples)
    after = step(doing, examples)

    assert doing.n_parts == 4
    assert after < before


def test_a_machine_without_memory_for_two_images_is_told_what_takes_less(
    examples: Examples,
) -> None:
    model = network()
    running_out_above(1, model)

    with pytest.raises(PipelineError, match=r"memory does not do for 2 images.*image_size_px"):
        step(stepper(model), examples)


@pytest.mark.parametrize(("n_parts", "way_out"), [(1, "train.batch_parts: 2, "), (8, "")])
def test_one_of_several_processes_without_memory_is_told_of_more_parts_while_there_are_any(
    examples: Examples, n_parts: int, way_out: str
) -> None:
    model = network()
    running_out_above(1, model)
    doing = stepper(model)
    doing.team = OneOfTwo(size=2)
    doing.n_parts = n_parts

    with pytest.raises(PipelineError) as error:
        step(doing, examples)

    assert f"); {way_out}train.checkpoint_activations" in str(error.value)


def test_another_error_is_not_taken_for_a_want_of_memory(examples: Examples) -> None:
    doing = stepper(network())

    with pytest.raises(RuntimeError, match="size of tensor"):
        doing.step(torch.from_numpy(examples.pixels[:16]), torch.zeros(16, 5))
