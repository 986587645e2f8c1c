"""How often a model is right: over images, over classes, and at the parents' level.

Every function takes one row an image. A class is an integer from 0; *predictions* are the
classes given. Intervals are elsewhere (:mod:`fgpipe.metrics.headline`).
"""

import numpy as np
from jaxtyping import Float64, Int64

from fgpipe.metrics.confusion import confusion_matrix


def top1(predictions: Int64[np.ndarray, " images"], targets: Int64[np.ndarray, " images"]) -> float:
    """Share of the images whose class is given right."""
    assert len(targets) > 0, "no images"
    return float(np.mean(predictions == targets))


def macro_recall(
    predictions: Int64[np.ndarray, " images"], targets: Int64[np.ndarray, " images"]
) -> float:
    """Mean over classes of the share of their images that is given right.

    A rare class weighs as much as a frequent one. Classes without an image among
    ``targets`` do not count.
    """
    assert len(targets) > 0, "no images"
    n_classes = 1 + int(max(predictions.max(), targets.max()))
    matrix = confusion_matrix(predictions, targets, n_classes=n_classes)
    n_images = matrix.sum(axis=1)
    present = n_images > 0
    return float(np.mean(np.diagonal(matrix)[present] / n_images[present]))


def parent_probabilities(
    probabilities: Float64[np.ndarray, "images classes"], *, parents: Int64[np.ndarray, " classes"]
) -> Float64[np.ndarray, "images parents"]:
    """Probability of each parent: the sum of its classes'.

    The coarse answer is the most probable parent, which need not be the parent of the
    most probable class.

    Args:
        probabilities: Rows sum to 1.
        parents: The parent of each class, an integer from 0.
    """
    members = np.zeros((len(parents), int(parents.max()) + 1))
    members[np.arange(len(parents)), parents] = 1
    return np.asarray(np.einsum("ic,cp->ip", probabilities, members))


def coarse_accuracy(
    probabilities: Float64[np.ndarray, "images classes"],
    targets: Int64[np.ndarray, " images"],
    *,
    parents: Int64[np.ndarray, " classes"],
) -> float:
    """Share of the images whose most probable parent is right.

    Args:
        probabilities: Rows sum to 1.
        targets: The true class of each image.
        parents: The parent of each class, an integer from 0.
    """
    given = parent_probabilities(probabilities, parents=parents).argmax(axis=1)
    return top1(given, parents[targets])
