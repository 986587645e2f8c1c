"""Puts the report together: figures, pictures and examples into one HTML file.

The page refers to nothing outside itself and needs no script. It says nothing of when,
where or how fast, so that the same evaluation gives the same bytes.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64

from fgpipe.metrics.calibration import ReliabilityBin
from fgpipe.metrics.scoring import MAX_VALUES
from fgpipe.records import (
    SPLITS,
    Comparison,
    Evaluation,
    Manifest,
    ModelScores,
    Protocol,
    Score,
    TrainedModel,
)
from fgpipe.report.data_uris import data_uri, thumbnail_uri
from fgpipe.report.mistakes import confused_pairs, worst_mistakes
from fgpipe.report.pictures import (
    confusion_picture,
    curves_picture,
    intervals_picture,
    reliability_picture,
)
from fgpipe.report.templates import render

N_PAIRS, N_EXAMPLES, N_WORST = 6, 4, 12
"""Confused pairs shown, examples of each, and worst mistakes."""

MAX_TABLE = 16
"""Above this many classes the confusion matrix is not repeated as a table."""

SHARES = {
    "top1": ("Top-1", "share of images whose most probable label is right"),
    "macro_recall": ("Macro recall", "mean over labels of the share that is right"),
    "coarse_accuracy": ("Parent label", "share whose most probable parent label is right"),
}
"""Headline figures that are shares: title and meaning."""

LOSSES = {
    "calibration_error": ("Calibration error", "mean gap between probability and being right"),
    "log_loss": ("Log loss", "mean surprise at the right label, in nats"),
}
"""Headline figures where less is better."""

PROTOCOLS: dict[Protocol, str] = {
    "stable": "images of one group are in one split only",
    "given": "splits as the data came with them, and images of one group in one split only",
    "fold": "one fold of a cross-validation by group: for comparison, never promoted",
    "random": "a split that ignores groups: for comparison with published figures, never promoted",
}
"""What a protocol means."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The test split and what the candidate said about it, one entry an image."""

    paths: tuple[str, ...]
    """Relative to the folder of raw data."""
    targets: Int64[np.ndarray, " images"]
    """True classes."""
    probabilities: Float64[np.ndarray, "images classes"]
    """As served."""
    reliability: tuple[ReliabilityBin, ...]
    """What the probabilities promise and keep."""
    confidence_level: float
    """Share of resamples inside an interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of the headline table."""

    title: str
    meaning: str
    candidate: Score
    champion: Score | None
    difference: Score | None
    percent: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One image with what it is and what it was taken for."""

    path: str
    picture: str
    actual: str
    given: str
    probability: float
    """Of the label given."""
    right: float
    """Of the true label."""


def render_report(
    evaluation: Evaluation,
    *,
    trained: TrainedModel,
    manifest: Manifest,
    outcome: Outcome,
    raw: Path,
) -> str:
    """The whole page.

    Args:
        evaluation: Figures of candidate and champion.
        trained: The candidate.
        manifest: The data.
        outcome: The test split.
        raw: Folder of the images.

    Raises:
        DataError: If an image that is shown does not decode.
    """
    rows = _rows(evaluation.candidate, evaluation.comparison)
    confusion = np.array(evaluation.confusion, dtype=np.int64)
    examples = Examples(outcome, labels=trained.labels, raw=raw)
    given = outcome.probabilities.argmax(axis=1)
    return render(
        "report.html.j2",
        evaluation=evaluation,
        trained=trained,
        manifest=manifest,
        level=outcome.confidence_level,
        protocol=PROTOCOLS[evaluation.protocol],
        splits=SPLITS,
        rows=rows,
        pictures=_pictures(evaluation, trained=trained, rows=rows, outcome=outcome),
        confusion=confusion.tolist() if len(trained.labels) <= MAX_TABLE else None,
        pairs=[
            (pair, [examples.of(row) for row in pair.rows])
            for pair in confused_pairs(
                outcome.probabilities, outcome.targets, n_pairs=N_PAIRS, n_rows=N_EXAMPLES
            )
        ],
        worst=[
            examples.of(row)
            for row in worst_mistakes(outcome.probabilities, outcome.targets, n_rows=N_WORST)
        ],
        n_wrong=int(np.sum(given != outcome.targets)),
        reliability=outcome.reliability,
        max_values=MAX_VALUES,
    )


class Examples:
    """Makes examples of test images, each picture once."""

    def __init__(self, outcome: Outcome, *, labels: tuple[str, ...], raw: Path) -> None:
        self._outcome = outcome
        self._labels = labels
        self._thumbnail = cache(lambda path: thumbnail_uri(raw / path))

    def of(self, row: int) -> Example:
        """The example of one row of the test split."""
        probabilities = self._outcome.probabilities[row]
        target = int(self._outcome.targets[row])
        path = self._outcome.paths[row]
        return Example(
            path=path,
            picture=self._thumbnail(path),
            actual=self._labels[target],
            given=self._labels[int(probabilities.argmax())],
            probability=float(probabilities.max()),
            right=float(probabilities[target]),
        )


def _rows(candidate: ModelScores, comparison: Comparison | None) -> list[Row]:
    rows = []
    for name, (title, meaning) in (SHARES | LOSSES).items():
        if name in candidate.headline:
            rows.append(
                Row(
                    title=title,
                    meaning=meaning,
                    candidate=candidate.headline[name],
                    champion=comparison.champion.headline[name] if comparison else None,
                    difference=getattr(comparison, name, None),
                    percent=name in SHARES,
                )
            )
    return rows


def _pictures(
    evaluation: Evaluation, *, trained: TrainedModel, rows: list[Row], outcome: Outcome
) -> dict[str, str]:
    champion = f"champion v{evaluation.comparison.version}" if evaluation.comparison else ""
    svgs = {
        "intervals": intervals_picture(
            [(row.title, row.candidate, row.champion) for row in rows if row.percent],
            champion=champion,
        ),
        "confusion": confusion_picture(
            np.array(evaluation.confusion, dtype=np.int64), labels=trained.labels
        ),
        "reliability": reliability_picture(outcome.reliability),
        "curves": curves_picture(trained.curves, best_epoch=trained.best_epoch),
    }
    return {name: data_uri(svg, mime_type="image/svg+xml") for name, svg in svgs.items()}
