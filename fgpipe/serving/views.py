"""Test-time augmentation: the same image seen in several ways, and the mean of the answers.

Evaluation and the service both do it, so that what is measured is what is served. Each view
costs as much as the image itself.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32, UInt8

from fgpipe.records import TestTimeViews

Batch = UInt8[np.ndarray, "batch size size 3"]
View = Callable[[Batch], Batch]


def _as_it_is(batch: Batch) -> Batch:
    return batch


def _mirrored(batch: Batch) -> Batch:
    return batch[:, :, ::-1]


def _upside_down(batch: Batch) -> Batch:
    return batch[:, ::-1]


def _turned_round(batch: Batch) -> Batch:
    return batch[:, ::-1, ::-1]


def _transposed(view: View) -> View:
    return lambda batch: view(batch.transpose(0, 2, 1, 3))


_FLIPS: tuple[View, ...] = (_as_it_is, _mirrored, _upside_down, _turned_round)

VIEWS: dict[TestTimeViews, tuple[View, ...]] = {
    "one": (_as_it_is,),
    "mirror": (_as_it_is, _mirrored),
    "flips": _FLIPS,
    "square": (*_FLIPS, *(_transposed(view) for view in _FLIPS)),
}
"""What is done to a batch of images, by name: along the width; along both axes; all eight
symmetries of the square."""


def mean_of_views(
    values: list[Float32[np.ndarray, "batch values"]],
) -> Float32[np.ndarray, "batch values"]:
    """The mean of what the views gave, summed in their order: equal bytes for equal views."""
    if len(values) == 1:
        return values[0]
    mean: Float32[np.ndarray, "batch values"] = np.stack(values).mean(axis=0, dtype=np.float64)
    return mean.astype(np.float32)
