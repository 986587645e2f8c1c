"""The figures a model is judged by, each with its interval; and two models' difference."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from fgpipe.metrics.accuracy import parent_probabilities
from fgpipe.metrics.bootstrap import MIN_GROUPS, Figure, bootstrap
from fgpipe.metrics.figures import (
    Groups,
    calibration_error_figure,
    log_loss_figure,
    macro_recall_figure,
    mean_figure,
)
from fgpipe.records import Score

Probabilities = Float64[np.ndarray, "images classes"]
Targets = Int64[np.ndarray, " images"]
Parents = Int64[np.ndarray, " classes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """One model's headline figures on one set of images."""

    top1: Score
    macro_recall: Score
    coarse_accuracy: Score | None
    """None where the data name no parents."""
    calibration_error: Score
    log_loss: Score


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadlineDifference:
    """Candidate minus champion: above 0 the candidate is better."""

    top1: Score
    macro_recall: Score
    coarse_accuracy: Score | None
    """None where the data name no parents."""


def headline(
    probabilities: Probabilities,
    targets: Targets,
    groups: Groups,
    parents: Parents | None,
    *,
    n_bins: int,
    n_bootstrap: int,
    confidence_level: float,
    seed: int,
) -> Headline:
    """A model's headline figures with intervals that resample groups.

    Args:
        probabilities: Rows sum to 1.
        targets: The true class of each image.
        groups: The group of each image, as any integers.
        parents: The parent of each class, an integer from 0; None if there are none.
        n_bins: Bins of the calibration error.
        n_bootstrap: Resamples behind each interval.
        confidence_level: Share of the resamples inside an interval.
        seed: Of the resampling.

    Raises:
        DataError: If the images are of fewer than two groups.
    """
    codes, n_groups = _codes(groups)
    figures = {
        **_accuracy_figures(probabilities, targets, groups=codes, parents=parents),
        "calibration_error": calibration_error_figure(
            probabilities, targets, groups=codes, n_bins=n_bins
        ),
        "log_loss": log_loss_figure(probabilities, targets, groups=codes),
    }
    scores = bootstrap(
        figures,
        n_groups=n_groups,
        n_bootstrap=n_bootstrap,
        confidence_level=confidence_level,
        seed=seed,
    )
    return Headline(
        top1=scores["top1"],
        macro_recall=scores["macro_recall"],
        coarse_accuracy=scores.get("coarse_accuracy"),
        calibration_error=scores["calibration_error"],
        log_loss=scores["log_loss"],
    )


def difference(
    candidate_probabilities: Probabilities,
    champion_probabilities: Probabilities,
    targets: Targets,
    groups: Groups,
    parents: Parents | None,
    *,
    n_bootstrap: int,
    confidence_level: float,
    seed: int,
) -> HeadlineDifference:
    """Candidate minus champion, both on the same images and the same resamples of them.

    Pairing takes out what makes some groups harder than others for both.

    Args:
        candidate_probabilities: Rows sum to 1.
        champion_probabilities: Rows sum to 1, columns the same classes.
        targets: The true class of each image.
        groups: The group of each image, as any integers.
        parents: The parent of each class, an integer from 0; None if there are none.
        n_bootstrap: Resamples behind each interval.
        confidence_level: Share of the resamples inside an interval.
        seed: Of the resampling.

    Raises:
        DataError: If the images are of fewer than two groups.
    """
    codes, n_groups = _codes(groups)
    candidate = _accuracy_figures(candidate_probabilities, targets, groups=codes, parents=parents)
    champion = _accuracy_figures(champion_probabilities, targets, groups=codes, parents=parents)
    scores = bootstrap(
        {name: _minus(figure, champion[name]) for name, figure in candidate.items()},
        n_groups=n_groups,
        n_bootstrap=n_bootstrap,
        confidence_level=confidence_level,
        seed=seed,
    )
    return HeadlineDifference(
        top1=scores["top1"],
        macro_recall=scores["macro_recall"],
        coarse_accuracy=scores.get("coarse_accuracy"),
    )


def proportion(
    values: Float64[np.ndarray, " images"],
    groups: Groups,
    *,
    n_bootstrap: int,
    confidence_level: float,
    seed: int,
) -> Score:
    """The mean of values between 0 and 1, with its interval: for slices of the images.

    Args:
        values: For instance 1 where an image is right, 0 where not.
        groups: The group of each image, as any integers.
        n_bootstrap: Resamples behind the interval.
        confidence_level: Share of the resamples inside it.
        seed: Of the resampling.

    Returns:
        The mean. Where all images are of one group, which tells nothing of another
        group, the interval is all of 0 to 1.
    """
    assert len(values) > 0, "no images"
    codes, n_groups = _codes(groups)
    if n_groups < MIN_GROUPS:
        return Score(value=float(np.mean(values)), low=0.0, high=1.0)
    scores = bootstrap(
        {"mean": mean_figure(values, groups=codes)},
        n_groups=n_groups,
        n_bootstrap=n_bootstrap,
        confidence_level=confidence_level,
        seed=seed,
    )
    return scores["mean"]


def _codes(groups: Groups) -> tuple[Groups, int]:
    """Groups as integers from 0 without gaps, and how many there are."""
    names, codes = np.unique(groups, return_inverse=True)
    return codes.astype(np.int64), len(names)


def _accuracy_figures(
    probabilities: Probabilities, targets: Targets, *, groups: Groups, parents: Parents | None
) -> dict[str, Figure]:
    """The figures that two models are compared by."""
    predictions = probabilities.argmax(axis=1)
    figures = {
        "top1": mean_figure((predictions == targets).astype(np.float64), groups=groups),
        "macro_recall": macro_recall_figure(predictions, targets, groups=groups),
    }
    if parents is not None:
        given = parent_probabilities(probabilities, parents=parents).argmax(axis=1)
        right = (given == parents[targets]).astype(np.float64)
        figures["coarse_accuracy"] = mean_figure(right, groups=groups)
    return figures


def _minus(candidate: Figure, champion: Figure) -> Figure:
    return lambda weights: candidate(weights) - champion(weights)
