"""Nearest rows, against sorting all of them."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from fgpipe.images import neighbours
from fgpipe.images.neighbours import evened_out, nearest, unique_pairs


def unit_rows(n: int, *, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(n, 24)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize(("n", "n_known"), [(2, 0), (5, 0), (300, 0), (300, 290), (1500, 1000)])
def test_neighbours_are_those_that_sorting_all_finds(
    n: int, n_known: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "_ROWS_AT_ONCE", 64)
    rows = unit_rows(n)

    pairs = nearest(rows, n_known=n_known, n_nearest=4)

    cosines = rows @ rows.T
    np.fill_diagonal(cosines, -np.inf)
    slow = set()
    for i in range(n_known, n):
        for j in np.argsort(-cosines[i])[: min(4, n - 1)].tolist():
            slow.add((min(i, j), max(i, j)))
    assert [tuple(pair) for pair in pairs.tolist()] == sorted(slow)


def test_the_last_features_make_a_shortlist_for_all_features(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = evened_out(unit_rows(1000) @ np.diag(np.linspace(1, 4, 24)).astype(np.float32))
    exact = {tuple(pair) for pair in nearest(rows, n_known=0, n_nearest=4).tolist()}
    monkeypatch.setattr(neighbours, "_FIRST_FEATURES", 20)

    found = {tuple(pair) for pair in nearest(rows, n_known=0, n_nearest=4).tolist()}

    assert 0.9 < len(found & exact) / len(exact) < 1


def test_fewer_than_two_rows_have_no_neighbours() -> None:
    assert nearest(unit_rows(1), n_known=0, n_nearest=4).shape == (0, 2)
    assert nearest(unit_rows(7), n_known=7, n_nearest=4).shape == (0, 2)


def test_pairs_are_made_unique_and_sorted() -> None:
    parts = [np.array([[3, 9], [0, 2]]), np.array([[0, 11], [3, 9]])]

    assert unique_pairs(parts).tolist() == [[0, 2], [0, 11], [3, 9]]
    assert unique_pairs([]).shape == (0, 2)


def test_evening_out_is_half_of_whitening(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "_ROWS_AT_A_TIME", 100)
    rows = unit_rows(400) @ np.diag(np.linspace(1, 3, 24)).astype(np.float32)

    even = evened_out(rows)

    slow = PCA(24).fit(rows)
    turned = slow.transform(rows) / slow.explained_variance_**0.25
    turned /= np.linalg.norm(turned, axis=1, keepdims=True)
    assert even.shape == (400, 24)
    np.testing.assert_allclose(even @ even.T, turned @ turned.T, atol=1e-4)


def test_rows_that_are_all_the_same_stay_so() -> None:
    even = evened_out(np.ones((5, 24), dtype=np.float32))

    assert np.isfinite(even).all()
    assert (even == even[0]).all()
