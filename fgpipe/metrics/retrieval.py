"""How well embeddings find other images of a class, which is what search by image needs.

Every image asks once, and all images of other groups are what may be found: a neighbour
from the same object or series is found by any embedding and says nothing of the next one.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64

from fgpipe.metrics.nearest_neighbours import ROWS_AT_ONCE, unit_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What each image that asked was given."""

    asked: Int64[np.ndarray, " asked"]
    """Rows of the images with another of their class outside their group; others ask nothing."""
    first: Float64[np.ndarray, " asked"]
    """1 where the nearest image is of the class, else 0."""
    map_at_r: Float64[np.ndarray, " asked"]
    """From 0 to 1; 1 where all others of the class are nearer than any other image."""


def find_class(
    rows: Float32[np.ndarray, "images features"],
    *,
    targets: Int64[np.ndarray, " images"],
    groups: Int64[np.ndarray, " images"],
) -> Found:
    """Rank, for each image, those of other groups by the cosine of their embeddings.

    Args:
        rows: Embeddings; a row of zeros is as near to one image as to any other.
        targets: The class of each.
        groups: The group of each.

    Cost: ``images**2 * features`` multiplications, and a sort for each image.

    Source: Musgrave, Belongie and Lim, "A Metric Learning Reality Check": with R others
    of the class, the precisions after each hit among the first R, summed and divided by R.
    Differs in that an image's own group is left out, and not the image alone.
    """
    units = unit_rows(rows)
    asked, first, map_at_r = [], [], []
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        outside = groups[part, None] != groups[None]
        relevant = outside & (targets[part, None] == targets[None])
        n_relevant = relevant.sum(axis=1)
        (asking,) = np.nonzero(n_relevant)
        if not len(asking):
            continue
        similarities = np.where(outside, units[part] @ units.T, -np.inf)[asking]
        n_relevant = n_relevant[asking]
        nearest = np.argsort(-similarities, axis=1, kind="stable")[:, : n_relevant.max()]
        hits = np.take_along_axis(relevant[asking], nearest, axis=1)
        ranks = np.arange(1, hits.shape[1] + 1)
        precisions = np.where(hits & (ranks <= n_relevant[:, None]), hits.cumsum(axis=1) / ranks, 0)
        asked.append(start + asking)
        first.append(hits[:, 0].astype(np.float64))
        map_at_r.append(precisions.sum(axis=1) / n_relevant)
    return Found(
        asked=np.concatenate([np.zeros(0, dtype=np.int64), *asked]),
        first=np.concatenate([np.zeros(0), *first]),
        map_at_r=np.concatenate([np.zeros(0), *map_at_r]),
    )
