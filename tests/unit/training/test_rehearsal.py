from dataclasses import replace

import numpy as np
import pytest
import torch

from fgpipe.errors import NotFiniteError, PipelineError
from fgpipe.records import Resolved
from fgpipe.training import rehearsal
from fgpipe.training.recipe import Examples
from fgpipe.training.rehearsal import measure_pace, range_test, sharing, steepest
from tests.support.learning import RECIPE, course, forty_images, network


@pytest.fixture(scope="module")
def examples() -> Examples:
    return forty_images()


def test_the_suggested_rate_is_where_the_loss_falls_most_for_the_same_factor() -> None:
    rates = np.geomspace(1e-4, 1, 81)
    losses = 1.0 / (1.0 + (rates / 1e-2) ** 2)  # falls most, by factors, at its inflection
    losses[-10:] = 5.0

    found = steepest(rates, losses)

    slopes = [
        (losses[i + 1] - losses[i - 1]) / (np.log(rates[i + 1]) - np.log(rates[i - 1]))
        for i in range(1, 70)
    ]
    assert found == pytest.approx(rates[1 + int(np.argmin(slopes))])
    assert found == pytest.approx(1e-2, rel=0.1)


def test_a_loss_that_never_falls_is_told() -> None:
    with pytest.raises(PipelineError, match=r"falls at no rate.*1\.0e-03 to 1\.0e\+00"):
        steepest(np.geomspace(1e-3, 1, 5), np.array([1.0, 1.1, 1.2, 1.3, 1.4]))


def test_a_range_test_rises_by_one_factor_and_stops_where_the_loss_has_blown_up(
    examples: Examples,
) -> None:
    how = course(examples, replace(RECIPE, learning_rate=0.1, optimiser="sgd"), augment="none")

    found = range_test(network(), how, n_steps=60)

    factors = found.rates[1:] / found.rates[:-1]
    assert np.allclose(factors, factors[0])
    assert found.rates[0] == pytest.approx(0.1 * rehearsal.LOWEST)
    assert len(found.rates) < 60
    assert found.rates[0] < found.suggested < found.rates[int(found.losses.argmin())] * 1.001


def test_a_range_test_leaves_a_frozen_backbone_as_it_is(examples: Examples) -> None:
    model = network()
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}

    range_test(model, course(examples, replace(RECIPE, backbone_rate=0.0)))

    for name, value in model.backbone.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_first_loss_that_is_not_finite_is_told_as_that(examples: Examples) -> None:
    model = network()
    torch.nn.init.constant_(model.head.classifier.bias, torch.nan)

    with pytest.raises(NotFiniteError, match="the loss is nan"):
        range_test(model, course(examples))


def test_a_range_test_does_not_take_a_want_of_memory_for_a_rate_that_is_too_high(
    examples: Examples,
) -> None:
    model = network()

    def loss(images: torch.Tensor, targets: torch.Tensor, **how: object) -> torch.Tensor:
        return torch.empty(2**60)  # nobody has an exabyte

    model.loss = loss

    with pytest.raises(PipelineError, match="memory does not do for 2 images"):
        range_test(model, course(examples))


def test_the_losses_are_smoothed_as_a_slow_loop_does_it(
    examples: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw: list[float] = []
    original = rehearsal.Stepper.step

    def noting(self: rehearsal.Stepper, images: torch.Tensor, targets: torch.Tensor) -> float:
        raw.append(original(self, images, targets))
        return raw[-1]

    monkeypatch.setattr(rehearsal.Stepper, "step", noting)

    found = range_test(network(), course(examples), n_steps=12)

    for n in range(1, 1 + len(found.losses)):
        weights = [0.9 ** (n - 1 - i) for i in range(n)]
        expected = sum(w * loss for w, loss in zip(weights, raw, strict=False)) / sum(weights)
        assert found.losses[n - 1] == pytest.approx(expected)


def test_a_pace_has_no_part_without_time(examples: Examples) -> None:
    how = course(examples, replace(RECIPE, low_size_px=16, finish_epochs=1))

    pace = measure_pace(network(), how)

    assert pace.step > 0
    assert pace.low_step > 0
    assert 0 < pace.image < pace.step


def test_gpus_are_timed_on_their_share_of_a_batch_and_cores_on_all_of_it() -> None:
    resolved = Resolved(device="cuda", precision="bf16", threads=4, processes=3, libraries={})

    assert sharing(resolved).size == 3
    assert sharing(resolved.model_copy(update={"device": "cpu"})).size == 1
