import math

import numpy as np
import pytest

from fgpipe.metrics.nearest_neighbours import nearest_neighbour_classes, unit_rows


def drawn(*shape: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    one, other = one.astype(float), other.astype(float)
    return float(one @ other / math.sqrt(one @ one) / math.sqrt(other @ other))


def by_loop(rows: np.ndarray, known: np.ndarray, targets: np.ndarray, k: int) -> list[int]:
    """Vote by vote, as the papers write it."""
    given = []
    for row in rows:
        cosines = [cosine(row, each) for each in known]
        nearest = sorted(range(len(known)), key=lambda i: -cosines[i])[:k]
        votes = [0.0] * (1 + int(targets.max()))
        for i in nearest:
            votes[targets[i]] += math.exp(cosines[i] / 0.07)
        given.append(votes.index(max(votes)))
    return given


@pytest.mark.parametrize("k", [1, 5, 20, 50])
def test_classes_are_those_that_a_loop_over_votes_gives(k: int) -> None:
    rows, known = drawn(1500, 6, seed=1), drawn(40, 6, seed=2)
    targets = np.random.default_rng(3).integers(0, 4, 40)

    classes = nearest_neighbour_classes(
        rows, known=known, targets=targets, n_classes=4, n_neighbours=k
    )

    assert classes.tolist() == by_loop(rows, known, targets, k)


def test_a_row_among_the_known_ones_is_given_its_class_by_one_neighbour() -> None:
    known = drawn(30, 5, seed=0)
    targets = np.arange(30) % 7

    classes = nearest_neighbour_classes(
        known, known=known, targets=targets, n_classes=7, n_neighbours=1
    )

    assert classes.tolist() == targets.tolist()


def test_lengths_do_not_count() -> None:
    rows, known = drawn(50, 4, seed=1), drawn(30, 4, seed=2)
    targets = np.arange(30) % 3
    stretched = known * np.linspace(0.1, 100, 30, dtype=np.float32)[:, None]

    classes = nearest_neighbour_classes(rows, known=known, targets=targets, n_classes=3)

    again = nearest_neighbour_classes(rows * 1e3, known=stretched, targets=targets, n_classes=3)
    assert again.tolist() == classes.tolist()


def test_a_near_one_outvotes_a_few_far_ones() -> None:
    known = np.array([[1.0, 0.05], [0.0, 1.0], [0.05, 1.0]], dtype=np.float32)
    row = np.array([[1.0, 0.0]], dtype=np.float32)

    classes = nearest_neighbour_classes(
        row, known=known, targets=np.array([0, 1, 1]), n_classes=2, n_neighbours=3
    )

    assert classes.tolist() == [0]


def test_a_row_of_zeros_stays_and_others_have_length_1() -> None:
    rows = np.array([[0.0, 0.0], [3.0, 4.0]], dtype=np.float32)

    assert np.allclose(unit_rows(rows), [[0, 0], [0.6, 0.8]])
