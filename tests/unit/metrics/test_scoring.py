import numpy as np
import pytest

from fgpipe.metrics.headline import proportion
from fgpipe.metrics.scoring import MAX_VALUES, LabelledImages, Scorer

PARENTS = np.array([0, 0, 1])
OPTIONS = {"n_bootstrap": 100, "confidence_level": 0.9, "seed": 3}


@pytest.fixture
def scorer() -> Scorer:
    return Scorer(labels=("a", "b", "c"), parents=PARENTS, n_bins=5, **OPTIONS)


@pytest.fixture
def probabilities() -> np.ndarray:
    return np.random.default_rng(0).dirichlet(np.ones(3), size=60)


def images(**attributes: list[str]) -> LabelledImages:
    generator = np.random.default_rng(1)
    return LabelledImages(
        targets=generator.integers(3, size=60),
        groups=np.arange(60) // 5 * 100,
        attributes=attributes,
    )


def test_each_slice_is_scored_on_its_images_alone(
    scorer: Scorer, probabilities: np.ndarray
) -> None:
    colours = [("red", "green", "blue")[n % 3] for n in range(60)]
    known = images(colour=colours, size=["all"] * 60)

    scores = scorer.score(probabilities, known, train_sha256="0")

    assert [(entry.attribute, entry.value) for entry in scores.slices] == [
        ("colour", "blue"),
        ("colour", "green"),
        ("colour", "red"),
        ("size", "all"),
    ]
    for entry in scores.slices[:3]:
        rows = [n for n in range(60) if colours[n] == entry.value]
        right = [probabilities[n].argmax() == known.targets[n] for n in rows]
        coarse = [
            (probabilities[n][:2].sum() < probabilities[n][2]) == (known.targets[n] == 2)
            for n in rows
        ]
        groups = known.groups[rows]
        assert entry.n_images == len(rows)
        assert entry.top1 == proportion(np.array(right, dtype=float), groups, **OPTIONS)
        assert entry.coarse_accuracy == proportion(np.array(coarse, dtype=float), groups, **OPTIONS)
    assert scores.slices[3].top1 == scores.top1


def test_counts_are_of_images_and_of_groups(scorer: Scorer, probabilities: np.ndarray) -> None:
    known = images()

    scores = scorer.score(probabilities, known, train_sha256="abc")

    assert (scores.train_sha256, scores.n_images, scores.n_groups) == ("abc", 60, 12)
    assert [entry.label for entry in scores.per_class] == ["a", "b", "c"]
    assert [entry.n_images for entry in scores.per_class] == np.bincount(known.targets).tolist()


def test_an_attribute_with_too_many_values_makes_no_slices(
    scorer: Scorer, probabilities: np.ndarray
) -> None:
    known = images(
        serial=[str(n % (MAX_VALUES + 1)) for n in range(60)],
        place=[str(n % MAX_VALUES) for n in range(60)],
    )

    scores = scorer.score(probabilities, known, train_sha256="0")

    assert {entry.attribute for entry in scores.slices} == {"place"}


def test_without_parents_there_is_no_coarse_score(probabilities: np.ndarray) -> None:
    scorer = Scorer(labels=("a", "b", "c"), parents=None, n_bins=5, **OPTIONS)

    scores = scorer.score(probabilities, images(size=["all"] * 60), train_sha256="0")

    assert scores.coarse_accuracy is None
    assert scores.slices[0].coarse_accuracy is None
    assert "coarse_accuracy" not in scores.headline


def test_a_difference_is_of_figures_on_the_same_images(
    scorer: Scorer, probabilities: np.ndarray
) -> None:
    other = probabilities[:, ::-1]
    known = images()

    difference = scorer.difference(probabilities, other, known)

    one = scorer.score(probabilities, known, train_sha256="0")
    two = scorer.score(other, known, train_sha256="0")
    assert difference.top1.value == pytest.approx(one.top1.value - two.top1.value)
    assert difference.macro_recall.value == pytest.approx(
        one.macro_recall.value - two.macro_recall.value
    )
    assert scorer.difference(other, other, known).top1.high == 0
