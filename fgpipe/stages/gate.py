"""Decides whether a candidate may be promoted, and says why. A refusal is a result.

A candidate passes if it was trained under a protocol that is fit for use, if its figures
on the test split reach every bound, and if it does not fall behind the champion on the
images that both are compared on. Where there is a champion but no comparison with it, a
candidate that would pass is put on ``hold``: that is for a person to settle.
"""

from pathlib import Path
from typing import Literal

from fgpipe.config import GateConfig
from fgpipe.ports import Ports
from fgpipe.records import (
    PROMOTABLE,
    Comparison,
    Evaluation,
    GateCheck,
    GateDecision,
    ModelScores,
    Score,
    Stored,
)

TOLERANCE = 1e-9
"""A figure this near a bound reaches it: 0.58 - 0.60 is a little below -0.02 in binary."""

HEADLINE = ("top1", "macro_recall", "coarse_accuracy", "calibration_error", "log_loss")
COMPARED = ("top1", "macro_recall", "coarse_accuracy")


def gate(
    *, evaluate: Stored[Evaluation], config: GateConfig, out: Path, ports: Ports
) -> GateDecision:
    """Judge the candidate by its figures, and tell the tracker."""
    del out  # the record is all there is to write
    evaluation = evaluate.record
    bounded = (_protocol_check(evaluation), *_bound_checks(evaluation.candidate, config=config))
    compared = _champion_checks(evaluation, max_drop=config.max_drop)
    is_fit = all(check.passed for check in bounded)
    verdict: Literal["passed", "rejected", "hold"]
    if is_fit and all(check.passed for check in compared):
        verdict = "passed"
    elif is_fit and _cannot_compare(evaluation):
        verdict = "hold"
    else:
        verdict = "rejected"
    checks = (*bounded, *compared)
    decision = GateDecision(
        verdict=verdict,
        summary=_summary(verdict, checks=checks, candidate=evaluation.candidate),
        checks=checks,
        train_sha256=evaluation.train_sha256,
        evaluation_sha256=evaluation.sha256(),
        test=_scores(evaluation.candidate, names=HEADLINE),
    )
    ports.tracker.log_gate(decision)
    return decision


def _protocol_check(evaluation: Evaluation) -> GateCheck:
    passed = evaluation.protocol in PROMOTABLE
    if passed:
        reason = (
            f"protocol is {evaluation.protocol}: no group is in two splits, and none changes split"
        )
    else:
        reason = (
            f"protocol is {evaluation.protocol}, which is for comparisons only and never "
            f"promoted; it must be {' or '.join(PROMOTABLE)}"
        )
    return GateCheck(name="protocol", passed=passed, reason=reason)


def _bound_checks(candidate: ModelScores, *, config: GateConfig) -> tuple[GateCheck, ...]:
    """Whether each figure reaches its bound; a figure that the data do not have is left out."""
    floors = {
        "top1": config.min_top1,
        "macro_recall": config.min_macro_recall,
        "coarse_accuracy": config.min_coarse_accuracy,
    }
    scores = _scores(candidate, names=COMPARED)
    return (
        *(_floor_check(name, score, floor=floors[name]) for name, score in scores.items()),
        _ceiling_check(
            "calibration_error", candidate.calibration_error, ceiling=config.max_calibration_error
        ),
    )


def _floor_check(name: str, score: Score, *, floor: float) -> GateCheck:
    passed = score.value >= floor - TOLERANCE
    relation = "reaches" if passed else "is below"
    value, bound = _both(score.value, floor)
    return GateCheck(
        name=f"min_{name}",
        passed=passed,
        reason=f"{name} {value} {_interval(score)} {relation} the floor of {bound}",
    )


def _ceiling_check(name: str, score: Score, *, ceiling: float) -> GateCheck:
    passed = score.value <= ceiling + TOLERANCE
    relation = "is within" if passed else "is above"
    value, bound = _both(score.value, ceiling)
    return GateCheck(
        name=f"max_{name}",
        passed=passed,
        reason=f"{name} {value} {_interval(score)} {relation} the ceiling of {bound}",
    )


def _champion_checks(evaluation: Evaluation, *, max_drop: float) -> tuple[GateCheck, ...]:
    """Whether each compared figure keeps up with the champion's."""
    if _cannot_compare(evaluation):
        reason = f"there is a champion, but no comparison with it: {evaluation.comparison_note}"
        return (GateCheck(name="max_drop", passed=False, reason=reason),)
    if evaluation.comparison is None:
        reason = "there is no champion to fall behind"
        return (GateCheck(name="max_drop", passed=True, reason=reason),)
    differences = _scores(evaluation.comparison, names=COMPARED)
    champion = _scores(evaluation.comparison.champion, names=COMPARED)
    return tuple(
        _drop_check(name, difference, champion=champion[name], max_drop=max_drop)
        for name, difference in differences.items()
    )


def _drop_check(name: str, difference: Score, *, champion: Score, max_drop: float) -> GateCheck:
    is_near = difference.value >= -max_drop - TOLERANCE
    is_surely_worse = difference.high < 0
    change, bound = _both(difference.value, -max_drop)
    reason = (
        f"{name} differs by {change} {_interval(difference)} from the champion's "
        f"{champion.value:.3f}; {bound} is allowed"
    )
    if is_surely_worse:
        reason += ", and the whole interval is below 0"
    return GateCheck(name=f"max_drop.{name}", passed=is_near and not is_surely_worse, reason=reason)


def _cannot_compare(evaluation: Evaluation) -> bool:
    return evaluation.comparison is None and evaluation.comparison_note is not None


def _scores(scores: ModelScores | Comparison, *, names: tuple[str, ...]) -> dict[str, Score]:
    """The figures of those names that are there."""
    found: dict[str, Score | None] = {name: getattr(scores, name) for name in names}
    return {name: score for name, score in found.items() if score is not None}


def _interval(score: Score) -> str:
    return f"[{score.low:.3f}, {score.high:.3f}]"


def _both(value: float, bound: float) -> tuple[str, str]:
    """Two numbers with as many digits, at least 3, as it takes to tell them apart."""
    for digits in range(3, 9):
        texts = f"{value:.{digits}f}", f"{bound:.{digits}f}"
        if texts[0] != texts[1]:
            return texts
    return f"{value:.3f}", f"{bound:.3f}"


def _summary(verdict: str, *, checks: tuple[GateCheck, ...], candidate: ModelScores) -> str:
    if verdict == "passed":
        return (
            f"passed all {len(checks)} checks on {candidate.n_images} test images: "
            f"top1 {candidate.top1}, macro_recall {candidate.macro_recall}"
        )
    reasons = "; ".join(check.reason for check in checks if not check.passed)
    return f"{verdict}: {reasons}"
