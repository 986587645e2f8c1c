import numpy as np
import pytest

from fgpipe.report.mistakes import confused_pairs, worst_mistakes


@pytest.fixture
def probabilities() -> np.ndarray:
    return np.random.default_rng(0).dirichlet(np.ones(4), size=80)


@pytest.fixture
def targets() -> np.ndarray:
    return np.random.default_rng(1).integers(4, size=80)


def test_worst_mistakes_are_the_surest_wrong_answers(
    probabilities: np.ndarray, targets: np.ndarray
) -> None:
    worst = worst_mistakes(probabilities, targets, n_rows=5)

    wrong = [n for n in range(80) if probabilities[n].argmax() != targets[n]]
    assert list(worst) == sorted(wrong, key=lambda n: -probabilities[n].max())[:5]


def test_confused_pairs_are_counted_and_ranked(
    probabilities: np.ndarray, targets: np.ndarray
) -> None:
    pairs = confused_pairs(probabilities, targets, n_pairs=100, n_rows=2)

    counts: dict[tuple[int, int], int] = {}
    for row, target in zip(probabilities, targets.tolist(), strict=True):
        if (given := int(row.argmax())) != target:
            counts[target, given] = counts.get((target, given), 0) + 1
    assert {(pair.actual, pair.given): pair.n_images for pair in pairs} == counts
    assert [pair.n_images for pair in pairs] == sorted(counts.values(), reverse=True)
    for pair in pairs:
        assert pair.share == pytest.approx(pair.n_images / np.sum(targets == pair.actual))
        assert len(pair.rows) == min(2, pair.n_images)
        assert all(targets[row] == pair.actual for row in pair.rows)
        assert all(probabilities[row].argmax() == pair.given for row in pair.rows)
        sureness = [probabilities[row].max() for row in pair.rows]
        assert sureness == sorted(sureness, reverse=True)


def test_only_so_many_pairs_are_given(probabilities: np.ndarray, targets: np.ndarray) -> None:
    every = confused_pairs(probabilities, targets, n_pairs=100, n_rows=2)

    assert confused_pairs(probabilities, targets, n_pairs=3, n_rows=2) == every[:3]


def test_a_model_that_is_always_right_makes_no_mistakes() -> None:
    probabilities, targets = np.eye(3), np.arange(3)

    assert worst_mistakes(probabilities, targets, n_rows=5) == ()
    assert confused_pairs(probabilities, targets, n_pairs=5, n_rows=2) == ()
