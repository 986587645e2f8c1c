"""Pairs of images of which one is made from the other.

::

    perceptual hashes within a few bits -+
                                         +-> candidates -> tiny pictures -> pixels
    nearest rows of the embedder --------+

Each step is dearer and stricter than the one before; only the last confirms. Look-alike
classes give candidates by the thousand, and none of them may be taken for a copy: wrong
pairs chain images into groups that no split can part.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int64, UInt8, UInt64
from tqdm import tqdm

from fgpipe.images.files import ImageMeasures
from fgpipe.images.grey_thumbnails import grey_thumbnails
from fgpipe.images.near_duplicates import RADIUS_BITS, pairs_within
from fgpipe.images.neighbours import evened_out, nearest, unique_pairs
from fgpipe.images.perceptual_hash import mirrored_hash, perceptual_hashes
from fgpipe.images.registration import (
    FINE_PX,
    FINEST_PX,
    MIN_WINDOW_CORRELATION,
    Fit,
    Placement,
    WindowSearch,
    registered_similarity,
)
from fgpipe.nn.embedder import TINY_PX, Embedder, Looks

Kind = Literal["copy", "flip", "crop"]

N_NEAREST = 32
"""At least so many neighbours of an image are looked at: crops of photos are among them."""

MAX_NEAREST = 96
"""And so many where that is cheap: of crops of solar cells all are among them, of 32 nine
tenths."""

CHEAP_PAIRS = 1_600_000
"""Half of what 100,000 images have at least."""

MIRRORED_RADIUS_BITS = 7
"""Radius around a mirrored hash, which is known only roughly; it counts without embedder."""

MIN_TINY_SIMILARITY = 0.975
"""What tiny pictures must reach before files are decoded: of copies, flips and crops 997 in
1,000 do, of pairs of solar cells that got so far an eighth."""

MIN_SIMILARITY = 0.998
"""Pairs are confirmed from here on. Of the demo's 2,624 solar cells, which look alike as few
things do, two come above it, 2369 and 2370, neighbours in one module with the same flaws in the
same places; the next pair comes to 0.9978."""

DOUBTFUL_SIMILARITY = 0.99
"""Pairs that come so near are compared once more, with more pixels."""

MIN_FINEST_SIMILARITY = 0.9985
"""What those must reach: one in twenty crops of solar cells is confirmed only then, and no
two cells, of which the nearest come to 0.9982."""

_PAIRS_AT_ONCE = 1024
_IMAGES_AT_ONCE = 32
_NO_BETTER = 0.99

Hashes = UInt64[np.ndarray, " images"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NearPair:
    """Two images of which one is made from the other."""

    i: int
    """Position of the one."""
    j: int
    """Position of the other, larger."""
    kind: Kind
    """``flip`` if one is mirrored, be it cut as well, else ``crop`` if one is a part."""
    similarity: float
    """In pixels, once they are brought to cover each other: 1 for the same picture."""


def near_pairs(
    root: Path,
    *,
    paths: Sequence[str],
    measures: Sequence[ImageMeasures],
    n_known: int,
    embedder: Embedder | None,
) -> list[NearPair]:
    """Every pair of images that is confirmed in pixels, with ``j >= n_known``.

    Found are copies in another encoding, size or brightness, mirrored or not, and, with an
    embedder, crops that keep 80 to 100 % of each side.

    Args:
        root: Where the files are.
        paths: Their paths below it.
        measures: What is known of each.
        n_known: So many images, the first ones, are not compared among themselves.
        embedder: Finds crops, and mirrored images more surely than hashes do.

    Returns:
        Pairs by position, sorted.

    Raises:
        DataError: If a file that has to be looked at does not decode to its end.

    Cost: with an embedder, after embedding 100,000 images, about 50 s on two cores, in which
    6,000 pairs are compared in pixels: 2 ms each, and the decoding of their files.
    """
    looks = None
    if embedder is not None and len(paths) > n_known:
        looks = embedder.look(
            root,
            paths,
            sha256s=[each.sha256 for each in measures],
            description=f"looking at {len(paths):,} images",
        )
    phashes = np.array([int(each.phash, 16) for each in measures], dtype=np.uint64)
    pairs = candidates(phashes, looks=looks, n_known=n_known)
    involved, positions = np.unique(pairs, return_inverse=True)
    names = [paths[i] for i in involved]
    tiny = _tiny(root, names) if looks is None else looks.tiny[involved]
    fits = refined(tiny, window_fits(tiny, positions.reshape(pairs.shape)))
    found = []
    for fit in _confirmed(root, names, fits):
        i, j = sorted((int(involved[fit.whole]), int(involved[fit.part])))
        found.append(NearPair(i=i, j=j, kind=_kind(fit.placement), similarity=fit.correlation))
    return sorted(found, key=lambda pair: (pair.i, pair.j))


def candidates(
    phashes: Hashes, *, looks: Looks | None, n_known: int
) -> Int64[np.ndarray, "pairs 2"]:
    """Pairs worth a look, each once, with ``i < j`` and ``j >= n_known``."""
    found = [_hash_pairs(phashes, phashes, radius_bits=RADIUS_BITS, n_known=n_known)]
    if looks is None:
        mirrored = np.where(phashes == 0, 0, mirrored_hash(phashes))
        radius_bits = MIRRORED_RADIUS_BITS
        found.append(_hash_pairs(phashes, mirrored, radius_bits=radius_bits, n_known=n_known))
    else:
        rows = evened_out(looks.rows)
        upright = perceptual_hashes(looks.tiny)
        mirrored = perceptual_hashes(looks.tiny[:, :, ::-1])
        found.append(_hash_pairs(upright, mirrored, radius_bits=RADIUS_BITS, n_known=n_known))
        n_nearest = min(MAX_NEAREST, max(N_NEAREST, CHEAP_PAIRS // max(1, len(rows) - n_known)))
        found.append(nearest(rows, n_known=n_known, n_nearest=n_nearest))
    return unique_pairs(found)


def _hash_pairs(
    hashes: Hashes, others: Hashes, *, radius_bits: int, n_known: int
) -> Int64[np.ndarray, "pairs 2"]:
    """Pairs of images of which a hash of the one is near a hash of the other."""
    # Flat images all share hash 0 and are never confirmed.
    (left,), (right,) = np.nonzero(hashes), np.nonzero(others)
    if hashes is others:
        n_left_known = int(np.searchsorted(left, n_known))
        pairs = pairs_within(hashes[left], radius_bits=radius_bits, n_known=n_left_known)
        same: Int64[np.ndarray, "pairs 2"] = left[pairs]
        return same
    both = np.concatenate([hashes[left], others[right]])
    pairs = pairs_within(both, radius_bits=radius_bits, n_known=len(left))
    pairs = pairs[pairs[:, 0] < len(left)]
    found = np.stack([left[pairs[:, 0]], right[pairs[:, 1] - len(left)]], axis=1)
    found.sort(axis=1)
    wanted: Int64[np.ndarray, "pairs 2"] = found[
        (found[:, 0] < found[:, 1]) & (found[:, 1] >= n_known)
    ]
    return wanted


def window_fits(
    tiny: UInt8[np.ndarray, "images side side"], pairs: Int64[np.ndarray, "pairs 2"]
) -> list[Fit]:
    """Of each pair the better way round, where that is good enough."""
    if not len(pairs):
        return []
    search = WindowSearch(tiny)
    pairs = pairs[search.roughly_alike(pairs)]
    # Each pair both ways round, by the image that windows are taken of.
    wholes, parts = np.concatenate([pairs, pairs[:, ::-1]]).T
    order = np.argsort(wholes, kind="stable")
    wholes, parts = wholes[order], parts[order]
    starts = np.searchsorted(wholes, np.arange(len(tiny) + 1))

    involved = np.unique(wholes)

    def some(start: int) -> list[Fit]:
        chosen = involved[start : start + _IMAGES_AT_ONCE].tolist()
        others = [parts[starts[whole] : starts[whole + 1]] for whole in chosen]
        return search.fitting(chosen, others, min_correlation=MIN_WINDOW_CORRELATION)

    best: dict[tuple[int, int], Fit] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for fits in pool.map(some, range(0, len(involved), _IMAGES_AT_ONCE)):
            for fit in fits:
                key = (min(fit.whole, fit.part), max(fit.whole, fit.part))
                if key not in best or fit.correlation > best[key].correlation:
                    best[key] = fit
    return [best[key] for key in sorted(best)]


def refined(tiny: UInt8[np.ndarray, "images side side"], fits: Sequence[Fit]) -> list[Fit]:
    """The fits that stay good when the tiny pictures cover each other, better placed."""

    def one(fit: Fit) -> Fit | None:
        similarity, placement = registered_similarity(
            tiny[fit.whole], tiny[fit.part], fit.placement, enough=_NO_BETTER
        )
        return fit._replace(placement=placement) if similarity >= MIN_TINY_SIMILARITY else None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return [fit for fit in pool.map(one, fits) if fit is not None]


def _confirmed(root: Path, names: Sequence[str], fits: Sequence[Fit]) -> list[Fit]:
    """The fits that hold in pixels; those in doubt in more of them, from the place found."""
    compared = list(_registered(root, names, fits, side_px=FINE_PX, enough=MIN_SIMILARITY))
    doubtful = [fit for fit in compared if DOUBTFUL_SIMILARITY <= fit.correlation < MIN_SIMILARITY]
    again = _registered(root, names, doubtful, side_px=FINEST_PX, enough=MIN_FINEST_SIMILARITY)
    return [
        *(fit for fit in compared if fit.correlation >= MIN_SIMILARITY),
        *(fit for fit in again if fit.correlation >= MIN_FINEST_SIMILARITY),
    ]


def _registered(
    root: Path, names: Sequence[str], fits: Sequence[Fit], *, side_px: int, enough: float
) -> Iterator[Fit]:
    """The fits with their similarity in pixels and a better place, some pairs at a time."""

    def one(fit: Fit) -> Fit:
        similarity, placement = registered_similarity(
            fine[at[fit.whole]], fine[at[fit.part]], fit.placement, enough=enough
        )
        return fit._replace(correlation=similarity, placement=placement)

    description = f"comparing {len(fits):,} pairs in {side_px} x {side_px} pixels"
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(total=len(fits), desc=description, unit="pair", disable=None) as bar,
    ):
        for start in range(0, len(fits), _PAIRS_AT_ONCE):
            chunk = fits[start : start + _PAIRS_AT_ONCE]
            needed = sorted({each for fit in chunk for each in (fit.whole, fit.part)})
            at = {each: position for position, each in enumerate(needed)}
            fine = grey_thumbnails(root, [names[each] for each in needed], side_px=side_px)
            for result in pool.map(one, chunk):
                bar.update()
                yield result


def _tiny(root: Path, names: Sequence[str]) -> UInt8[np.ndarray, "images side side"]:
    """What the embedder would have kept, but for its resampling."""
    found = np.empty((len(names), TINY_PX, TINY_PX), dtype=np.uint8)
    for start in range(0, len(names), _PAIRS_AT_ONCE):
        chunk = slice(start, start + _PAIRS_AT_ONCE)
        found[chunk] = grey_thumbnails(root, names[chunk], side_px=TINY_PX)
    return found


def _kind(placement: Placement) -> Kind:
    if placement.mirrored:
        return "flip"
    return "copy" if placement.is_whole else "crop"
