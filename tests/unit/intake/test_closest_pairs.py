from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from fgpipe.intake.closest_pairs import (
    N_PAIRS,
    N_PAIRS_OF_CLASSES,
    ApartPair,
    closest_by_embedding,
    closest_by_hash,
)


def unit_rows(n: int, *, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(n, 8)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def by_a_loop(distances: dict[tuple[int, int], float], targets: list[int]) -> list[ApartPair]:
    """Of each image the closest of another class, then greedily, each image once."""
    nearest = set()
    for i in range(len(targets)):
        others = [j for j in range(len(targets)) if targets[j] != targets[i]]
        j = min(others, key=lambda j: (distances[min(i, j), max(i, j)], targets[j], j))
        nearest.add((min(i, j), max(i, j)))
    chosen, seen, counts = [], set(), Counter()
    for i, j in sorted(nearest, key=lambda pair: (round(distances[pair], 6), pair)):
        classes = frozenset((targets[i], targets[j]))
        if not {i, j} & seen and counts[classes] < N_PAIRS_OF_CLASSES:
            seen |= {i, j}
            counts[classes] += 1
            chosen.append(ApartPair(i=i, j=j, distance=distances[i, j]))
    return chosen[:N_PAIRS]


@pytest.mark.parametrize("n_classes", [2, 5, 40])
def test_pairs_by_embedding_are_those_of_a_plain_loop(n_classes: int) -> None:
    rows = unit_rows(300)
    targets = np.random.default_rng(1).integers(0, n_classes, 300)

    found = closest_by_embedding(rows, targets)

    distances = {(i, j): 1 - float(rows[i] @ rows[j]) for i, j in combinations(range(300), 2)}
    expected = by_a_loop(distances, targets.tolist())
    assert [(pair.i, pair.j) for pair in found] == [(pair.i, pair.j) for pair in expected]
    for pair, other in zip(found, expected, strict=True):
        assert pair.distance == pytest.approx(other.distance, abs=1e-5)


def test_pairs_by_hash_are_those_of_a_plain_loop() -> None:
    hashes = np.random.default_rng(2).integers(1, 2**63, 280, dtype=np.uint64)
    targets = np.random.default_rng(3).integers(0, 3, 280)

    found = closest_by_hash(hashes, targets)

    distances = {
        (i, j): float((int(hashes[i]) ^ int(hashes[j])).bit_count())
        for i, j in combinations(range(280), 2)
    }
    assert found == by_a_loop(distances, targets.tolist())


def test_flat_images_whose_hash_is_zero_are_close_to_nothing() -> None:
    hashes = np.array([0, 0, 1, 15], dtype=np.uint64)

    found = closest_by_hash(hashes, np.array([0, 1, 0, 1]))

    assert found == [ApartPair(i=2, j=3, distance=3)]


def test_images_that_differ_in_every_bit_are_no_pair_and_those_of_a_class_neither() -> None:
    hashes = np.array([0, 2**64 - 2, 1, 1], dtype=np.uint64)

    assert closest_by_hash(hashes, np.array([0, 1, 2, 2])) == []


@pytest.mark.parametrize("n", [0, 1, 5])
def test_images_of_one_class_have_no_pair(n: int) -> None:
    assert closest_by_embedding(unit_rows(n), np.zeros(n, dtype=np.int64)) == []
