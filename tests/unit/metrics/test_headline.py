import time
from collections.abc import Callable
from dataclasses import asdict, fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fgpipe.errors import DataError
from fgpipe.metrics.accuracy import coarse_accuracy, top1
from fgpipe.metrics.calibration import log_loss
from fgpipe.metrics.headline import Headline, difference, headline, proportion
from tests.support.scores import Outputs, calibration_error_by_hand, outputs

PARENTS = np.array([0, 0, 1, 1])
OPTIONS = {"n_bootstrap": 300, "confidence_level": 0.9, "seed": 5}
SLOW: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "top1": lambda p, t: top1(p.argmax(axis=1), t),
    "macro_recall": lambda p, t: float(
        np.mean([np.mean(p[t == c].argmax(axis=1) == c) for c in np.unique(t)])
    ),
    "coarse_accuracy": lambda p, t: coarse_accuracy(p, t, parents=PARENTS),
    "calibration_error": lambda p, t: calibration_error_by_hand(p, t, n_bins=7),
    "log_loss": log_loss,
}


def resampled_images(groups: np.ndarray, *, n_bootstrap: int, seed: int) -> list[np.ndarray]:
    """Rows of the images of each resample, drawn and put together one by one."""
    generator = np.random.default_rng(seed)
    names = np.unique(groups)
    return [
        np.concatenate([np.flatnonzero(groups == names[drawn]) for drawn in draws])
        for draws in (generator.integers(len(names), size=len(names)) for _ in range(n_bootstrap))
    ]


def headline_of(model: Outputs, **changes: object) -> Headline:
    options = {"n_bins": 7, **OPTIONS} | changes
    return headline(model.probabilities, model.targets, model.groups, PARENTS, **options)


@pytest.mark.parametrize("name", SLOW)
def test_each_figure_and_interval_is_that_of_a_loop_over_the_same_resamples(name: str) -> None:
    model = outputs(n_images=90)

    score = getattr(headline_of(model), name)

    figures = [
        SLOW[name](model.probabilities[rows], model.targets[rows])
        for rows in resampled_images(model.groups, n_bootstrap=300, seed=5)
    ]
    assert score.value == pytest.approx(SLOW[name](model.probabilities, model.targets))
    assert score.low == pytest.approx(np.percentile(figures, 5), abs=1e-9)
    assert score.high == pytest.approx(np.percentile(figures, 95), abs=1e-9)


def test_macro_recall_on_a_resample_without_a_class_is_the_mean_over_the_others() -> None:
    model = outputs(n_images=60, n_groups=6)
    groups = np.where(model.targets == 3, 5, model.groups % 5)
    resamples = resampled_images(groups, n_bootstrap=300, seed=5)
    assert any(3 not in model.targets[rows] for rows in resamples)

    score = headline(
        model.probabilities, model.targets, groups, None, n_bins=7, **OPTIONS
    ).macro_recall

    slow = [SLOW["macro_recall"](model.probabilities[r], model.targets[r]) for r in resamples]
    assert score.low == pytest.approx(np.percentile(slow, 5), abs=1e-9)
    assert score.high == pytest.approx(np.percentile(slow, 95), abs=1e-9)


@settings(max_examples=25)
@given(order=st.permutations(range(40)))
def test_figures_do_not_depend_on_the_order_of_images(order: list[int]) -> None:
    model = outputs(n_images=40)
    shuffled = Outputs(
        logits=model.logits[order],
        probabilities=model.probabilities[order],
        targets=model.targets[order],
        groups=model.groups[order],
    )

    figures = asdict(headline_of(shuffled, n_bootstrap=100))

    for name, score in asdict(headline_of(model, n_bootstrap=100)).items():
        assert figures[name].value == pytest.approx(score.value, abs=1e-12)
        assert figures[name].low == pytest.approx(score.low, abs=1e-12)
        assert figures[name].high == pytest.approx(score.high, abs=1e-12)


def test_the_names_of_groups_do_not_matter_as_long_as_their_order_stands() -> None:
    model = outputs()

    renamed = Outputs(
        logits=model.logits,
        probabilities=model.probabilities,
        targets=model.targets,
        groups=1000 + 17 * model.groups,
    )

    assert headline_of(renamed) == headline_of(model)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    model = outputs()

    first, again, other = (headline_of(model, seed=seed).top1 for seed in (1, 1, 2))

    assert first == again
    assert first != other


def test_data_without_parents_have_no_coarse_accuracy() -> None:
    model = outputs()
    other = outputs(seed=1)

    figures = headline(model.probabilities, model.targets, model.groups, None, n_bins=5, **OPTIONS)
    change = difference(
        model.probabilities, other.probabilities, model.targets, model.groups, None, **OPTIONS
    )

    assert figures.coarse_accuracy is None
    assert change.coarse_accuracy is None


@pytest.mark.parametrize("name", ["top1", "macro_recall", "coarse_accuracy"])
def test_a_difference_is_paired_image_by_image_and_resample_by_resample(name: str) -> None:
    candidate = outputs(n_images=90)
    champion = outputs(n_images=90, strength=0.8)

    change = difference(
        candidate.probabilities,
        champion.probabilities,
        candidate.targets,
        candidate.groups,
        PARENTS,
        **OPTIONS,
    )

    slow, targets = SLOW[name], candidate.targets
    figures = [
        slow(candidate.probabilities[rows], targets[rows])
        - slow(champion.probabilities[rows], targets[rows])
        for rows in resampled_images(candidate.groups, n_bootstrap=300, seed=5)
    ]
    score = getattr(change, name)
    assert score.value == pytest.approx(
        slow(candidate.probabilities, targets) - slow(champion.probabilities, targets)
    )
    assert score.low == pytest.approx(np.percentile(figures, 5), abs=1e-9)
    assert score.high == pytest.approx(np.percentile(figures, 95), abs=1e-9)


def test_a_model_does_not_differ_from_itself() -> None:
    model = outputs()

    change = difference(
        model.probabilities,
        model.probabilities,
        model.targets,
        model.groups,
        PARENTS,
        **OPTIONS,
    )

    for field in fields(change):
        score = getattr(change, field.name)
        assert (score.value, score.low, score.high) == (0, 0, 0)


def test_images_of_one_group_are_refused_for_headlines_and_differences() -> None:
    model = outputs(n_groups=1)

    with pytest.raises(DataError, match="at least 2 groups"):
        headline_of(model)
    with pytest.raises(DataError, match="at least 2 groups"):
        difference(
            model.probabilities,
            model.probabilities,
            model.targets,
            model.groups,
            None,
            **OPTIONS,
        )


def test_a_slice_of_one_group_says_that_nothing_is_known_of_other_groups() -> None:
    values = np.array([1.0, 1.0, 0.0, 1.0])

    score = proportion(values, np.full(4, 7), **OPTIONS)

    assert (score.value, score.low, score.high) == (0.75, 0, 1)


def test_a_slice_has_the_interval_that_a_headline_figure_has() -> None:
    model = outputs()
    right = (model.probabilities.argmax(axis=1) == model.targets).astype(np.float64)

    score = proportion(right, model.groups, **OPTIONS)

    assert score == headline_of(model).top1


def test_intervals_over_groups_hold_the_truth_about_as_often_as_they_say() -> None:
    generator = np.random.default_rng(0)
    n_groups, n_each, n_trials, truth = 30, 10, 200, 0.7
    groups = np.repeat(np.arange(n_groups), n_each)
    n_grouped = n_single = 0

    for trial in range(n_trials):
        ease = generator.beta(7, 3, size=n_groups)
        right = (generator.uniform(size=len(groups)) < ease[groups]).astype(np.float64)
        options = {"n_bootstrap": 200, "confidence_level": 0.9, "seed": trial}
        by_group = proportion(right, groups, **options)
        by_image = proportion(right, np.arange(len(groups)), **options)
        n_grouped += by_group.low <= truth <= by_group.high
        n_single += by_image.low <= truth <= by_image.high

    assert 0.84 <= n_grouped / n_trials <= 0.95
    assert n_single < n_grouped


def test_headline_figures_of_a_thousand_images_take_well_under_a_second() -> None:
    model = outputs(n_images=1000, n_groups=40)
    start = time.process_time()

    headline_of(model, n_bootstrap=2000)

    assert time.process_time() - start < 1
