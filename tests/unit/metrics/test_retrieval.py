import math

import numpy as np
import pytest

from fgpipe.metrics import retrieval
from fgpipe.metrics.retrieval import find_class


def drawn(*shape: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    one, other = one.astype(float), other.astype(float)
    return float(one @ other / math.sqrt(one @ one) / math.sqrt(other @ other))


def by_loop(
    rows: np.ndarray, targets: np.ndarray, groups: np.ndarray
) -> list[tuple[int, float, float]]:
    """Image by image, as the paper writes it."""
    given = []
    for i, row in enumerate(rows):
        gallery = [j for j in range(len(rows)) if groups[j] != groups[i]]
        n_relevant = sum(targets[j] == targets[i] for j in gallery)
        if not n_relevant:
            continue
        ranked = sorted(gallery, key=lambda j: -cosine(row, rows[j]))
        right = [targets[j] == targets[i] for j in ranked]
        total = 0.0
        for rank in range(1, n_relevant + 1):
            if right[rank - 1]:
                total += sum(right[:rank]) / rank
        given.append((i, float(right[0]), total / n_relevant))
    return given


@pytest.mark.parametrize("rows_at_once", [7, 1024])
def test_what_is_found_is_what_a_loop_over_images_finds(
    rows_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrieval, "ROWS_AT_ONCE", rows_at_once)
    drawing = np.random.default_rng(2)
    targets, groups = drawing.integers(0, 25, 60), drawing.integers(0, 20, 60)
    rows = 2 * drawn(25, 5, seed=1)[targets] + drawn(60, 5, seed=3)

    found = find_class(rows, targets=targets, groups=groups)

    expected = by_loop(rows, targets, groups)
    assert len(expected) < 60
    assert found.asked.tolist() == [i for i, _, _ in expected]
    assert found.first.tolist() == [first for _, first, _ in expected]
    assert found.map_at_r == pytest.approx([value for _, _, value in expected])


def test_classes_that_lie_apart_are_found_whole() -> None:
    targets = np.arange(40) % 4
    rows = np.eye(4, dtype=np.float32)[targets] + 0.01 * drawn(40, 4, seed=0)

    found = find_class(rows, targets=targets, groups=np.arange(40))

    assert found.first.min() == found.map_at_r.min() == 1


def test_a_twin_in_the_same_group_is_no_find() -> None:
    rows = np.array([[1, 0], [1, 0], [0.2, 1], [0.1, 1]], dtype=np.float32)
    targets = np.array([0, 0, 1, 0])

    found = find_class(rows, targets=targets, groups=np.array([0, 0, 1, 2]))

    assert found.asked.tolist() == [0, 1, 3]
    assert found.first.tolist() == [0, 0, 0]


def test_where_no_class_has_two_groups_nothing_is_asked() -> None:
    found = find_class(
        drawn(4, 3, seed=0), targets=np.array([0, 0, 1, 1]), groups=np.array([0, 0, 1, 1])
    )

    assert not len(found.asked) + len(found.first) + len(found.map_at_r)
