import math

import numpy as np
import pytest

from fgpipe.metrics.spread import effective_rank, spread


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def units(rows: np.ndarray) -> np.ndarray:
    return np.array([row / math.sqrt(float(row @ row)) for row in rows.astype(float)])


def test_spread_is_what_a_loop_over_channels_gives() -> None:
    rows = drawn(50, 7) + 1
    deviations = []
    for channel in units(rows).T:
        mean = sum(channel) / 50
        deviations.append(math.sqrt(sum((value - mean) ** 2 for value in channel) / 50))

    assert spread(rows) == pytest.approx(math.sqrt(7) * sum(deviations) / 7, rel=1e-5)


def test_rows_that_point_all_ways_alike_have_a_spread_of_1() -> None:
    assert spread(drawn(4000, 32)) == pytest.approx(1, abs=0.01)


def test_one_row_over_and_over_has_no_spread_and_no_more_than_one_direction() -> None:
    rows = np.repeat(drawn(1, 16), 40, axis=0)

    assert spread(rows) == pytest.approx(0, abs=1e-6)
    assert effective_rank(rows) == 1


def test_rows_that_differ_by_rounding_have_one_direction() -> None:
    rows = np.repeat(drawn(1, 16), 40, axis=0) * (1 + 1e-7 * drawn(40, 16))

    assert effective_rank(rows) == 1


def test_effective_rank_is_that_of_the_singular_values() -> None:
    rows = drawn(60, 9) * np.arange(1, 10, dtype=np.float32)
    centred = units(rows) - units(rows).mean(axis=0)
    values = np.linalg.svd(centred, compute_uv=False)
    entropy = -sum(value / values.sum() * math.log(value / values.sum()) for value in values)

    assert effective_rank(rows) == pytest.approx(math.exp(entropy), rel=1e-4)


@pytest.mark.parametrize("n_directions", [1, 2, 5])
def test_equal_directions_are_counted(n_directions: int) -> None:
    axes = np.eye(8, dtype=np.float32)[:n_directions]
    rows = np.concatenate([axes, -axes])

    assert effective_rank(rows) == pytest.approx(n_directions, rel=1e-6)


def test_fewer_rows_than_channels_are_no_more_directions_than_differences() -> None:
    assert effective_rank(drawn(4, 100)) < 3 + 1e-3
