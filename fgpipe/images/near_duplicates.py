"""Which images may show the same picture, by their hashes, and what hangs together.

Hashes within a few bits of each other name candidates. Look-alike objects, which this
project is about, often share a hash; only pixels tell them from copies
(:mod:`fgpipe.images.registration`).
"""

from collections.abc import Iterable
from typing import TypeVar

import numpy as np
from jaxtyping import Int64, UInt64

from fgpipe.images.neighbours import unique_pairs

RADIUS_BITS = 3
"""Hashes that differ in at most so many of their 64 bits are candidates."""

T = TypeVar("T")


def pairs_within(
    hashes: UInt64[np.ndarray, " n"], *, radius_bits: int = RADIUS_BITS, n_known: int = 0
) -> Int64[np.ndarray, "pairs 2"]:
    """Every pair of hashes that differ in at most so many bits.

    Exact: of more bands than ``radius_bits`` at least one is equal in such a pair, so it
    is enough to compare hashes that share a band.

    Args:
        hashes: One 64-bit hash an image.
        radius_bits: At most 7.
        n_known: Pairs among the first so many are left out.

    Returns:
        Positions ``(i, j)`` with ``i < j``, sorted.

    Cost: for uniform hashes ``n**2 / 32768`` comparisons up to a radius of 3, beyond it
    ``n**2 / 64``; hashes that cluster cost more.

    Source: Norouzi, Punjani and Fleet, "Fast Search in Hamming Space with Multi-Index
    Hashing" (2012), with radius below the number of bands, where no neighbouring buckets
    need a visit.
    """
    n_bands = 4 if radius_bits < 4 else 8
    assert radius_bits < n_bands, radius_bits
    band_bits = 64 // n_bands
    found = []
    for band in range(n_bands):
        keys = (hashes >> np.uint64(band * band_bits)) & np.uint64(2**band_bits - 1)
        found += _pairs_in_buckets(hashes, keys, radius_bits=radius_bits, n_known=n_known)
    return unique_pairs(found)


def _pairs_in_buckets(
    hashes: UInt64[np.ndarray, " n"],
    keys: UInt64[np.ndarray, " n"],
    *,
    radius_bits: int,
    n_known: int,
) -> list[Int64[np.ndarray, "pairs 2"]]:
    """Close pairs among equal keys: after sorting, each with its 1st, 2nd, ... successor."""
    order = np.argsort(keys, kind="stable")  # stable, so that the first of a pair stays first
    keys, hashes = keys[order], hashes[order]
    first = np.arange(len(keys))
    found = []
    for distance in range(1, len(keys)):
        first = first[first + distance < len(keys)]
        first = first[keys[first] == keys[first + distance]]
        if not len(first):
            break
        wanted = first[order[first + distance] >= n_known]
        bits = np.bitwise_count(hashes[wanted] ^ hashes[wanted + distance])
        close = wanted[bits <= radius_bits]
        found.append(np.stack([order[close], order[close + distance]], axis=1))
    return found


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
