from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fgpipe.errors import NotFiniteError, PipelineError
from fgpipe.records import EpochFigures
from fgpipe.training.checkpoint import Progress
from fgpipe.training.loop import Fitted, is_over
from fgpipe.training.recipe import Examples
from fgpipe.training.speed import EpochSpeed
from fgpipe.training.steps import Stepper
from tests.support.learning import RECIPE, forty_images, network, same_weights, train

RECIPES = {
    "plain": RECIPE,
    "ema": replace(RECIPE, averaging="ema"),
    "soup": replace(RECIPE, averaging="soup", epochs=4),
    "head first": replace(RECIPE, head_epochs=2),
    "low size first": replace(RECIPE, low_size_px=24, finish_epochs=1),
    "clipped sgd": replace(RECIPE, optimiser="sgd", clip_norm=1.0),
}


@pytest.fixture(scope="module")
def examples() -> Examples:
    return forty_images()


def test_images_are_memorised(examples: Examples, tmp_path: Path) -> None:
    recipe = replace(RECIPE, epochs=15, patience=15)

    fitted = train(examples, tmp_path / "epoch", recipe, augment="none")

    assert fitted.curves[0].train_loss > 1
    assert fitted.curves[-1].train_loss < 0.1


def test_equal_seeds_give_equal_bytes_and_others_do_not(examples: Examples, tmp_path: Path) -> None:
    one = train(examples, tmp_path / "one")
    same = train(examples, tmp_path / "same")
    other = train(examples, tmp_path / "other", replace(RECIPE, seed=4))

    assert one.curves == same.curves
    assert one.curves != other.curves
    assert same_weights(one, same)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("stop_after", [1, 2])
def test_a_training_broken_off_goes_on_exactly(
    examples: Examples, tmp_path: Path, name: str, stop_after: int
) -> None:
    undisturbed = train(examples, tmp_path / "undisturbed", RECIPES[name])

    def break_off(figures: EpochFigures, speed: EpochSpeed) -> None:
        if figures.epoch == stop_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(examples, tmp_path / "epoch", RECIPES[name], on_epoch=break_off)
    torch.manual_seed(99)

    resumed = train(examples, tmp_path / "epoch", RECIPES[name])

    assert resumed.curves == undisturbed.curves
    assert resumed.epochs == undisturbed.epochs
    assert same_weights(resumed, undisturbed)


def test_a_resumed_training_tells_of_the_epochs_before_too(
    examples: Examples, tmp_path: Path
) -> None:
    train(examples, tmp_path / "epoch")
    told: list[int] = []

    train(examples, tmp_path / "epoch", on_epoch=lambda figures, speed: told.append(figures.epoch))

    assert told == [1, 2, 3]


def test_a_checkpoint_that_does_not_read_is_as_none(examples: Examples, tmp_path: Path) -> None:
    (tmp_path / "epoch").write_bytes(b"half a checkpoint")

    assert same_weights(train(examples, tmp_path / "epoch"), train(examples, tmp_path / "other"))


def test_the_epoch_with_the_lowest_loss_on_validation_is_kept(
    examples: Examples, tmp_path: Path
) -> None:
    recipe = replace(RECIPE, epochs=5, learning_rate=0.05)

    fitted = train(examples, tmp_path / "epoch", recipe)

    losses = [figures.validation_loss for figures in fitted.curves]
    assert fitted.epochs == (1 + int(np.argmin(losses)),)


def test_a_moving_average_is_validated_and_kept_in_place_of_the_weights(
    examples: Examples, tmp_path: Path
) -> None:
    plain = train(examples, tmp_path / "plain")
    averaged = train(examples, tmp_path / "ema", RECIPES["ema"])

    losses = [[figures.train_loss for figures in each.curves] for each in (plain, averaged)]
    assert losses[0] == losses[1]  # the average changes no step
    assert plain.curves != averaged.curves
    assert not same_weights(plain, averaged)


def test_a_head_that_learnt_alone_starts_with_a_lower_loss(
    examples: Examples, tmp_path: Path
) -> None:
    recipe = replace(RECIPE, epochs=1)

    cold = train(examples, tmp_path / "cold", recipe, augment="none")
    warm = train(examples, tmp_path / "warm", replace(recipe, head_epochs=20), augment="none")

    assert warm.curves[0].train_loss < cold.curves[0].train_loss
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cold", "warm"]


def test_epochs_at_a_low_size_see_smaller_images(
    examples: Examples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    model = type(network())
    original = model.loss

    def noting(self: torch.nn.Module, images: torch.Tensor, *args: object, **kw: object) -> object:
        sizes.append(images.shape[1])
        return original(self, images, *args, **kw)

    monkeypatch.setattr(model, "loss", noting)

    train(examples, tmp_path / "epoch", RECIPES["low size first"])

    assert sizes == [24] * 8 + [32] * 4


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

    def over(*losses: float) -> bool:
        return is_over(Progress(curves=figures(*losses), kept={}), recipe=recipe)

    assert not over()
    assert not over(1.0, 1.1)
    assert over(1.0, 1.1, 1.2)
    assert over(*range(10, 0, -1))


def test_patience_does_not_end_a_training_before_its_epochs_at_the_full_size() -> None:
    recipe = replace(RECIPE, epochs=12, patience=4, low_size_px=24, finish_epochs=3)

    def over(n_done: int) -> bool:
        losses = [3.0, 2.0, 1.0, *np.linspace(1.1, 2, 9)][:n_done]
        return is_over(Progress(curves=figures(*losses), kept={}), recipe=recipe)

    assert [over(n_done) for n_done in range(13)] == [False] * 12 + [True]


def test_epochs_at_the_full_size_have_a_patience_of_their_own() -> None:
    recipe = replace(RECIPE, epochs=10, patience=2, low_size_px=24, finish_epochs=6)

    def over(*losses: float) -> bool:
        return is_over(Progress(curves=figures(*losses), kept={}), recipe=recipe)

    assert not over(1.0, 1.1, 1.2, 1.3, 1.4)
    assert over(1.0, 1.1, 1.2, 1.3, 1.4, 1.5)
    assert not over(1.0, 1.1, 1.2, 1.3, 0.9, 1.5)
    assert over(1.0, 1.1, 1.2, 1.3, 0.9, 1.5, 1.6)


def test_without_epochs_at_the_full_size_patience_is_as_without_a_low_one() -> None:
    recipe = replace(RECIPE, epochs=10, patience=2, low_size_px=24, finish_epochs=0)

    progress = Progress(curves=figures(1.0, 1.1, 1.2), kept={})

    assert is_over(progress, recipe=recipe)


@pytest.mark.parametrize("averaging", ["none", "ema"])
def test_weights_that_the_last_update_of_an_epoch_spoils_are_an_error_and_no_checkpoint(
    examples: Examples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, averaging: str
) -> None:
    n_steps = 0
    original = Stepper.step

    def spoiling(self: Stepper, images: torch.Tensor, targets: torch.Tensor) -> float:
        nonlocal n_steps
        loss = original(self, images, targets)
        n_steps += 1
        if n_steps == 8:
            torch.nn.init.constant_(self.network.head.classifier.weight, torch.nan)
        return loss

    monkeypatch.setattr(Stepper, "step", spoiling)
    told: list[int] = []

    with pytest.raises(NotFiniteError, match=r"validation after epoch 2 is not finite; a lower"):
        train(
            examples,
            tmp_path / "epoch",
            replace(RECIPE, averaging=averaging),
            on_epoch=lambda figures, speed: told.append(figures.epoch),
        )

    assert told == [1]


def test_a_gradient_that_is_not_finite_ends_its_own_epoch(
    examples: Examples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_steps = 0
    original = Stepper.step

    def spoiling(self: Stepper, images: torch.Tensor, targets: torch.Tensor) -> float:
        nonlocal n_steps
        n_steps += 1
        if n_steps == 4:
            weight = self.network.head.classifier.weight
            weight.register_hook(lambda gradient: torch.inf * gradient)
        return original(self, images, targets)

    monkeypatch.setattr(Stepper, "step", spoiling)

    with pytest.raises(NotFiniteError, match=r"the gradient is not finite.*batch_not_finite"):
        train(examples, tmp_path / "epoch")

    assert n_steps == 4
    assert not (tmp_path / "epoch").exists()


def test_a_head_that_memory_does_not_do_for_is_told_what_takes_less(
    examples: Examples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hungry(*args: object, **how: object) -> torch.Tensor:
        return torch.empty(2**60)  # nobody has an exabyte

    monkeypatch.setattr(type(network().head), "loss", hungry)

    with pytest.raises(PipelineError, match=r"the maps of 8 images; a lower train\.batch_size"):
        train(examples, tmp_path / "epoch", replace(RECIPE, head_epochs=1))

    assert not list(tmp_path.iterdir())


def test_a_soup_is_of_epochs_that_were_done(examples: Examples, tmp_path: Path) -> None:
    fitted: Fitted = train(examples, tmp_path / "epoch", RECIPES["soup"])

    losses = [each.validation_loss for each in fitted.curves]
    assert fitted.epochs[0] == 1 + int(np.argmin(losses))
    assert set(fitted.epochs) <= {1, 2, 3, 4}
