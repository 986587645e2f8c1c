"""The most alike images of different classes, among all there are."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64, UInt64

N_PAIRS = 36
"""Most pairs that are given."""

N_PAIRS_OF_CLASSES = 6
"""Most pairs of any two classes among them."""

_ROWS_AT_ONCE = 128

Targets = Int64[np.ndarray, " images"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApartPair:
    """Two images of different classes."""

    i: int
    """Position of the one."""
    j: int
    """Position of the other, larger."""
    distance: float
    """How far apart: 1 minus the cosine, or differing bits."""


def closest_by_embedding(
    rows: Float32[np.ndarray, "images features"], targets: Targets
) -> list[ApartPair]:
    """The closest pairs by cosine.

    Args:
        rows: Of unit length.
        targets: Their classes.

    Cost: every row times every other, a block of rows of results in memory: 20,000 rows
    of 192 features 3 s on one core, twice as many four times as long.
    """

    def blocks() -> Iterator[np.ndarray]:
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            cosines = rows[start : start + _ROWS_AT_ONCE] @ rows.T
            yield np.subtract(1, cosines, out=cosines)

    return _closest(blocks(), targets)


def closest_by_hash(hashes: UInt64[np.ndarray, " images"], targets: Targets) -> list[ApartPair]:
    """The closest pairs by differing bits of their perceptual hashes.

    Args:
        hashes: 64 bits each; 0 is that of a flat image, which is close to nothing.
        targets: Their classes.
    """

    def blocks() -> Iterator[np.ndarray]:
        for start in range(0, len(hashes), _ROWS_AT_ONCE):
            part = hashes[start : start + _ROWS_AT_ONCE]
            bits = np.bitwise_count(part[:, np.newaxis] ^ hashes).astype(np.float32)
            bits[part == 0] = np.inf
            bits[:, hashes == 0] = np.inf
            yield bits

    return _closest(blocks(), targets)


def _closest(blocks: Iterator[np.ndarray], targets: Targets) -> list[ApartPair]:
    """Of each image's closest one of another class the closest, each image once."""
    found: dict[tuple[int, int], float] = {}
    classes_of = targets.astype(np.int32)
    start = 0
    for distances in blocks:
        own = range(start, start + len(distances))
        alike = classes_of[own.start : own.stop, np.newaxis] == classes_of
        np.copyto(distances, np.inf, where=alike)
        others = distances.argmin(axis=1)
        least = distances[np.arange(len(own)), others].tolist()
        for i, j, distance in zip(own, others.tolist(), least, strict=True):
            if distance < np.inf:
                found[min(i, j), max(i, j)] = distance
        start = own.stop
    chosen: list[ApartPair] = []
    seen: set[int] = set()
    of_classes: Counter[tuple[int, ...]] = Counter()
    for (i, j), distance in sorted(found.items(), key=lambda item: (round(item[1], 6), item[0])):
        classes = tuple(sorted((int(targets[i]), int(targets[j]))))
        if {i, j} & seen or of_classes[classes] == N_PAIRS_OF_CLASSES:
            continue
        seen |= {i, j}
        of_classes[classes] += 1
        chosen.append(ApartPair(i=i, j=j, distance=distance))
        if len(chosen) == N_PAIRS:
            break
    return chosen
