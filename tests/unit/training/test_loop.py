from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from fgpipe.errors import ConfigError, PipelineError
from fgpipe.images.transforms import augmentation
from fgpipe.nn.recogniser import Recogniser, build
from fgpipe.records import EpochFigures, RecogniserSpec, Resolved
from fgpipe.training.checkpoint import Progress, load_checkpoint
from fgpipe.training.loop import (
    EpochSpeed,
    Examples,
    Recipe,
    create_optimiser,
    fit,
    is_over,
    steps_per_epoch,
    train_step,
)

RECIPE = Recipe(
    epochs=3,
    batch_size=8,
    learning_rate=5e-3,
    backbone_rate=0.5,
    weight_decay=0.01,
    warmup_fraction=0.1,
    label_smoothing=0.0,
    patience=10,
    seed=3,
)
RESOLVED = Resolved(device="cpu", precision="fp32", threads=1, libraries={})


def network(dropout: float = 0.2) -> Recogniser:
    spec = RecogniserSpec(
        backbone="test_resnet",
        head="linear",
        n_classes=4,
        dropout=dropout,
        image_size_px=32,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
    )
    return build(spec, seed=0)


@pytest.fixture(scope="module")
def examples() -> Examples:
    """Forty noisy images, their class told by the brightness of one quarter."""
    generator = np.random.default_rng(0)
    targets = np.arange(40) % 4
    pixels = generator.integers(0, 120, (40, 32, 32, 3), dtype=np.uint8)
    for row, target in enumerate(targets):
        y, x = 16 * (target // 2), 16 * (target % 2)
        pixels[row, y : y + 16, x : x + 16] += 100
    return Examples(
        pixels=pixels,
        targets=targets.astype(np.int64),
        parents=np.array([0, 0, 1, 1]),
        train=np.arange(30),
        validation=np.arange(30, 40),
    )


def batch(examples: Examples) -> dict[str, torch.Tensor]:
    return {
        "images": torch.from_numpy(examples.pixels[:16]),
        "targets": torch.from_numpy(examples.targets[:16]),
    }


def step(model: Recogniser, optimiser: torch.optim.Optimizer, examples: Examples) -> float:
    return train_step(
        model,
        optimiser,
        **batch(examples),
        rate_factor=1.0,
        label_smoothing=0.0,
        precision="fp32",
    )


def run(
    examples: Examples,
    checkpoint: Path,
    recipe: Recipe = RECIPE,
    *,
    stop_after: int | None = None,
    augment: Literal["none", "flips"] = "flips",
) -> Progress:
    def on_epoch(figures: EpochFigures, speed: EpochSpeed) -> None:
        if figures.epoch == stop_after:
            raise KeyboardInterrupt

    return fit(
        network(),
        examples,
        recipe=recipe,
        augmentation=augmentation(augment),
        resolved=RESOLVED,
        checkpoint=checkpoint,
        on_epoch=on_epoch,
    )


def test_one_step_lowers_the_loss_on_its_batch(examples: Examples) -> None:
    model = network(dropout=0.0)
    optimiser = create_optimiser(model, recipe=RECIPE)
    model.train()

    before = step(model, optimiser, examples)
    after = step(model, optimiser, examples)

    assert after < before


def test_every_parameter_moves_and_once_a_step(examples: Examples) -> None:
    model = network(dropout=0.0)
    torch.nn.init.normal_(model.head.classifier.weight)
    optimiser = create_optimiser(model, recipe=RECIPE)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}

    for _ in range(2):  # timm starts the last norm of a block at zero: nothing passes at first
        step(model, optimiser, examples)

    moved = {name: not torch.equal(v, before[name]) for name, v in model.named_parameters()}
    assert all(moved.values()), moved
    assert {float(state["step"]) for state in optimiser.state.values()} == {2.0}


def test_a_frozen_backbone_keeps_weights_and_statistics(examples: Examples) -> None:
    model = network()
    optimiser = create_optimiser(model, recipe=replace(RECIPE, backbone_rate=0.0))
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    model.train()

    step(model, optimiser, examples)

    for name, value in model.backbone.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert model.head.classifier.weight.abs().sum() > 0


def test_frozen_stages_keep_weights_and_statistics_and_the_others_learn(
    examples: Examples,
) -> None:
    model = network()
    torch.nn.init.normal_(model.head.classifier.weight)
    model.backbone.freeze(2)
    optimiser = create_optimiser(model, recipe=RECIPE)
    before = {name: value.clone() for name, value in model.backbone.network.state_dict().items()}
    model.train()

    for _ in range(2):
        step(model, optimiser, examples)

    changed = {
        name
        for name, value in model.backbone.network.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert not any(name.startswith(("conv1.", "bn1.", "layer1.")) for name in changed)
    for stage in ("layer2", "layer3", "layer4"):
        assert any(name.startswith(stage) and "running_mean" in name for name in changed)
        assert any(name.startswith(stage) and "conv1.weight" in name for name in changed)


def test_freezing_more_stages_than_there_are_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"frozen_stages \(5\) must be below the backbone's 5"):
        network().backbone.freeze(5)


def test_biases_and_norms_are_not_decayed_and_the_head_is_faster() -> None:
    model = network()

    optimiser = create_optimiser(model, recipe=RECIPE)

    rows = [
        (group["weight_decay"], group["peak_rate"], {p.ndim > 1 for p in group["params"]})
        for group in optimiser.param_groups
    ]
    assert rows == [
        (0.01, 2.5e-3, {True}),
        (0.0, 2.5e-3, {False}),
        (0.01, 5e-3, {True}),
        (0.0, 5e-3, {False}),
    ]
    n_parameters = sum(len(group["params"]) for group in optimiser.param_groups)
    assert n_parameters == len(list(model.parameters()))


def test_a_loss_that_is_not_finite_stops_and_changes_no_weight(examples: Examples) -> None:
    model = network()
    torch.nn.init.constant_(model.head.classifier.bias, torch.inf)
    optimiser = create_optimiser(model, recipe=RECIPE)
    before = model.head.classifier.weight.detach().clone()

    with pytest.raises(PipelineError, match=r"the loss is nan.*learning_rate"):
        step(model, optimiser, examples)

    assert torch.equal(model.head.classifier.weight, before)


def test_images_are_memorised(examples: Examples, tmp_path: Path) -> None:
    recipe = replace(RECIPE, epochs=15, patience=15)

    progress = run(examples, tmp_path / "epoch", recipe, augment="none")

    assert progress.curves[0].train_loss > 1
    assert progress.curves[-1].train_loss < 0.1


def test_equal_seeds_give_equal_bytes_and_others_do_not(examples: Examples, tmp_path: Path) -> None:
    one = run(examples, tmp_path / "one")
    same = run(examples, tmp_path / "same")
    other = run(examples, tmp_path / "other", replace(RECIPE, seed=4))

    assert one.curves == same.curves
    assert one.curves != other.curves
    assert same_weights(one, same)


@pytest.fixture(scope="module")
def undisturbed(examples: Examples, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Progress]:
    return run(examples, tmp_path_factory.mktemp("undisturbed") / "epoch")


@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_a_training_broken_off_goes_on_exactly(
    examples: Examples, tmp_path: Path, undisturbed: Progress, stop_after: int
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(examples, tmp_path / "epoch", stop_after=stop_after)
    torch.manual_seed(99)

    resumed = run(examples, tmp_path / "epoch")

    assert resumed.curves == undisturbed.curves
    assert resumed.best_epoch == undisturbed.best_epoch
    assert same_weights(resumed, undisturbed)


def test_a_checkpoint_that_does_not_read_is_as_none(examples: Examples, tmp_path: Path) -> None:
    path = tmp_path / "epoch"
    path.write_bytes(b"half a checkpoint")
    model = network()
    optimiser = create_optimiser(model, recipe=RECIPE)

    assert load_checkpoint(path, network=model, optimiser=optimiser) is None


def same_weights(one: Progress, other: Progress) -> bool:
    assert one.best_weights.keys() == other.best_weights.keys()
    return all(torch.equal(one.best_weights[n], other.best_weights[n]) for n in one.best_weights)


def figures(*losses: float) -> tuple[EpochFigures, ...]:
    return tuple(
        EpochFigures(
            epoch=epoch,
            learning_rate=0.1,
            train_loss=1.0,
            validation_loss=loss,
            validation_top1=0.5,
            validation_macro_recall=0.5,
            validation_coarse_accuracy=None,
        )
        for epoch, loss in enumerate(losses, start=1)
    )


def test_training_stops_when_patience_is_over_and_not_before() -> None:
    recipe = replace(RECIPE, epochs=10, patience=2)

    def over(*losses: float, best: int) -> bool:
        return is_over(
            Progress(curves=figures(*losses), best_epoch=best, best_weights={}), recipe=recipe
        )

    assert not over(best=0)
    assert not over(1.0, 1.1, best=1)
    assert over(1.0, 1.1, 1.2, best=1)
    assert over(*range(10, 0, -1), best=10)


def test_an_epochs_steps_leave_out_a_last_single_image() -> None:
    assert steps_per_epoch(32, batch_size=8) == 4
    assert steps_per_epoch(33, batch_size=8) == 4
    assert steps_per_epoch(34, batch_size=8) == 5
    assert steps_per_epoch(1, batch_size=8) == 1
