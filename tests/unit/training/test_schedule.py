import math

from hypothesis import given
from hypothesis import strategies as st

from fgpipe.training.schedule import rate_factor


@given(st.integers(1, 500), st.floats(0, 0.99))
def test_the_rate_rises_once_then_falls_and_stays_above_zero(n_steps: int, warmup: float) -> None:
    factors = [
        rate_factor(step, n_steps=n_steps, warmup_fraction=warmup) for step in range(n_steps)
    ]

    peak = factors.index(max(factors))
    assert all(0 < factor <= 1 for factor in factors)
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)
    assert max(factors) == 1


def test_a_case_by_hand() -> None:
    factors = [rate_factor(step, n_steps=10, warmup_fraction=0.2) for step in range(10)]

    assert factors[:3] == [1 / 3, 2 / 3, 1.0]
    assert math.isclose(factors[6], 0.5)
    assert math.isclose(factors[9], 0.5 * (1 + math.cos(math.pi * 7 / 8)))
