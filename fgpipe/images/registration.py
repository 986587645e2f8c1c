"""Is one image made from the other: cut out of it, mirrored, scaled, brightened?

In two steps. :class:`WindowSearch` compares a tiny picture of the one with hundreds of
windows of a tiny picture of the other, thousands of pairs a second, and says which window
fits best. :func:`registered_similarity` starts from there, moves the window by fractions
of a pixel until the two cover each other, and compares them in pixels: only after that
does a copy stand out from a look-alike, whose correlation can be 0.99 as well.

Source of the alignment: Evangelidis and Psarakis, "Parametric Image Alignment Using
Enhanced Correlation Coefficient Maximization" (2008), as in OpenCV.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8

WINDOW_SIDES = ((1.0, 1), (0.95, 4), (0.9, 7), (0.85, 9))
"""Sides of windows as a fraction of the image's, each with its number of positions."""

MIN_WINDOW_CORRELATION = 0.935
"""Of copies, flips and crops of photos and textures 98 in 100 lie above, of pairs of solar
cells that are near each other a seventh."""

FINE_PX = 96
"""Side at which images are compared in pixels."""

FINEST_PX = 160
"""Side at which they are once more where that left doubt; too fine to start from."""

COARSE_PX = 8
"""Side at which windows are compared."""

_MAX_SIDE_DIFFERENCE = 0.06
_BLUR_PX = 2.0
"""What resampling makes of the finest detail is no difference between two images."""
_BORDER_PX = 3
_CLIPPED = 252
_MIN_SEEN_FRACTION = 0.3
_HOPELESS = 0.7
_MIN_ROUGH = 0.25
_FLAT = 0.1
_PAIRS_AT_ONCE = 65536
_ITERATIONS = 5


Picture = Float32[np.ndarray, "side side"]
Affine = Float32[np.ndarray, "2 3"]


class Placement(NamedTuple):
    """How the right image lies in the left one."""

    top: float
    """Where its upper edge lies, as a fraction of the left one's height."""
    left: float
    """Where its left edge lies, as a fraction of the left one's width."""
    height: float
    """Its height as a fraction of the left one's."""
    width: float
    """Its width as a fraction of the left one's."""
    mirrored: bool
    """Whether it has to be mirrored first."""

    @property
    def is_inside(self) -> bool:
        """Whether it is a window of at least 80 % of each side, give or take 3 % of it."""
        edges = (self.top, self.left, 1 - self.top - self.height, 1 - self.left - self.width)
        return min(edges) >= -0.03 and min(self.height, self.width) >= 0.77

    @property
    def is_whole(self) -> bool:
        """Whether it is the left one's whole picture, give or take 2.5 % of a side."""
        edges = (self.top, self.left, 1 - self.top - self.height, 1 - self.left - self.width)
        return max(abs(edge) for edge in edges) <= 0.025


class Fit(NamedTuple):
    """Where one image may lie in another."""

    whole: int
    """Position of the image it may lie in."""
    part: int
    """Its own position."""
    correlation: float
    """Of the two pictures, if it does."""
    placement: Placement
    """Where."""


class WindowSearch:
    """Finds in tiny pictures the window of one that another one looks like."""

    def __init__(self, tiny: UInt8[np.ndarray, "images side side"]) -> None:
        self._tiny = tiny
        side_px = tiny.shape[1]
        intervals = [
            (float(start), side)
            for side, n_positions in WINDOW_SIDES
            for start in np.linspace(0, 1 - side, n_positions)
        ]
        self._sampling = np.concatenate(
            [_sampling(start, side, side_px=side_px) for start, side in intervals]
        )
        alike = [
            (a, b)
            for a, (_, height) in enumerate(intervals)
            for b, (_, width) in enumerate(intervals)
            if abs(height - width) < _MAX_SIDE_DIFFERENCE
        ]
        self._rows, self._columns = np.array(alike).T
        self._placed = [
            (intervals[a][0], intervals[b][0], intervals[a][1], intervals[b][1]) for a, b in alike
        ]
        whole = _sampling(0.0, 1.0, side_px=side_px)
        self._whole = np.empty((len(tiny), COARSE_PX**2), dtype=np.float32)
        for start in range(0, len(tiny), 4096):
            part = tiny[start : start + 4096].astype(np.float32)
            coarse = (whole @ part @ whole.T).reshape(len(part), -1)
            self._whole[start : start + 4096] = _standardised(coarse)
        self._mirror = np.arange(COARSE_PX**2).reshape(COARSE_PX, COARSE_PX)[:, ::-1].ravel()

    def roughly_alike(self, pairs: Int64[np.ndarray, "pairs 2"]) -> Bool[np.ndarray, " pairs"]:
        """Which pairs are worth :meth:`fitting`: a crop still looks a little like the whole."""
        alike = np.empty(len(pairs), dtype=np.bool_)
        for start in range(0, len(pairs), _PAIRS_AT_ONCE):
            chunk = pairs[start : start + _PAIRS_AT_ONCE]
            left, right = self._whole[chunk[:, 0]], self._whole[chunk[:, 1]]
            upright = np.einsum("pc,pc->p", left, right)
            mirrored = np.einsum("pc,pc->p", left, right[:, self._mirror])
            alike[start : start + len(chunk)] = np.maximum(upright, mirrored) >= _MIN_ROUGH
        return alike

    def fitting(
        self,
        wholes: Sequence[int],
        others: Sequence[Int64[np.ndarray, " _"]],
        *,
        min_correlation: float,
    ) -> list[Fit]:
        """Which images fit into which others, how well, and where best.

        Args:
            wholes: Positions of the images that windows are taken of; a few dozen at once
                take half the time that they take one by one.
            others: For each of them positions of the images that may fit into it.
            min_correlation: How well they must fit, -1 to 1.

        Cost: 0.1 ms each, and 0.005 ms for each of the others.
        """
        found = []
        for whole, chosen, (windows, scale) in zip(
            wholes, others, self._windows(wholes), strict=True
        ):
            pictures = self._whole[chosen]
            upright = _product(pictures, windows.T) * scale
            mirrored = _product(pictures[:, self._mirror], windows.T) * scale
            best = np.maximum(upright.max(axis=1), mirrored.max(axis=1))
            for k in np.flatnonzero(best >= min_correlation).tolist():
                is_mirrored = bool(mirrored[k].max() > upright[k].max())
                window = int((mirrored if is_mirrored else upright)[k].argmax())
                place = Placement(*self._placed[window], mirrored=is_mirrored)
                found.append(Fit(whole, int(chosen[k]), float(best[k]), place))
        return found

    def _windows(
        self, wholes: Sequence[int]
    ) -> Iterator[tuple[Float32[np.ndarray, "windows pixels"], Float32[np.ndarray, " windows"]]]:
        """For each image its windows, and what makes products with them correlations.

        The pictures they are multiplied with have mean 0, so that theirs need not.
        """
        n = len(self._sampling) // COARSE_PX
        tiny = self._tiny[np.asarray(wholes)].astype(np.float32)
        tiny -= tiny.mean(axis=(1, 2), keepdims=True)
        sampled = _product(self._sampling @ tiny, self._sampling.T)
        by_window = sampled.reshape(-1, n, COARSE_PX, n, COARSE_PX).swapaxes(2, 3)
        windows = by_window[:, self._rows, self._columns]
        windows = windows.reshape(len(tiny), -1, COARSE_PX**2)
        squares = np.einsum("nwp,nwp->nw", windows, windows)
        squares -= windows.sum(axis=2) ** 2 / COARSE_PX**2
        scale = np.where(squares > _FLAT, 1 / np.sqrt(np.maximum(squares, _FLAT)), 0)
        return zip(windows, scale.astype(np.float32), strict=True)


def registered_similarity(
    left: UInt8[np.ndarray, "side side"],
    right: UInt8[np.ndarray, "side side"],
    placement: Placement,
    *,
    enough: float,
) -> tuple[float, Placement]:
    """How alike two pictures are once the right one lies where it fits best in the left one.

    The correlation, which brightness and contrast leave alone; where one of them is
    clipped, after the other has been brightened and clipped like it.

    Args:
        left: Grey, squashed.
        right: Grey, squashed.
        placement: Where to start from.
        enough: A similarity from which on no better place is looked for.

    Returns:
        The similarity, 0 to 1, and the place. A flat picture is like none.

    Cost: 0.5 ms if the start is good or hopeless, else 3 ms.
    """
    side_px = left.shape[0]
    whole = left.astype(np.float32)
    part = right.astype(np.float32)
    if placement.mirrored:
        part = np.ascontiguousarray(part[:, ::-1])
    move = _as_affine(placement, side_px=side_px)
    similarity = _similarity(whole, part, move)
    if similarity >= enough or similarity < _HOPELESS:
        return similarity, placement
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, _ITERATIONS, 1e-4)
    try:
        _, move = cv2.findTransformECC(part, whole, move, cv2.MOTION_AFFINE, criteria, None, 5)
    except cv2.error:  # it wandered off: the images have nothing in common
        return similarity, placement
    moved = _as_placement(move, side_px=side_px, mirrored=placement.mirrored)
    if not moved.is_inside:
        return similarity, placement
    return max(similarity, _similarity(whole, part, move)), moved


def _similarity(whole: Picture, part: Picture, move: Affine) -> float:
    side_px = whole.shape[0]
    cut = cv2.warpAffine(
        whole,
        move,
        (side_px, side_px),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    correlation = _blurred_correlation(cut, part)
    if _HOPELESS <= correlation < 1:
        for one, other in ((cut, part), (part, cut)):
            if (other >= _CLIPPED).mean() > (one >= _CLIPPED).mean():
                brightened = _brightened_like(one, other)
                correlation = max(correlation, _blurred_correlation(brightened, other))
    return correlation


def _blurred_correlation(one: Picture, other: Picture) -> float:
    inner = slice(_BORDER_PX, -_BORDER_PX)
    a, b = (cv2.GaussianBlur(each, (0, 0), _BLUR_PX)[inner, inner] for each in (one, other))
    a, b = (_standardised(each.reshape(1, -1))[0] for each in (a, b))
    return float(a @ b)


def _brightened_like(one: Picture, other: Picture) -> Picture:
    """Brightness and contrast as in the other, white where that makes more than white.

    Only what the other has not clipped says how much brighter it is. What it has clipped
    must be bright in the one as well, or the two stay apart: a mask over it would hide a
    white mark that only one of them has.
    """
    seen = other < _CLIPPED
    if seen.mean() < _MIN_SEEN_FRACTION:
        return one
    x, y = one[seen], other[seen]
    variance = float(x.var())
    gain = float(np.mean((x - x.mean()) * (y - y.mean()))) / variance if variance > 0 else 1.0
    brightened: Picture = np.clip((one - x.mean()) * gain + y.mean(), 0, 255)
    return brightened


def _product(
    a: Float32[np.ndarray, "*stack rows inner"], b: Float32[np.ndarray, "inner columns"]
) -> Float32[np.ndarray, "*stack rows columns"]:
    """The matrix product, on this thread.

    NumPy's OpenBLAS shares a product of more than 2**18 multiplications out over threads
    of its own, which get into the way of those that call this: several times as slow.
    """
    n_columns = max(1, 2**18 // (a.shape[-2] * a.shape[-1]))
    parts = [a @ b[:, start : start + n_columns] for start in range(0, b.shape[1], n_columns)]
    return np.concatenate(parts, axis=-1)


def _sampling(start: float, side: float, *, side_px: int) -> Float32[np.ndarray, "coarse side"]:
    """Weights that sample an interval of a line of pixels, each sample from its surroundings."""
    at = start + (np.arange(COARSE_PX) + 0.5) / COARSE_PX * side
    pixels = (np.arange(side_px) + 0.5) / side_px
    distance = np.abs(at[:, None] - pixels[None, :]) * COARSE_PX / side
    weights = np.maximum(0.0, 1.0 - distance)
    sampling: Float32[np.ndarray, "coarse side"] = (
        weights / weights.sum(axis=1, keepdims=True)
    ).astype(np.float32)
    return sampling


def _standardised(rows: Float32[np.ndarray, "rows pixels"]) -> Float32[np.ndarray, "rows pixels"]:
    """Mean 0 and unit length; 0 where a row is flat."""
    centred = rows - rows.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    unit: Float32[np.ndarray, "rows pixels"] = centred / np.where(norms > 1e-3, norms, np.inf)
    return unit


def _as_affine(placement: Placement, *, side_px: int) -> Float32[np.ndarray, "2 3"]:
    """From a pixel of the right image to one of the left, both counted from their centres."""
    rows = [
        (size, (start * side_px + 0.5 * size - 0.5))
        for start, size in (
            (placement.left, placement.width),
            (placement.top, placement.height),
        )
    ]
    (width, x), (height, y) = rows
    return np.array([[width, 0, x], [0, height, y]], dtype=np.float32)


def _as_placement(move: Float32[np.ndarray, "2 3"], *, side_px: int, mirrored: bool) -> Placement:
    width, height = float(move[0, 0]), float(move[1, 1])
    return Placement(
        top=(float(move[1, 2]) + 0.5 - 0.5 * height) / side_px,
        left=(float(move[0, 2]) + 0.5 - 0.5 * width) / side_px,
        height=height,
        width=width,
        mirrored=mirrored,
    )
