"""All figures of a model on a set of images, as the record keeps them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from fgpipe.metrics.accuracy import parent_probabilities
from fgpipe.metrics.confusion import confusion_matrix, per_class
from fgpipe.metrics.headline import HeadlineDifference, difference, headline, proportion
from fgpipe.records import ModelScores, Score, SliceScores

MAX_VALUES = 50
"""An attribute with more values than this (a date, a serial number) makes no slices."""

Probabilities = Float64[np.ndarray, "images classes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledImages:
    """What is known of the images that a model is tested on, one entry an image."""

    targets: Int64[np.ndarray, " images"]
    """True classes."""
    groups: Int64[np.ndarray, " images"]
    """Groups, as integers."""
    attributes: Mapping[str, Sequence[str]]
    """Values of each attribute, for slices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scorer:
    """How models are scored: the same for candidate and champion."""

    labels: tuple[str, ...]
    """Names of the classes, in the order of the columns."""
    parents: Int64[np.ndarray, " classes"] | None
    """The parent of each class, an integer from 0; None if there are none."""
    n_bins: int
    """Bins of the calibration error."""
    n_bootstrap: int
    """Resamples of the groups behind each interval."""
    confidence_level: float
    """Share of the resamples inside an interval."""
    seed: int
    """Of the resampling."""

    def score(
        self, probabilities: Probabilities, images: LabelledImages, *, train_sha256: str
    ) -> ModelScores:
        """Headline figures, figures of each class and of each slice.

        Args:
            probabilities: Rows sum to 1.
            images: The images they are about.
            train_sha256: The model's training record.

        Raises:
            DataError: If the images are of fewer than two groups.
        """
        predictions = probabilities.argmax(axis=1)
        confusion = confusion_matrix(predictions, images.targets, n_classes=len(self.labels))
        head = headline(
            probabilities,
            images.targets,
            images.groups,
            self.parents,
            n_bins=self.n_bins,
            n_bootstrap=self.n_bootstrap,
            confidence_level=self.confidence_level,
            seed=self.seed,
        )
        return ModelScores(
            train_sha256=train_sha256,
            n_images=len(images.targets),
            n_groups=len(np.unique(images.groups)),
            top1=head.top1,
            macro_recall=head.macro_recall,
            coarse_accuracy=head.coarse_accuracy,
            calibration_error=head.calibration_error,
            log_loss=head.log_loss,
            per_class=per_class(confusion, labels=self.labels),
            slices=self._slices(probabilities, images),
        )

    def difference(
        self, candidate: Probabilities, champion: Probabilities, images: LabelledImages
    ) -> HeadlineDifference:
        """Candidate minus champion, both on the same images and the same resamples.

        Raises:
            DataError: If the images are of fewer than two groups.
        """
        return difference(
            candidate,
            champion,
            images.targets,
            images.groups,
            self.parents,
            n_bootstrap=self.n_bootstrap,
            confidence_level=self.confidence_level,
            seed=self.seed,
        )

    def mean(
        self, values: Float64[np.ndarray, " images"], groups: Int64[np.ndarray, " images"]
    ) -> Score:
        """The mean of values from 0 to 1, one an image, at least one; groups as integers."""
        return proportion(
            values,
            groups,
            n_bootstrap=self.n_bootstrap,
            confidence_level=self.confidence_level,
            seed=self.seed,
        )

    def _slices(
        self, probabilities: Probabilities, images: LabelledImages
    ) -> tuple[SliceScores, ...]:
        """Figures of each value of each attribute that has not too many, sorted by both."""
        right = probabilities.argmax(axis=1) == images.targets
        coarse_right = None
        if self.parents is not None:
            given = parent_probabilities(probabilities, parents=self.parents).argmax(axis=1)
            coarse_right = given == self.parents[images.targets]
        slices = []
        for attribute, values in sorted(images.attributes.items()):
            names = sorted(set(values))
            for name in names if len(names) <= MAX_VALUES else ():
                inside = np.array([value == name for value in values])
                groups = images.groups[inside]
                slices.append(
                    SliceScores(
                        attribute=attribute,
                        value=name,
                        n_images=int(inside.sum()),
                        top1=self.mean(right[inside].astype(np.float64), groups),
                        coarse_accuracy=None
                        if coarse_right is None
                        else self.mean(coarse_right[inside].astype(np.float64), groups),
                    )
                )
        return tuple(slices)
