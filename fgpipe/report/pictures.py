"""The report's charts, as SVG in the same bytes for the same numbers.

Text stays text, so that a reader's own fonts show labels in any script; labels are never
read as formulas. Colours are of Okabe and Ito's palette, told apart by colour-blind
readers too, and series also differ by their markers.
"""

import io
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager

import numpy as np
from jaxtyping import Int64
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from fgpipe.metrics.calibration import ReliabilityBin
from fgpipe.records import EpochFigures, Score

BLUE, ORANGE, GREEN, INK, MUTED = "#0072b2", "#d55e00", "#009e73", "#1f2933", "#616e7c"


MAX_LABELLED = 60
"""Above this many classes the confusion matrix has no names along its sides."""
MAX_COUNTED = 16
"""Above this many classes its cells have no numbers."""
MAX_METHOD = 60
"""Longest name of a method beside its interval."""


def confusion_picture(
    confusion: Int64[np.ndarray, "classes classes"], *, labels: Sequence[str]
) -> bytes:
    """The confusion matrix: cells coloured by the share of their row, with counts.

    Args:
        confusion: Rows the true class, columns the given one.
        labels: The classes' names.
    """
    n = len(labels)
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    side = min(max(1.35 * n, 4.5), 12)
    with _styled():
        figure = Figure(figsize=(side + 2.2, side + 0.6), layout="constrained")
        axes = figure.add_subplot()
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.grid(visible=False)
        axes.set_xlabel("given label")
        axes.set_ylabel("true label")
        if n <= MAX_LABELLED:
            names = [_shortened(label) for label in labels]
            turn = {"rotation": 35, "ha": "right"} if n <= 8 else {"rotation": 90}
            axes.set_xticks(range(n), names, parse_math=False, **turn)
            axes.set_yticks(range(n), names, parse_math=False)
        if n <= MAX_COUNTED:
            for row, column in np.ndindex(n, n):
                share, count = shares[row, column], confusion[row, column]
                ink = "white" if share > 0.55 else INK
                axes.text(
                    column,
                    row,
                    f"{count}\n{share:.0%}" if count else "0",
                    ha="center",
                    va="center",
                    fontsize=11 if n <= 8 else 8,
                    color=ink if count else MUTED,
                )
        bar = figure.colorbar(image, ax=axes, shrink=0.7, format=PercentFormatter(1))
        bar.set_label("share of the true label's images")
        bar.outline.set_visible(False)
        return _svg(figure)


def reliability_picture(curve: Sequence[ReliabilityBin]) -> bytes:
    """How often the model is right at each probability, over how many images."""
    centres = [(entry.low + entry.high) / 2 for entry in curve]
    widths = [0.92 * (entry.high - entry.low) for entry in curve]
    with _styled():
        figure = Figure(figsize=(6, 5.6))
        margins = {"left": 0.13, "right": 0.96, "bottom": 0.1, "top": 0.98, "hspace": 0.08}
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1), gridspec_kw=margins)
        top.plot([0, 1], [0, 1], color=MUTED, linestyle="--", linewidth=1.2, label="perfect")
        top.plot(
            [entry.confidence for entry in curve],
            [entry.accuracy for entry in curve],
            color=BLUE,
            marker="o",
            label="served model",
        )
        top.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="share that is right")
        top.legend(loc="upper left")
        bottom.bar(centres, [entry.n_images for entry in curve], width=widths, color=BLUE)
        bottom.set(xlabel="probability of the label given", ylabel="images")
        bottom.yaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))
        for axes in (top, bottom):
            axes.xaxis.set_major_formatter(PercentFormatter(1))
        top.yaxis.set_major_formatter(PercentFormatter(1))
        return _svg(figure)


def curves_picture(curves: Sequence[EpochFigures], *, best_epoch: int) -> bytes:
    """Losses and validation figures over the epochs, the kept one marked."""
    epochs = [entry.epoch for entry in curves]
    with _styled():
        figure = Figure(figsize=(10, 3.8))
        margins = {"left": 0.06, "right": 0.98, "bottom": 0.14, "top": 0.92, "wspace": 0.18}
        left, right = figure.subplots(1, 2, gridspec_kw=margins)
        left.set_title("Loss")
        left.plot(
            epochs,
            [entry.train_loss for entry in curves],
            color=ORANGE,
            marker="s",
            label="train (with label smoothing)",
        )
        left.plot(
            epochs,
            [entry.validation_loss for entry in curves],
            color=BLUE,
            marker="o",
            label="validation",
        )
        right.set_title("Right on validation")
        shares: tuple[tuple[str, list[float | None], str, str], ...] = (
            ("top-1", [entry.validation_top1 for entry in curves], BLUE, "o"),
            ("macro recall", [entry.validation_macro_recall for entry in curves], ORANGE, "s"),
            ("parent", [entry.validation_coarse_accuracy for entry in curves], GREEN, "^"),
        )
        for name, values, colour, marker in shares:
            if None not in values:
                right.plot(epochs, values, color=colour, marker=marker, label=name)
        right.yaxis.set_major_formatter(PercentFormatter(1))
        for axes in (left, right):
            axes.axvline(best_epoch, color=MUTED, linestyle=":", label="kept epoch")
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.legend(fontsize=9)
        return _svg(figure)


def intervals_picture(
    figures: Sequence[tuple[str, Score, Score | None]], *, champion: str
) -> bytes:
    """Candidate and champion side by side, each with its interval.

    Args:
        figures: Name, candidate's figure and champion's, if there is one.
        champion: What the champion is called.
    """
    with _styled():
        figure = Figure(figsize=(8.5, 0.8 + 0.75 * len(figures)), layout="constrained")
        axes = figure.add_subplot()
        has_champion = any(score is not None for _, _, score in figures)
        for position, (_, candidate, other) in enumerate(figures):
            offset = 0.14 if has_champion else 0.0
            _interval(axes, candidate, y=position - offset, colour=BLUE, marker="o")
            if other is not None:
                _interval(axes, other, y=position + offset, colour=ORANGE, marker="s")
        axes.plot([], [], color=BLUE, marker="o", label="candidate")
        if has_champion:
            axes.plot([], [], color=ORANGE, marker="s", label=champion)
            axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        axes.set_yticks(range(len(figures)), [name for name, _, _ in figures], parse_math=False)
        axes.set_ylim(len(figures) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.grid(visible=False, axis="y")
        return _svg(figure)


def repeats_picture(
    rows: Sequence[tuple[str, Sequence[float], tuple[float, float] | None]],
    *,
    reference: float | None,
) -> bytes:
    """Methods below each other: each repeat, their mean, and its interval where there is one.

    Args:
        rows: Name, repeats (at least one) and interval.
        reference: A line to compare with, if any: the baseline's mean.
    """
    with _styled():
        figure = Figure(figsize=(9, 0.9 + 0.42 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        if reference is not None:
            axes.axvline(reference, color=MUTED, linestyle="--", linewidth=1.2)
        for y, (_, values, ends) in enumerate(rows):
            if ends is not None:
                axes.plot(ends, [y, y], color=BLUE, solid_capstyle="round", linewidth=3)
            axes.plot(values, [y] * len(values), "|", color=ORANGE, markersize=11)
            axes.plot([float(np.mean(values))], [y], color=BLUE, marker="o", markersize=8)
        names = [_shortened(name, limit=MAX_METHOD) for name, _, _ in rows]
        axes.set_yticks(range(len(rows)), names, parse_math=False)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.grid(visible=False, axis="y")
        return _svg(figure)


def _styled() -> AbstractContextManager[None]:
    """The look of all charts; it holds until the figure is saved."""
    return rc_context(
        {
            "svg.hashsalt": "fgpipe",
            "svg.fonttype": "none",
            "font.family": "sans-serif",
            "font.sans-serif": ["DejaVu Sans", "Arial", "sans-serif"],
            "font.size": 11,
            "text.color": INK,
            "axes.labelcolor": INK,
            "axes.edgecolor": "#cbd2d9",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 12,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "#e4e7eb",
            "xtick.color": INK,
            "ytick.color": INK,
            "legend.frameon": False,
            "lines.linewidth": 2,
        }
    )


def _interval(axes: Axes, score: Score, *, y: float, colour: str, marker: str) -> None:
    axes.plot([score.low, score.high], [y, y], color=colour, solid_capstyle="round", linewidth=3)
    axes.plot([score.value], [y], color=colour, marker=marker, markersize=9)


def _shortened(label: str, *, limit: int = 24) -> str:
    return label if len(label) <= limit else label[: limit - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _svg(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # Only matplotlib's own font lacks them; the reader's browser draws the text.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()
