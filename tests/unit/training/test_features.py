from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fgpipe.training import features as features_module
from fgpipe.training.features import map_images, train_head
from fgpipe.training.recipe import Examples
from tests.support.learning import RECIPE, forty_images, network, plain_criterion


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


def test_the_head_learns_and_the_backbone_stays(examples: Examples, tmp_path: Path) -> None:
    model = network()
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    maps = map_images(model, examples, precision="fp32", seed=0, file=tmp_path / "maps")

    losses = train_head(
        model,
        maps,
        recipe=replace(RECIPE, head_epochs=12),
        criterion=plain_criterion(),
        precision="fp32",
        n_classes=4,
    )

    assert losses[-1] < losses[0]
    assert all(torch.equal(v, before[name]) for name, v in model.backbone.state_dict().items())
