"""What labels say of a backbone that has not been trained on them.

Training images are what is known, validation is what is asked. Neighbours take no training,
so each epoch is looked at with them; logistic regression is nearer to what a head can do
with the backbone, so it is the judge in the end.
"""

import warnings
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32, Int64
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from fgpipe.images.batches import Pixels, Rows
from fgpipe.metrics.accuracy import top1
from fgpipe.metrics.nearest_neighbours import nearest_neighbour_classes, unit_rows
from fgpipe.metrics.spread import effective_rank
from fgpipe.pretraining.encoder import Encoder, embed
from fgpipe.records import PretrainingFigures, Probed

MAX_KNOWN = 10_000
"""Training images that are known in the end; of more a sample is."""

MAX_KNOWN_EACH_EPOCH = 1_000
"""Of them, after each epoch: an image takes as long as a quarter of its training."""

INVERSE_PENALTIES = (0.001, 0.01, 0.1, 1.0)
"""Of the logistic regression: scikit-learn's ``C``."""

MAX_ROUNDS = 300
"""Of the logistic regression's optimiser; both of two are cut short there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Images to look at a backbone with."""

    pixels: Pixels
    """All images, memory-mapped."""
    targets: Int64[np.ndarray, " images"]
    """The class of each."""
    n_classes: int
    """How many there are."""
    known: Rows
    """Rows of training images."""
    asked: Rows
    """Rows of validation images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """What a backbone makes of them."""

    known: Float32[np.ndarray, "known channels"]
    """Of the training images."""
    asked: Float32[np.ndarray, "asked channels"]
    """Of the validation images."""


def with_fewer_known(probe: Probe, *, at_most: int, seed: int) -> Probe:
    """The same with a sample of the training images, in their order."""
    if len(probe.known) <= at_most:
        return probe
    chosen = np.random.default_rng(seed).choice(probe.known, at_most, replace=False)
    return replace(probe, known=np.sort(chosen))


def look(encoder: Encoder, probe: Probe, *, precision: str) -> Embedded:
    """Embed a probe's images, the encoder set to evaluation."""
    return Embedded(
        known=embed(encoder, probe.pixels, rows=probe.known, precision=precision),
        asked=embed(encoder, probe.pixels, rows=probe.asked, precision=precision),
    )


def epoch_figures(
    embedded: Embedded,
    probe: Probe,
    *,
    epoch: int,
    loss: float | None = None,
    spread: float | None = None,
) -> PretrainingFigures:
    """One row of the curves."""
    return PretrainingFigures(
        epoch=epoch,
        loss=loss,
        spread=spread,
        effective_rank=effective_rank(embedded.known),
        neighbour_accuracy=neighbour_accuracy(embedded, probe),
    )


def probed(embedded: Embedded, probe: Probe) -> Probed:
    """Both accuracies."""
    return Probed(
        neighbour_accuracy=neighbour_accuracy(embedded, probe),
        linear_accuracy=linear_accuracy(embedded, probe),
    )


def neighbour_accuracy(embedded: Embedded, probe: Probe) -> float:
    """Share of the images asked whose nearest known images give them their class."""
    classes = nearest_neighbour_classes(
        embedded.asked,
        known=embedded.known,
        targets=probe.targets[probe.known],
        n_classes=probe.n_classes,
    )
    return top1(classes, probe.targets[probe.asked])


def linear_accuracy(embedded: Embedded, probe: Probe) -> float:
    """Share of the images asked that logistic regression on the known ones gives their class.

    Rows have length 1, less their mean, and one scale for all channels: a channel that is
    hardly ever on, divided by its own deviation, drowns the others (on 492 solar cells that
    costs 2 to 4 points). Of four penalties the one that does best counts, for what suits
    depends on the number of images.

    Cost: some seconds for 2,000 images of 2 classes, minutes for 10,000 of 200.
    """
    classes_known = probe.targets[probe.known]
    if len(np.unique(classes_known)) == 1:  # which is the answer to everything
        return float(np.mean(probe.targets[probe.asked] == classes_known[0]))
    known, asked = unit_rows(embedded.known), unit_rows(embedded.asked)
    centre = known.mean(axis=0)
    scale = max(float((known - centre).std()), 1e-6)
    known, asked = (known - centre) / scale, (asked - centre) / scale
    accuracies = []
    for inverse_penalty in INVERSE_PENALTIES:
        regression = LogisticRegression(C=inverse_penalty, max_iter=MAX_ROUNDS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            regression.fit(known, classes_known)
        classes = regression.predict(asked).astype(np.int64)
        accuracies.append(top1(classes, probe.targets[probe.asked]))
    return max(accuracies)
