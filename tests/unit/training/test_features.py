import errno
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fgpipe.errors import NotFiniteError
from fgpipe.nn.recogniser import Recogniser
from fgpipe.training import features as features_module
from fgpipe.training.features import FeatureMaps, map_images, train_head
from fgpipe.training.recipe import Examples
from tests.support.learning import (
    RECIPE,
    forty_images,
    network,
    plain_criterion,
    running_out_above,
    with_gradient_times,
)


@pytest.fixture(scope="module")
def examples() -> Examples:
    return forty_images()


def test_maps_are_what_the_backbone_makes_of_each_image_alone(
    examples: Examples, tmp_path: Path
) -> None:
    model = network()

    found = map_images(model, examples, precision="fp32", seed=0, file=tmp_path / "maps")

    assert np.array_equal(found.targets, examples.targets[examples.train])
    for position, row in enumerate(examples.train):
        with torch.no_grad():
            expected = model.features(torch.from_numpy(examples.pixels[row][None]))[0]
        assert np.allclose(found.maps[position], expected.numpy(), rtol=1e-2, atol=1e-3)


def test_of_more_maps_than_the_limit_a_sample_is_kept(
    examples: Examples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network()
    whole = map_images(model, examples, precision="fp32", seed=0, file=tmp_path / "whole")
    monkeypatch.setattr(features_module, "MAX_BYTES", whole.maps.nbytes // 3)

    found = map_images(model, examples, precision="fp32", seed=0, file=tmp_path / "maps")

    assert len(found.maps) == len(found.targets) == 10
    of_whole = [
        next(i for i, candidate in enumerate(whole.maps) if np.allclose(candidate, one, rtol=1e-2))
        for one in found.maps
    ]
    assert of_whole == sorted(set(of_whole))
    assert np.array_equal(found.targets, whole.targets[of_whole])


def test_maps_are_the_same_where_memory_does_for_few_images_at_once(
    examples: Examples, tmp_path: Path
) -> None:
    model = network()
    expected = map_images(model, examples, precision="fp32", seed=0, file=tmp_path / "expected")
    running_out_above(5, model, "features")

    found = map_images(model, examples, precision="fp32", seed=0, file=tmp_path / "maps")

    assert np.allclose(found.maps, expected.maps, rtol=1e-2, atol=1e-3)


def trained(
    model: Recogniser,
    maps: FeatureMaps,
    *,
    n_epochs: int,
    keep_in: Path | None = None,
    weight_decay: float = RECIPE.weight_decay,
) -> list[float]:
    """Losses of the head's epochs."""
    return train_head(
        model,
        maps,
        recipe=replace(RECIPE, head_epochs=n_epochs, weight_decay=weight_decay),
        criterion=plain_criterion(),
        precision="fp32",
        n_classes=4,
        keep_in=keep_in,
    )


def test_the_head_learns_and_the_backbone_stays(examples: Examples, tmp_path: Path) -> None:
    model = network()
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    maps = map_images(model, examples, precision="fp32", seed=0, file=tmp_path / "maps")

    losses = trained(model, maps, n_epochs=12)

    assert losses[-1] < losses[0]
    assert all(torch.equal(v, before[name]) for name, v in model.backbone.state_dict().items())


def drawn_maps() -> FeatureMaps:
    """Of sixteen images; nobody knows what they show."""
    maps = np.random.default_rng(0).normal(size=(16, network().backbone.n_channels, 2, 2))
    return FeatureMaps(maps=maps.astype(np.float16), targets=np.arange(16) % 4)


def test_a_loss_of_the_head_that_is_not_finite_changes_no_weight_and_keeps_the_batch(
    tmp_path: Path,
) -> None:
    model = network()
    maps = drawn_maps()
    maps.maps[:] = np.nan
    before = {name: value.clone() for name, value in model.state_dict().items()}

    with pytest.raises(NotFiniteError, match=r"the head's loss is nan.*batch_not.*learning_rate"):
        trained(model, maps, n_epochs=2, keep_in=tmp_path)

    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    kept = load_file(tmp_path / "batch_not_finite.safetensors")
    assert kept["maps"].shape == (8, *maps.maps.shape[1:])
    assert kept["targets"].shape == (8,)


def test_a_gradient_of_the_head_that_is_not_finite_changes_no_weight_and_keeps_the_batch(
    tmp_path: Path,
) -> None:
    model = network()
    with_gradient_times(torch.inf, model)
    before = {name: value.clone() for name, value in model.state_dict().items()}

    with pytest.raises(NotFiniteError, match=r"the head's gradient is not finite.*batch_not"):
        trained(model, drawn_maps(), n_epochs=2, keep_in=tmp_path)

    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert (tmp_path / "batch_not_finite.safetensors").exists()


def test_under_fp16_the_head_learns_from_gradients_that_would_be_0_in_half_precision() -> None:
    model = network()
    before = model.head.classifier.weight.detach().clone()

    def small(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return 3e-7 * plain_criterion()(logits, targets)

    train_head(
        model,
        drawn_maps(),
        recipe=replace(RECIPE, head_epochs=1, weight_decay=0.0),
        criterion=small,
        precision="fp16",
        n_classes=4,
        keep_in=None,
    )

    assert not torch.equal(model.head.classifier.weight, before)


def test_biases_of_the_head_are_not_decayed() -> None:
    model = network()
    for parameter in model.head.parameters():
        torch.nn.init.ones_(parameter)
        parameter.register_hook(torch.zeros_like)
    before = {name: value.detach().clone() for name, value in model.head.named_parameters()}

    trained(model, drawn_maps(), n_epochs=2, weight_decay=10.0)

    for name, value in model.head.named_parameters():
        assert torch.equal(value, before[name]) is (value.ndim == 1), name


def test_a_disk_without_room_for_the_maps_is_an_error_and_no_kill(
    examples: Examples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)

    with pytest.raises(OSError, match="No space left"):
        map_images(network(), examples, precision="fp32", seed=0, file=tmp_path / "maps")
