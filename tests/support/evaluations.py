"""Evaluations and their parts, made by hand."""

from fgpipe.records import ClassScores, Comparison, Evaluation, ModelScores, Score

CANDIDATE, CHAMPION = "c" * 64, "b" * 64


def score(value: float, *, margin: float = 0.05) -> Score:
    return Score(value=value, low=value - margin, high=value + margin)


def model_scores(
    *,
    top1: float = 0.8,
    macro_recall: float = 0.6,
    coarse_accuracy: float | None = 0.9,
    calibration_error: float = 0.05,
    train_sha256: str = CANDIDATE,
) -> ModelScores:
    return ModelScores(
        train_sha256=train_sha256,
        n_images=500,
        n_groups=9,
        top1=score(top1),
        macro_recall=score(macro_recall),
        coarse_accuracy=None if coarse_accuracy is None else score(coarse_accuracy),
        calibration_error=score(calibration_error),
        log_loss=score(0.7),
        per_class=(ClassScores(label="fine", n_images=500, recall=0.8, precision=0.8, f1=0.8),),
        slices=(),
    )


def comparison(
    *, top1: Score, macro_recall: Score | None = None, coarse_accuracy: Score | None = None
) -> Comparison:
    return Comparison(
        version=3,
        champion=model_scores(train_sha256=CHAMPION, top1=0.79),
        n_images=480,
        n_groups=8,
        n_groups_left_out=1,
        top1=top1,
        macro_recall=macro_recall or score(0.0),
        coarse_accuracy=coarse_accuracy or score(0.0),
    )


def evaluation(**changes: object) -> Evaluation:
    fields = {
        "train_sha256": CANDIDATE,
        "manifest_sha256": "a" * 64,
        "protocol": "stable",
        "precision": "f32",
        "temperature": 1.2,
        "candidate": model_scores(),
        "comparison": None,
        "comparison_note": None,
        "confusion": ((500,),),
    }
    return Evaluation.model_validate(fields | changes)
