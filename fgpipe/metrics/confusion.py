"""Which class is taken for which, and what that makes of each class."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from fgpipe.records import ClassScores


def confusion_matrix(
    predictions: Int64[np.ndarray, " images"],
    targets: Int64[np.ndarray, " images"],
    *,
    n_classes: int,
) -> Int64[np.ndarray, "n_classes n_classes"]:
    """How many images of each class (row) are given each class (column)."""
    cells = np.bincount(targets * n_classes + predictions, minlength=n_classes**2)
    return cells.astype(np.int64).reshape(n_classes, n_classes)


def per_class(
    confusion: Int64[np.ndarray, "n_classes n_classes"], *, labels: Sequence[str]
) -> tuple[ClassScores, ...]:
    """Recall, precision and F1 of each class.

    Each is 0 where it is a share of nothing: recall of a class without images, precision
    of a class that is never given.

    Args:
        confusion: Rows the true class, columns the given one.
        labels: The classes' names, in their order.
    """
    right = np.diagonal(confusion)
    n_images = confusion.sum(axis=1)
    n_given = confusion.sum(axis=0)
    return tuple(
        ClassScores(
            label=label,
            n_images=int(n_images[index]),
            recall=_share(right[index], n_images[index]),
            precision=_share(right[index], n_given[index]),
            f1=_share(2 * right[index], n_images[index] + n_given[index]),
        )
        for index, label in enumerate(labels)
    )


def _share(part: np.int64, whole: np.int64) -> float:
    return float(part / whole) if whole else 0.0
