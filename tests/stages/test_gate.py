import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fgpipe.config import GateConfig
from fgpipe.records import Evaluation, GateDecision, Score, Stored
from fgpipe.stages.gate import gate
from tests.adapters.tracker import FakeTracker
from tests.support.evaluations import comparison, evaluation, model_scores, score
from tests.support.ports import fake_ports

LENIENT = GateConfig(
    min_top1=0.7,
    min_macro_recall=0.5,
    min_coarse_accuracy=0.8,
    max_calibration_error=0.1,
    max_drop=0.02,
)
SHARES = st.integers(0, 100).map(lambda percent: percent / 100)


def judge(
    evaluated: Evaluation,
    *,
    config: GateConfig = LENIENT,
    tracker: FakeTracker | None = None,
) -> GateDecision:
    ports = fake_ports(Path(), tracker=tracker)
    stored = Stored(record=evaluated, payload=Path("payload"))
    return gate(evaluate=stored, config=config, out=Path("out"), ports=ports)


def failed(decision: GateDecision) -> list[str]:
    return [check.name for check in decision.checks if not check.passed]


def test_a_candidate_above_every_bound_passes_where_there_is_no_champion() -> None:
    evaluated = evaluation()

    decision = judge(evaluated)

    assert decision.verdict == "passed"
    assert [check.name for check in decision.checks] == [
        "protocol",
        "min_top1",
        "min_macro_recall",
        "min_coarse_accuracy",
        "max_calibration_error",
        "max_drop",
    ]
    assert decision.train_sha256 == evaluated.train_sha256
    assert decision.evaluation_sha256 == evaluated.sha256()
    assert "no champion" in decision.checks[-1].reason


@pytest.mark.parametrize(
    ("figure", "check", "at_bound", "beyond"),
    [
        ("top1", "min_top1", 0.7, 0.69),
        ("macro_recall", "min_macro_recall", 0.5, 0.49),
        ("coarse_accuracy", "min_coarse_accuracy", 0.8, 0.79),
        ("calibration_error", "max_calibration_error", 0.1, 0.11),
    ],
)
def test_a_figure_at_its_bound_passes_and_beyond_it_is_rejected_with_both_numbers(
    figure: str, check: str, at_bound: float, beyond: float
) -> None:
    at, past = (
        judge(evaluation(candidate=model_scores(**{figure: value}))) for value in (at_bound, beyond)
    )

    assert at.verdict == "passed"
    assert past.verdict == "rejected"
    assert failed(past) == [check]
    reason = next(entry.reason for entry in past.checks if entry.name == check)
    assert f"{figure} {beyond:.3f}" in reason
    assert f"{at_bound:.3f}" in reason
    assert reason in past.summary


def test_two_numbers_that_differ_never_read_the_same() -> None:
    evaluated = evaluation(candidate=model_scores(top1=0.699999))

    decision = judge(evaluated)

    assert "top1 0.699999 [0.650, 0.750] is below the floor of 0.700000" in decision.summary


def test_every_condition_that_fails_is_in_the_summary() -> None:
    evaluated = evaluation(candidate=model_scores(top1=0.1, macro_recall=0.1))

    decision = judge(evaluated)

    assert failed(decision) == ["min_top1", "min_macro_recall"]
    assert "top1 0.100" in decision.summary
    assert "macro_recall 0.100" in decision.summary


def test_data_without_parents_are_not_held_to_the_coarse_floor() -> None:
    evaluated = evaluation(candidate=model_scores(coarse_accuracy=None))

    decision = judge(evaluated)

    assert decision.verdict == "passed"
    assert "min_coarse_accuracy" not in [check.name for check in decision.checks]
    assert sorted(decision.test) == ["calibration_error", "log_loss", "macro_recall", "top1"]


@pytest.mark.parametrize("protocol", ["stable", "given"])
def test_a_protocol_that_keeps_groups_in_one_split_passes(protocol: str) -> None:
    evaluated = evaluation(protocol=protocol, candidate=model_scores(top1=1.0))

    decision = judge(evaluated)

    assert decision.verdict == "passed"
    assert f"protocol is {protocol}" in decision.checks[0].reason


@pytest.mark.parametrize("protocol", ["random", "fold"])
def test_a_protocol_for_comparisons_is_rejected_however_good_the_figures(protocol: str) -> None:
    evaluated = evaluation(protocol=protocol, candidate=model_scores(top1=1.0))

    decision = judge(evaluated)

    assert decision.verdict == "rejected"
    assert failed(decision) == ["protocol"]
    assert "never promoted" in decision.summary


@pytest.mark.parametrize(
    ("difference", "verdict"),
    [
        (score(0.03), "passed"),
        (score(0.58 - 0.60, margin=0.03), "passed"),
        (score(-0.0201, margin=0.03), "rejected"),
        (Score(value=-0.01, low=-0.015, high=0.0), "passed"),
        (Score(value=-0.01, low=-0.015, high=-0.0001), "rejected"),
    ],
)
@pytest.mark.parametrize("figure", ["top1", "macro_recall", "coarse_accuracy"])
def test_a_candidate_may_be_a_little_below_the_champion_unless_that_is_certain(
    figure: str, difference: Score, verdict: str
) -> None:
    compared = comparison(**({"top1": score(0.0)} | {figure: difference}))

    decision = judge(evaluation(comparison=compared))

    assert decision.verdict == verdict
    assert failed(decision) == ([] if verdict == "passed" else [f"max_drop.{figure}"])
    reason = next(c.reason for c in decision.checks if c.name == f"max_drop.{figure}")
    assert f"{getattr(compared.champion, figure).value:.3f}" in reason
    assert "allowed" in reason


def test_a_champion_that_cannot_be_compared_with_puts_a_good_candidate_on_hold() -> None:
    evaluated = evaluation(comparison_note="the champion has seen 8 of 9 test groups")

    decision = judge(evaluated)

    assert decision.verdict == "hold"
    assert not decision.passed
    assert failed(decision) == ["max_drop"]
    assert "the champion has seen 8 of 9 test groups" in decision.summary


def test_a_poor_candidate_is_rejected_and_not_held_though_it_cannot_be_compared() -> None:
    evaluated = evaluation(candidate=model_scores(top1=0.1), comparison_note="other labels")

    decision = judge(evaluated)

    assert decision.verdict == "rejected"


def test_the_headline_figures_go_along_with_their_intervals() -> None:
    evaluated = evaluation()

    decision = judge(evaluated)

    assert decision.test == {
        "top1": evaluated.candidate.top1,
        "macro_recall": evaluated.candidate.macro_recall,
        "coarse_accuracy": evaluated.candidate.coarse_accuracy,
        "calibration_error": evaluated.candidate.calibration_error,
        "log_loss": evaluated.candidate.log_loss,
    }


def test_the_tracker_is_told_the_verdict_a_refusal_too() -> None:
    tracker = FakeTracker()

    decisions = [
        judge(evaluation(), tracker=tracker),
        judge(evaluation(protocol="fold"), tracker=tracker),
    ]

    assert tracker.decisions == decisions
    assert [decision.verdict for decision in decisions] == ["passed", "rejected"]


@given(top1=SHARES, macro=SHARES, floor=SHARES, other=SHARES, change=st.floats(-0.2, 0.2))
def test_raising_a_floor_never_helps_and_a_pass_means_that_every_check_holds(
    top1: float, macro: float, floor: float, other: float, change: float
) -> None:
    evaluated = evaluation(
        candidate=model_scores(top1=top1, macro_recall=macro),
        comparison=comparison(top1=score(change, margin=0.03)),
    )
    low, high = sorted((floor, other))

    lower, higher = (
        judge(evaluated, config=LENIENT.model_copy(update={"min_top1": bound}))
        for bound in (low, high)
    )

    assert lower.passed or not higher.passed
    for decision in (lower, higher):
        assert decision.passed == all(check.passed for check in decision.checks)


@given(value=st.floats(-0.2, 0.2), better=st.floats(0, 0.2), margin=st.floats(0, 0.1))
def test_a_candidate_better_by_more_against_the_champion_is_never_judged_worse(
    value: float, better: float, margin: float
) -> None:
    worse, improved = (
        judge(evaluation(comparison=comparison(top1=score(change, margin=margin))))
        for change in (value, value + better)
    )

    assert improved.passed or not worse.passed


def test_judging_loads_no_heavy_library() -> None:
    program = (
        "import json, sys; import fgpipe.stages.gate; "
        "print(json.dumps([m for m in ('pandas', 'torch', 'mlflow') if m in sys.modules]))"
    )

    found = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)

    assert json.loads(found.stdout) == []
