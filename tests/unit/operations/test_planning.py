import json
from pathlib import Path

import albumentations as A  # noqa: N812
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fgpipe.errors import ConfigError
from fgpipe.operations.planning import (
    FEWEST_EPOCHS,
    MOST_EPOCHS,
    Plan,
    _low_size,
    schedule,
)
from fgpipe.records import HeadName, RecogniserSpec

FIXED, FULL, LOW = 45.0, 55.0, 25.0


def planned(seconds: float) -> Plan:
    return schedule(seconds, fixed=FIXED, full=FULL, low=LOW, low_size_px=160)


def seconds_of(plan: Plan) -> float:
    """Epoch by epoch."""
    seconds = FIXED
    for epoch in range(1, plan.epochs + 1):
        is_low = plan.low_size_px and epoch <= plan.epochs - plan.finish_epochs
        seconds += LOW if is_low else FULL
    return seconds


def test_enough_time_trains_at_the_full_size_throughout() -> None:
    plan = planned(FIXED + 10 * FULL)

    assert plan == Plan(epochs=10, low_size_px=0, finish_epochs=0, seconds=FIXED + 10 * FULL)


def test_less_time_trains_most_epochs_at_the_low_size() -> None:
    plan = planned(FIXED + 5 * FULL)

    assert plan.low_size_px == 160
    assert plan.epochs >= FEWEST_EPOCHS
    assert 1 <= plan.finish_epochs < plan.epochs


def test_too_little_time_is_told_with_what_one_epoch_takes() -> None:
    with pytest.raises(ConfigError, match=r"--minutes 1 is too little: one epoch takes 1\.7"):
        planned(60)


@given(seconds=st.floats(FIXED + FULL + 1, 5000))
def test_a_plan_fits_and_one_epoch_more_does_not(seconds: float) -> None:
    plan = planned(seconds)

    expected = seconds_of(plan)
    assert plan.seconds == pytest.approx(expected)
    assert expected <= seconds + 1e-6
    assert plan.epochs <= MOST_EPOCHS
    if plan.epochs < MOST_EPOCHS:
        assert seconds - expected < FULL


def spec_of(backbone: str, head: HeadName, size_px: int) -> RecogniserSpec:
    return RecogniserSpec(
        backbone=backbone,
        head=head,
        n_classes=2,
        dropout=0.0,
        image_size_px=size_px,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    )


def test_an_augmentation_that_makes_one_size_is_planned_at_that(tmp_path: Path) -> None:
    policy = tmp_path / "mine.json"
    crop = A.Compose([A.RandomCrop(200, 200), A.Resize(224, 224)])
    policy.write_text(json.dumps(A.to_dict(crop)))
    spec = spec_of("test_resnet", "linear", 224)

    assert _low_size(spec, augment="square") == 160
    assert _low_size(spec, augment=str(policy)) == 0


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
    spec = spec_of(backbone, head, size_px)

    assert _low_size(spec, augment="square") == low_px
