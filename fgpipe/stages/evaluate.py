"""06 evaluate: candidate and champion on the same test images, as each is served.

Nothing is read of what preprocess made: every image goes from its file's bytes through
the predictor that the service runs, at the precision that will serve. The temperature is
fitted on the calibration split; the test split is for figures only.

``candidate/`` holds what the package stage takes along and depends on the candidate
alone; ``payload/`` the predictions, the comparison and the report.
"""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float32, Float64, Int64

from fgpipe.config import EvaluateConfig
from fgpipe.errors import NotReadyError
from fgpipe.images.boxes import boxes_of
from fgpipe.images.table import ATTRIBUTE_PREFIX, read_table
from fgpipe.metrics.accuracy import parent_probabilities
from fgpipe.metrics.bootstrap import MIN_GROUPS
from fgpipe.metrics.calibration import fit_temperature, reliability_curve
from fgpipe.metrics.confusion import confusion_matrix
from fgpipe.metrics.retrieval import find_class
from fgpipe.metrics.scoring import LabelledImages, Scorer
from fgpipe.ports import Ports
from fgpipe.records import (
    Baseline,
    Comparison,
    Evaluation,
    Manifest,
    Retrieval,
    Stored,
    TrainedModel,
)
from fgpipe.report.page import Outcome, render_report
from fgpipe.serving.bundle import (
    CALIBRATION_FILE,
    PROBE_FILE,
    Calibration,
    Probe,
    ProbeImage,
    open_bundle,
)
from fgpipe.serving.color_reliance import color_reliance
from fgpipe.serving.inference import logits_of_files, outputs_of_files
from fgpipe.serving.labels import Labels
from fgpipe.serving.predictor import RUNTIME, Predictor, resolve_precision
from fgpipe.serving.seen import SEEN_FILE, Seen, seen_groups

MAX_PROBE_IMAGES = 8
"""Images that a bundle carries to prove itself."""

MAX_SEARCHED = 5000
"""Most test images that search each other, a sample of all: their number counts squared."""

DIGITS = 6
"""Digits after the point of what is written for people and plots."""

Probabilities = Float64[np.ndarray, "images classes"]
Logits = Float32[np.ndarray, "images classes"]
Embeddings = Float32[np.ndarray, "searched features"]
Rows = Int64[np.ndarray, " searched"]


def evaluate(
    *,
    raw: Path,
    baseline: Baseline | None,
    manifest: Stored[Manifest],
    train: Stored[TrainedModel],
    config: EvaluateConfig,
    out: Path,
    ports: Ports,
) -> Evaluation:
    """Fit the temperature, score candidate and champion, write predictions and report.

    Raises:
        NotReadyError: If the model was trained on another manifest, or the champion's
            bundle cannot be had.
        ConfigError: If this CPU does not compute in the precision asked for.
        DataError: If a file does not decode, or the test images are of one group.
    """
    calibration, test = _splits(manifest, train=train.record)
    precision = resolve_precision(config.precision)
    untempered = Predictor.load(train.payload, precision=precision, views=config.views)
    predictor = untempered.with_temperature(_temperature(untempered, calibration, raw=raw))
    searched = _searched(len(test), seed=config.seed)
    probabilities, embeddings = _answers(predictor, test, raw=raw, searched=searched)

    scorer = Scorer(
        labels=predictor.labels.names,
        parents=predictor.labels.parent_targets,
        n_bins=config.n_bins,
        n_bootstrap=config.n_bootstrap,
        confidence_level=config.confidence_level,
        seed=config.seed,
    )
    comparison, note = None, None
    if baseline is not None:
        comparison, note = _compare(
            probabilities,
            test,
            scorer=scorer,
            seen=Seen.load(train.payload / SEEN_FILE),
            champion=ports.registry.fetch_bundle(baseline),
            version=baseline.version,
            raw=raw,
        )
    color = None
    if (test["channels"] >= 3).any():
        color = color_reliance(
            predictor,
            test["path"].tolist(),
            folder=raw,
            boxes=boxes_of(test),
            images=_labelled(test),
            probabilities=probabilities,
            scorer=scorer,
        )
    confusion = confusion_matrix(
        probabilities.argmax(axis=1), _targets(test), n_classes=len(scorer.labels)
    )
    evaluation = Evaluation(
        train_sha256=train.record.sha256(),
        manifest_sha256=manifest.record.sha256(),
        protocol=manifest.record.protocol,
        precision=precision,
        temperature=predictor.temperature,
        views=predictor.views,
        candidate=scorer.score(probabilities, _labelled(test), train_sha256=train.record.sha256()),
        comparison=comparison,
        comparison_note=note,
        color=color,
        retrieval=_retrieval(embeddings, test.iloc[searched], scorer=scorer),
        confusion=tuple(tuple(int(cell) for cell in row) for row in confusion),
    )

    _write_candidate(
        out / "candidate",
        evaluation=evaluation,
        n_calibration_images=len(calibration),
        confidence_level=config.confidence_level,
        probe=_probe(test, probabilities),
    )
    payload = out / "payload"
    outcome = Outcome(
        paths=tuple(test["path"]),
        targets=_targets(test),
        probabilities=probabilities,
        reliability=reliability_curve(probabilities, _targets(test), n_bins=config.n_bins),
        confidence_level=config.confidence_level,
    )
    _write_tables(payload, test=test, outcome=outcome, labels=predictor.labels)
    page = render_report(
        evaluation, trained=train.record, manifest=manifest.record, outcome=outcome, raw=raw
    )
    (payload / "report.html").write_text(page, encoding="utf-8")
    ports.tracker.log_evaluation(evaluation, payload)
    return evaluation


def _splits(
    manifest: Stored[Manifest], *, train: TrainedModel
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The manifest's rows for calibration and for test, groups also as integers."""
    if train.manifest_sha256 != manifest.record.sha256():
        raise NotReadyError(
            "the model was trained on another manifest than the one to test on; `dvc repro train`"
        )
    table = read_table(manifest.payload)
    table["code"] = pd.factorize(table["group"], sort=True)[0].astype(np.int64)
    calibration, test = (
        table[table["split"] == split].reset_index(drop=True) for split in ("calibration", "test")
    )
    return calibration, test


def _targets(rows: pd.DataFrame) -> Int64[np.ndarray, " images"]:
    return rows["target"].to_numpy(dtype=np.int64)


def _labelled(rows: pd.DataFrame) -> LabelledImages:
    return LabelledImages(
        targets=_targets(rows),
        groups=rows["code"].to_numpy(dtype=np.int64),
        attributes={
            str(name).removeprefix(ATTRIBUTE_PREFIX): rows[name].fillna("").astype(str).tolist()
            for name in rows.columns
            if str(name).startswith(ATTRIBUTE_PREFIX)
        },
    )


def _temperature(predictor: Predictor, calibration: pd.DataFrame, *, raw: Path) -> float:
    logits = _logits(predictor, calibration, raw=raw, description="calibration")
    return round(fit_temperature(logits, _targets(calibration)), DIGITS)


def _searched(n_images: int, *, seed: int) -> Rows:
    """Which test images search each other, in order."""
    drawn = np.random.default_rng(seed).permutation(n_images)[:MAX_SEARCHED]
    return np.sort(drawn)


def _answers(
    predictor: Predictor, test: pd.DataFrame, *, raw: Path, searched: Rows
) -> tuple[Probabilities, Embeddings]:
    """Probabilities of all test images, embeddings of those that are searched."""
    logits, embeddings, start = [], [], 0
    for part in outputs_of_files(
        predictor,
        test["path"].tolist(),
        folder=raw,
        description="evaluate: test",
        boxes=boxes_of(test),
    ):
        stop = start + len(part.logits)
        logits.append(part.logits)
        first, last = np.searchsorted(searched, [start, stop])
        embeddings.append(part.embedding[searched[first:last] - start])
        start = stop
    return predictor.probabilities(np.concatenate(logits)), np.concatenate(embeddings)


def _retrieval(embeddings: Embeddings, rows: pd.DataFrame, *, scorer: Scorer) -> Retrieval | None:
    images = _labelled(rows)
    found = find_class(embeddings, targets=images.targets, groups=images.groups)
    if not len(found.asked):
        return None
    groups = images.groups[found.asked]
    return Retrieval(
        n_images=len(found.asked),
        recall_at_1=scorer.mean(found.first, groups),
        map_at_r=scorer.mean(found.map_at_r, groups),
    )


def _probabilities(
    predictor: Predictor, rows: pd.DataFrame, *, raw: Path, description: str
) -> Probabilities:
    return predictor.probabilities(_logits(predictor, rows, raw=raw, description=description))


def _logits(predictor: Predictor, rows: pd.DataFrame, *, raw: Path, description: str) -> Logits:
    return logits_of_files(
        predictor,
        rows["path"].tolist(),
        folder=raw,
        description=f"evaluate: {description}",
        boxes=boxes_of(rows),
    )


def _compare(
    candidate: Probabilities,
    test: pd.DataFrame,
    *,
    scorer: Scorer,
    seen: Seen,
    champion: Path,
    version: int,
    raw: Path,
) -> tuple[Comparison | None, str | None]:
    """Candidate and champion on the test images that neither has seen, or why not.

    Args:
        candidate: The candidate's probabilities, one row a test image.
        test: The manifest's rows of the test split.
        scorer: Scores both; a label's parent is today's for both.
        seen: What the candidate has seen.
        champion: The champion's bundle.
        version: The champion's version.
        raw: The images.
    """
    description = open_bundle(champion)
    if set(description.labels) != set(scorer.labels):
        return None, (
            f"champion version {version} knows other labels ({', '.join(description.labels)}) "
            f"than the candidate ({', '.join(scorer.labels)})"
        )
    left_out = seen_groups(
        test["group"].tolist(),
        test["sha256"].tolist(),
        by=(seen, Seen.load(champion / SEEN_FILE)),
    )
    rows = np.flatnonzero(~test["group"].isin(left_out))
    kept = test.iloc[rows]
    n_groups = kept["group"].nunique()
    if n_groups < MIN_GROUPS:
        return None, (
            f"candidate or champion version {version} has seen {len(left_out)} of the "
            f"{test['group'].nunique()} test groups; on {n_groups} they cannot be compared"
        )
    predictor = Predictor.load(champion)
    order = [predictor.labels.names.index(label) for label in scorer.labels]
    probabilities = _probabilities(predictor, kept, raw=raw, description="champion")[:, order]
    images = _labelled(kept)
    difference = scorer.difference(candidate[rows], probabilities, images)
    return Comparison(
        version=version,
        champion=scorer.score(probabilities, images, train_sha256=description.train_sha256),
        n_images=len(kept),
        n_groups=n_groups,
        n_groups_left_out=len(left_out),
        top1=difference.top1,
        macro_recall=difference.macro_recall,
        coarse_accuracy=difference.coarse_accuracy,
    ), None


def _probe(test: pd.DataFrame, probabilities: Probabilities) -> Probe:
    """A few test images: the first of each class, then the second, up to a handful."""
    turn = test.groupby("target").cumcount()
    chosen = test.assign(turn=turn).sort_values(["turn", "target"]).index[:MAX_PROBE_IMAGES]
    boxes = boxes_of(test)
    return Probe(
        images=tuple(
            ProbeImage(
                file=str(test["path"][row]),
                sha256=str(test["sha256"][row]),
                box=None if boxes[row] is None else str(boxes[row]),
                probabilities=tuple(round(float(value), DIGITS) for value in probabilities[row]),
            )
            for row in sorted(chosen)
        )
    )


def _write_candidate(
    folder: Path,
    *,
    evaluation: Evaluation,
    n_calibration_images: int,
    confidence_level: float,
    probe: Probe,
) -> None:
    scores = evaluation.candidate
    Calibration(
        train_sha256=evaluation.train_sha256,
        temperature=evaluation.temperature,
        views=evaluation.views,
        precision=evaluation.precision,
        runtime=RUNTIME,
        n_calibration_images=n_calibration_images,
        n_test_images=scores.n_images,
        n_test_groups=scores.n_groups,
        confidence_level=confidence_level,
        scores=scores.headline,
    ).save(folder / CALIBRATION_FILE)
    probe.save(folder / PROBE_FILE)


def _write_tables(payload: Path, *, test: pd.DataFrame, outcome: Outcome, labels: Labels) -> None:
    """Predictions, one row a test image; and what ``dvc plots`` draws."""
    probabilities = outcome.probabilities
    names = np.array(labels.names, dtype=object)
    given = names[probabilities.argmax(axis=1)]
    predictions = test[["path", "group", "label"]].assign(predicted=given)
    parents = labels.parent_targets
    if parents is not None:
        coarse = parent_probabilities(probabilities, parents=parents)
        predictions["parent"] = test["parent"]
        predictions["predicted_parent"] = np.array(labels.parent_names, dtype=object)[
            coarse.argmax(axis=1)
        ]
    for index, name in enumerate(labels.names):
        predictions[f"probability_{name}"] = probabilities[:, index]
    _write_csv(predictions, payload / "predictions.csv")
    confusion = pd.DataFrame({"actual": test["label"], "predicted": given})
    _write_csv(confusion, payload / "confusion.csv")
    reliability = pd.DataFrame([asdict(entry) for entry in outcome.reliability])
    _write_csv(reliability, payload / "reliability.csv")


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    table.to_csv(path, index=False, float_format=f"%.{DIGITS}f", lineterminator="\n")
