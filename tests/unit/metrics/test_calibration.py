import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import softmax as softmax_of_scipy
from sklearn.metrics import log_loss as log_loss_of_sklearn

from fgpipe.metrics.calibration import (
    MIN_PROBABILITY,
    TEMPERATURE_RANGE,
    bins_of,
    fit_temperature,
    log_loss,
    reliability_curve,
    softmax,
)
from tests.support.scores import calibration_error_by_hand, outputs


@pytest.mark.parametrize("temperature", [0.2, 1.0, 7.0])
def test_softmax_is_that_of_scipy_whatever_the_dtype(temperature: float) -> None:
    logits = outputs().logits.astype(np.float32)

    probabilities = softmax(logits, temperature=temperature)

    assert probabilities.dtype == np.float64
    expected = softmax_of_scipy(logits.astype(np.float64) / temperature, axis=1)
    np.testing.assert_allclose(probabilities, expected, rtol=1e-12)


def test_softmax_of_enormous_logits_is_finite() -> None:
    probabilities = softmax(np.array([[1e6, 0.0], [-1e6, 0.0]]))

    np.testing.assert_array_equal(probabilities, [[1, 0], [0, 1]])


def test_log_loss_is_that_of_scikit_learn() -> None:
    model = outputs()

    loss = log_loss(model.probabilities, model.targets)

    expected = log_loss_of_sklearn(model.targets, model.probabilities, labels=range(4))
    assert loss == pytest.approx(expected, abs=1e-12)


def test_a_right_class_with_no_probability_costs_a_finite_amount() -> None:
    loss = log_loss(np.array([[1.0, 0.0]]), np.array([1]))

    assert loss == -math.log(MIN_PROBABILITY)


@pytest.mark.parametrize(("seed", "n_bins"), [(0, 2), (1, 10), (2, 15), (3, 100)])
def test_gaps_of_the_reliability_curve_make_the_calibration_error(seed: int, n_bins: int) -> None:
    model = outputs(seed=seed, n_images=150)

    curve = reliability_curve(model.probabilities, model.targets, n_bins=n_bins)

    error = sum(bin_.n_images * abs(bin_.confidence - bin_.accuracy) for bin_ in curve) / 150
    expected = calibration_error_by_hand(model.probabilities, model.targets, n_bins=n_bins)
    assert error == pytest.approx(expected, abs=1e-12)


def test_a_bin_includes_its_upper_end_and_the_last_one_certainty() -> None:
    confidence = np.array([0.2, 0.25, 0.2500001, 0.5, 0.75, 1.0])

    bins = bins_of(confidence, n_bins=4)

    assert bins.tolist() == [0, 0, 1, 1, 2, 3]


def test_the_reliability_curve_holds_every_image_once_and_no_empty_bin() -> None:
    model = outputs()

    curve = reliability_curve(model.probabilities, model.targets, n_bins=15)

    assert sum(entry.n_images for entry in curve) == len(model.targets)
    assert all(entry.n_images > 0 for entry in curve)
    assert all(entry.low < entry.confidence <= entry.high for entry in curve)
    right = sum(entry.n_images * entry.accuracy for entry in curve)
    assert right == pytest.approx(np.sum(model.probabilities.argmax(axis=1) == model.targets))


@pytest.mark.parametrize(("seed", "scale"), [(0, 0.4), (1, 1.0), (2, 3.0), (3, 5.0)])
def test_the_temperature_is_where_a_general_optimiser_finds_the_least_loss(
    seed: int, scale: float
) -> None:
    model = outputs(seed=seed)
    logits = scale * model.logits

    temperature = fit_temperature(logits, model.targets)

    best = minimize_scalar(
        lambda log: log_loss(softmax(logits, temperature=math.exp(log)), model.targets),
        bounds=tuple(math.log(bound) for bound in TEMPERATURE_RANGE),
        method="bounded",
        options={"xatol": 1e-9},
    )
    assert math.log(temperature) == pytest.approx(best.x, abs=1e-5)


@given(scale=st.floats(0.5, 2))
def test_scaled_logits_need_a_temperature_scaled_as_much(scale: float) -> None:
    model = outputs(n_images=60)
    plain = fit_temperature(model.logits, model.targets)

    scaled = fit_temperature(scale * model.logits, model.targets)

    assert scaled == pytest.approx(scale * plain, rel=1e-6)


def test_probabilities_drawn_as_they_say_need_no_temperature() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(scale=2, size=(20_000, 3))
    draws = generator.uniform(size=(20_000, 1))
    targets = (draws > softmax(logits).cumsum(axis=1)).sum(axis=1)

    temperature = fit_temperature(logits, targets)

    assert temperature == pytest.approx(1, abs=0.03)


def test_images_that_are_all_right_do_not_make_the_model_certain() -> None:
    targets = np.arange(12) % 3
    logits = np.eye(3, dtype=np.float32)[targets]

    temperature = fit_temperature(logits, targets)

    assert temperature == TEMPERATURE_RANGE[0]


def test_images_that_are_all_wrong_do_not_make_the_temperature_infinite() -> None:
    targets = np.arange(12) % 3
    logits = np.eye(3)[(targets + 1) % 3]

    temperature = fit_temperature(logits, targets)

    assert temperature == TEMPERATURE_RANGE[1]
