import pytest
from hypothesis import given
from hypothesis import strategies as st

from fgpipe.errors import ConfigError
from fgpipe.operations.planning import (
    FEWEST_EPOCHS,
    MOST_EPOCHS,
    OVERHEAD_S,
    Plan,
    _low_size,
    schedule,
)
from fgpipe.records import HeadName, RecogniserSpec
from fgpipe.training.rehearsal import Pace

PACE = Pace(step=1.0, low_step=0.4, validation=5.0, head=7.0)


def planned(seconds: float, *, head_epochs: int = 0) -> Plan:
    return schedule(seconds, pace=PACE, n_steps=50, low_size_px=160, head_epochs=head_epochs)


def seconds_of(plan: Plan, *, head_epochs: int = 0) -> float:
    """Epoch by epoch."""
    seconds = OVERHEAD_S + (PACE.head if head_epochs else 0)
    for epoch in range(1, plan.epochs + 1):
        is_low = plan.low_size_px and epoch <= plan.epochs - plan.finish_epochs
        seconds += 50 * (PACE.low_step if is_low else PACE.step) + PACE.validation
    return seconds


def test_enough_time_trains_at_the_full_size_throughout() -> None:
    plan = planned(OVERHEAD_S + 10 * 55)

    assert plan == Plan(epochs=10, low_size_px=0, finish_epochs=0, seconds=OVERHEAD_S + 550)


def test_less_time_trains_most_epochs_at_the_low_size() -> None:
    plan = planned(OVERHEAD_S + 5 * 55)

    assert plan.low_size_px == 160
    assert plan.epochs >= FEWEST_EPOCHS
    assert 1 <= plan.finish_epochs < plan.epochs


def test_too_little_time_is_told_with_what_one_epoch_takes() -> None:
    with pytest.raises(ConfigError, match=r"--minutes 1 is too little: one epoch takes 1\.7"):
        planned(60)


@given(seconds=st.floats(OVERHEAD_S + PACE.head + 56, 5000), head_epochs=st.integers(0, 2))
def test_a_plan_fits_and_one_epoch_more_does_not(seconds: float, head_epochs: int) -> None:
    plan = planned(seconds, head_epochs=head_epochs)

    expected = seconds_of(plan, head_epochs=head_epochs)
    assert plan.seconds == pytest.approx(expected)
    assert expected <= seconds + 1e-6
    assert plan.epochs <= MOST_EPOCHS
    if plan.epochs < MOST_EPOCHS:
        assert seconds - expected < 55


@pytest.mark.parametrize(
    ("backbone", "head", "size_px", "low_px"),
    [
        ("test_resnet", "isqrt", 224, 160),
        ("test_resnet", "linear", 64, 32),
        ("test_resnet", "isqrt", 64, 0),
        ("test_resnet", "linear", 32, 0),
        ("seed_cnn", "linear", 64, 0),
    ],
)
def test_where_no_low_size_is_taken_all_is_planned_at_the_full_one(
    backbone: str, head: HeadName, size_px: int, low_px: int
) -> None:
    spec = RecogniserSpec(
        backbone=backbone,
        head=head,
        n_classes=2,
        dropout=0.0,
        image_size_px=size_px,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    )

    assert _low_size(spec) == low_px
