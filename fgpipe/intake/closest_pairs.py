"""The most alike images of different classes."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int64, Shaped, UInt64
from threadpoolctl import threadpool_limits

N_PAIRS = 36
"""Most pairs that are given."""

N_PAIRS_OF_CLASSES = 6
"""Most pairs of any two classes among them."""

_ROWS_AT_ONCE = 128

Targets = Int64[np.ndarray, " images"]

_Likeness = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""How alike some images are with others: a row each, a column an other, more is more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApartPair:
    """Two images of different classes."""

    i: int
    """Position of the one."""
    j: int
    """Position of the other, larger."""
    distance: float
    """How far apart: 1 minus the cosine, or differing bits."""


class _Pair(NamedTuple):
    i: int
    j: int
    likeness: float


def closest_by_embedding(
    rows: Float32[np.ndarray, "images features"], targets: Targets
) -> list[ApartPair]:
    """The closest pairs by cosine.

    Args:
        rows: Of unit length.
        targets: Their classes.

    Cost: every row times every other, a block of rows of results in memory for each thread:
    100,000 rows of 192 features 30 s on two cores, twice as many four times as long.
    """
    pairs = _closest(
        rows, targets, likeness=lambda some, others: some @ others.T, least=np.float32(-np.inf)
    )
    return [ApartPair(i=pair.i, j=pair.j, distance=1 - pair.likeness) for pair in pairs]


def closest_by_hash(hashes: UInt64[np.ndarray, " images"], targets: Targets) -> list[ApartPair]:
    """The closest pairs by differing bits of their perceptual hashes.

    Args:
        hashes: 64 bits each; 0 is that of a flat image, which is close to nothing.
        targets: Their classes.
    """
    pairs = _closest(hashes, targets, likeness=_equal_bits, least=np.uint8(0))
    return [ApartPair(i=pair.i, j=pair.j, distance=64 - pair.likeness) for pair in pairs]


def _equal_bits(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    bits = np.bitwise_count(~some[:, np.newaxis] ^ others)
    bits[some == 0] = 0
    bits[:, others == 0] = 0
    return np.asarray(bits)


def _closest(
    values: Shaped[np.ndarray, "images ..."],
    targets: Targets,
    *,
    likeness: _Likeness,
    least: np.generic,
) -> list[_Pair]:
    """Of each image's closest one of another class the closest, each image once."""
    chosen: list[_Pair] = []
    seen: set[int] = set()
    of_classes: Counter[tuple[int, ...]] = Counter()
    for pair in _ranked(values, targets, likeness=likeness, least=least):
        classes = tuple(sorted((int(targets[pair.i]), int(targets[pair.j]))))
        if {pair.i, pair.j} & seen or of_classes[classes] == N_PAIRS_OF_CLASSES:
            continue
        seen |= {pair.i, pair.j}
        of_classes[classes] += 1
        chosen.append(pair)
        if len(chosen) == N_PAIRS:
            break
    return chosen


def _ranked(
    values: Shaped[np.ndarray, "images ..."],
    targets: Targets,
    *,
    likeness: _Likeness,
    least: np.generic,
) -> Iterator[_Pair]:
    """Each image with its closest one of another class, the most alike first.

    Args:
        values: What likeness is told by.
        targets: Their classes.
        likeness: Of blocks of values.
        least: The likeness of images that are no pair.
    """
    # Sorted, the class that an image is not compared with is a slice.
    order = np.argsort(targets, kind="stable")
    values, classes = values[order], targets[order]
    first = np.searchsorted(classes, classes, side="left")
    end = np.searchsorted(classes, classes, side="right")

    def some(start: int) -> tuple[np.ndarray, np.ndarray]:
        own = slice(start, start + _ROWS_AT_ONCE)
        found = likeness(values[own], values)
        for row, (low, high) in enumerate(zip(first[own], end[own], strict=True)):
            found[row, low:high] = least
        others = found.argmax(axis=1)
        return others, found[np.arange(len(found)), others]

    # A thread a block, and in it one thread a multiplication: see label_errors.
    with threadpool_limits(1), ThreadPoolExecutor(os.cpu_count()) as pool:
        parts = list(pool.map(some, range(0, len(values), _ROWS_AT_ONCE)))
    if not parts:
        return
    others, found = (np.concatenate(part) for part in zip(*parts, strict=True))
    pairs = np.sort(np.stack([order, order[others]]), axis=0)
    for row in np.lexsort((pairs[1], pairs[0], -found.astype(np.float64).round(6))).tolist():
        if found[row] > least:
            yield _Pair(int(pairs[0, row]), int(pairs[1, row]), float(found[row]))
