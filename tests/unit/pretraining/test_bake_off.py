import torch

from fgpipe.pretraining.bake_off import bake_off
from fgpipe.pretraining.encoder import build_encoder
from fgpipe.pretraining.probes import look, probed
from tests.support.pretraining import make_probe


def weights(*, seed: int = 0, scale: float = 1.0) -> dict[str, torch.Tensor]:
    state = build_encoder("test_resnet", image_size_px=32, seed=seed).backbone.network.state_dict()
    return {
        name: value * scale if value.is_floating_point() else value for name, value in state.items()
    }


def test_weights_that_are_worse_are_refused_with_both_numbers() -> None:
    encoder = build_encoder("test_resnet", image_size_px=32, seed=5)

    verdict = bake_off(
        encoder, make_probe(), before=weights(), after=weights(scale=0.0), precision="fp32"
    )

    assert not verdict.handed_on
    assert verdict.before.linear_accuracy == 1
    assert verdict.after is not None
    assert verdict.after.linear_accuracy == 0.5
    assert "0.500 of validation, before it was for 1.000; refused" in verdict.reason


def test_weights_that_are_better_are_handed_on() -> None:
    encoder = build_encoder("test_resnet", image_size_px=32, seed=5)

    verdict = bake_off(
        encoder, make_probe(), before=weights(scale=0.0), after=weights(), precision="fp32"
    )

    assert verdict.handed_on
    assert "1.000 of validation, before it was for 0.500; handed on" in verdict.reason


def test_weights_that_are_as_good_are_handed_on() -> None:
    encoder = build_encoder("test_resnet", image_size_px=32, seed=5)

    verdict = bake_off(encoder, make_probe(), before=weights(), after=weights(), precision="fp32")

    assert verdict.handed_on
    assert verdict.before == verdict.after


def test_figures_are_those_of_the_weights_named() -> None:
    one, other = (
        build_encoder("test_resnet", image_size_px=32, seed=0),
        build_encoder("test_resnet", image_size_px=32, seed=1),
    )
    probe = make_probe()

    verdict = bake_off(
        build_encoder("test_resnet", image_size_px=32, seed=5),
        probe,
        before=weights(),
        after=weights(seed=1),
        precision="fp32",
    )

    assert verdict.before == probed(look(one, probe, precision="fp32"), probe)
    assert verdict.after == probed(look(other, probe, precision="fp32"), probe)


def test_where_nothing_was_learnt_the_start_stands() -> None:
    encoder = build_encoder("test_resnet", image_size_px=32, seed=5)

    verdict = bake_off(encoder, make_probe(), before=weights(), after={}, precision="fp32")

    assert not verdict.handed_on
    assert verdict.after is None
    assert "training starts from what there was" in verdict.reason
