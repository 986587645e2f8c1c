"""Images that show the same picture, encoded or resized another way.

Two steps: perceptual hashes within a few bits of each other name candidates, and pixels
confirm them. Look-alike objects, which this project is about, often share a hash; only
pixels tell them from copies.
"""

from collections.abc import Iterable
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8, UInt64

RADIUS_BITS = 3
"""Hashes that differ in at most so many of their 64 bits are candidates."""

MIN_CORRELATION = 0.9985
"""Candidates are confirmed from here on. Among all pairs of the demo's 2,624 solar cells,
which look alike as few things do, none correlates above 0.9978; of copies encoded as JPEG
at quality 50, or halved or doubled in size, 99 in 100 do at 0.9985."""

_N_BANDS = 4
_BAND_BITS = 16

T = TypeVar("T")


def pairs_within(hashes: UInt64[np.ndarray, " n"]) -> Int64[np.ndarray, "pairs 2"]:
    """Every pair of hashes that differ in at most :data:`RADIUS_BITS` bits.

    Exact: of four bands of 16 bits at least one is equal in such a pair, so it is enough
    to compare hashes that share a band.

    Args:
        hashes: One 64-bit hash an image.

    Returns:
        Positions ``(i, j)`` with ``i < j``, sorted.

    Cost: for uniform hashes ``n**2 / 16384`` comparisons; hashes that cluster cost more.

    Source: Norouzi, Punjani and Fleet, "Fast Search in Hamming Space with Multi-Index
    Hashing" (2012), with radius below the number of bands, where no neighbouring buckets
    need a visit.
    """
    assert RADIUS_BITS < _N_BANDS
    found = [np.empty((0, 2), dtype=np.int64)]
    for band in range(_N_BANDS):
        keys = (hashes >> np.uint64(band * _BAND_BITS)) & np.uint64(2**_BAND_BITS - 1)
        found.append(_pairs_in_buckets(hashes, keys))
    return np.unique(np.concatenate(found), axis=0)


def _pairs_in_buckets(
    hashes: UInt64[np.ndarray, " n"], keys: UInt64[np.ndarray, " n"]
) -> Int64[np.ndarray, "pairs 2"]:
    """Close pairs among equal keys: after sorting, each with its 1st, 2nd, ... successor."""
    order = np.argsort(keys, kind="stable")  # stable, so that the first of a pair stays first
    keys, hashes = keys[order], hashes[order]
    first = np.arange(len(keys))
    found = [np.empty((0, 2), dtype=np.int64)]
    for distance in range(1, len(keys)):
        first = first[first + distance < len(keys)]
        first = first[keys[first] == keys[first + distance]]
        if not len(first):
            break
        bits = np.bitwise_count(hashes[first] ^ hashes[first + distance])
        close = first[bits <= RADIUS_BITS]
        found.append(np.stack([order[close], order[close + distance]], axis=1))
    return np.concatenate(found)


def confirmed(
    left: UInt8[np.ndarray, "pairs height width"],
    right: UInt8[np.ndarray, "pairs height width"],
) -> Bool[np.ndarray, " pairs"]:
    """Which pairs of thumbnails show the same picture.

    Args:
        left: Grey thumbnails.
        right: The other one of each pair.

    Returns:
        True where the correlation is at least :data:`MIN_CORRELATION`; a flat image,
        which correlates with nothing, is never confirmed.
    """
    a, b = (_standardised(side) for side in (left, right))
    correlation: Float32[np.ndarray, " pairs"] = np.einsum("phw,phw->p", a, b)
    return correlation >= MIN_CORRELATION


def _standardised(
    images: UInt8[np.ndarray, "pairs height width"],
) -> Float32[np.ndarray, "pairs height width"]:
    pixels = images.astype(np.float32)
    centred = pixels - pixels.mean(axis=(1, 2), keepdims=True)
    norm = np.sqrt(np.square(centred).sum(axis=(1, 2), keepdims=True))
    unit: Float32[np.ndarray, "pairs height width"] = centred / np.where(norm > 0, norm, 1)
    return unit


def joined(items: Iterable[T], links: Iterable[tuple[T, T]]) -> dict[T, T]:
    """Which items hang together, directly or through others.

    Args:
        items: All of them.
        links: Pairs that belong together.

    Returns:
        For each item one item that stands for all it hangs together with.
    """
    parent = {item: item for item in items}

    def root(item: T) -> T:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for one, other in links:
        parent[root(one)] = root(other)
    return {item: root(item) for item in parent}
