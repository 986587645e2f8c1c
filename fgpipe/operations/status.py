"""What stands in a project, as a short text for a person."""

from pathlib import Path
from typing import TypeVar

from fgpipe import settings
from fgpipe.errors import NotReadyError
from fgpipe.operations.promote import PIN
from fgpipe.operations.provenance import provenance
from fgpipe.pipeline import load_record, stage_named
from fgpipe.records import (
    SPLITS,
    Champion,
    Evaluation,
    GateDecision,
    Manifest,
    Pretrained,
    Record,
    Score,
    TrainedModel,
    Validation,
)

R = TypeVar("R", bound=Record)


def describe(root: Path) -> str:
    """A few lines: data, model, scores with intervals, verdict, places, next commands."""
    manifest = _load(Manifest, root=root)
    if manifest is None:
        return "nothing has been made here yet; `make run`, or `fgpipe data import FOLDER` first"
    validation = _load(Validation, root=root)
    pretrained = _load(Pretrained, root=root)
    trained = _load(TrainedModel, root=root)
    evaluation = _load(Evaluation, root=root)
    decision = _load(GateDecision, root=root)
    parts = [_data_lines(manifest, root=root)]
    if validation:
        parts.append(_validation_lines(validation))
    if pretrained and pretrained.pretraining:
        parts.append([_line("pretrain", f"{pretrained.method}: {pretrained.pretraining.reason}")])
    if trained:
        parts.append(_model_lines(trained))
    if evaluation:
        parts.append(_score_lines(evaluation))
    if decision:
        parts.append(_verdict_lines(decision))
    parts.append(_place_lines(root, example=_example_image(root)))
    return "\n".join(line for part in parts for line in part)


def _load(type_: type[R], *, root: Path) -> R | None:
    try:
        return load_record(type_, root=root)
    except NotReadyError:
        return None


def _data_lines(manifest: Manifest, *, root: Path) -> list[str]:
    counts = {split: sum(entry.n_images[split] for entry in manifest.labels) for split in SPLITS}
    splits = ", ".join(f"{n_images:,} {split}" for split, n_images in counts.items())
    version = provenance(root).get("data_hash", "not known to DVC yet")
    return [
        _line("data", f"{manifest.n_images:,} images of {len(manifest.labels)} labels"),
        _line("", f"{splits}; {manifest.n_groups} groups, split: {manifest.protocol}"),
        _line("", f"version {version}"),
    ]


def _validation_lines(validation: Validation) -> list[str]:
    n_met = sum(result.passed for result in validation.expectations)
    report = stage_named("validate").folder / "payload" / "report.html"
    return [
        _line("checks", f"{n_met} expectations met, {len(validation.warnings)} warnings: {report}"),
        *(
            _line("", f"{result.name}: {result.description}; not so: {result.n_unexpected:,}")
            for result in validation.warnings
        ),
    ]


def _model_lines(trained: TrainedModel) -> list[str]:
    spec, resolved = trained.recogniser, trained.resolved
    return [
        _line("model", f"{spec.backbone} + {spec.head}, from {trained.initial_weights}"),
        _line(
            "",
            f"epoch {trained.best_epoch} of {len(trained.curves)}, {resolved.device} "
            f"{resolved.precision}, {trained.n_parameters / 1e6:.1f} M weights",
        ),
    ]


def _score_lines(evaluation: Evaluation) -> list[str]:
    scores = evaluation.candidate
    headline: list[tuple[str, Score | None]] = [
        ("top-1", scores.top1),
        ("macro recall", scores.macro_recall),
        ("parent label", scores.coarse_accuracy),
        ("calibration error", scores.calibration_error),
    ]
    rows = [
        _line("", f"{name:<18}{score.value:.3f}   [{score.low:.3f}, {score.high:.3f}]")
        for name, score in headline
        if score is not None
    ]
    title = f"on {scores.n_images} images of {scores.n_groups} groups, with intervals"
    return [_line("test", title), *rows, *_comparison_lines(evaluation)]


def _comparison_lines(evaluation: Evaluation) -> list[str]:
    comparison = evaluation.comparison
    if comparison is None:
        return [_line("", evaluation.comparison_note)] if evaluation.comparison_note else []
    return [_line("", f"top-1 {comparison.top1} against champion version {comparison.version}")]


def _verdict_lines(decision: GateDecision) -> list[str]:
    reasons = [
        _line("", f"{'ok ' if check.passed else 'NO '} {check.reason}") for check in decision.checks
    ]
    return [_line("gate", decision.verdict.upper()), *reasons]


def _place_lines(root: Path, *, example: str) -> list[str]:
    report = stage_named("evaluate").folder / "payload" / "report.html"
    lines = [_line("report", str(report)), _line("MLflow", settings.tracking_uri(root))]
    if (root / PIN).exists():
        champion = Champion.load(root / PIN)
        lines += [
            _line("champion", f"{champion.model_name} version {champion.version}"),
            _line("", f"Bento {champion.bento_tag}"),
            _line("next", "make serve"),
            _line("", f"curl -F image=@{example} http://127.0.0.1:3000/v1/predict"),
            _line("", "make ui"),
        ]
    else:
        lines += [_line("champion", "none yet"), _line("next", "make ui")]
    return lines


def _example_image(root: Path) -> str:
    """An image of the project to try the endpoint with."""
    images = sorted((root / "data" / "raw" / "images").rglob("*.*"))
    return str(images[0].relative_to(root)) if images else "IMAGE.png"


def _line(title: str, text: str | None) -> str:
    return f"  {title:<10}{text}"
