"""The page of what validation found: verdicts, offenders, counts, spreads, drift.

It refers to nothing outside itself and needs no script, and says nothing of when or how
fast: the same data give the same bytes. What is shown is bounded whatever the data.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float64

from fgpipe.errors import DataError
from fgpipe.images.quarantine_file import KINDS, QuarantinedImage
from fgpipe.records import SPLITS, DriftFigure, ExpectationResult, Verdict
from fgpipe.report.data_uris import thumbnail_uri
from fgpipe.report.templates import render

MAX_PICTURES = 12
"""Most pictures of an expectation, or of a kind of quarantined images."""

MAX_OF_A_CLASS = 4
"""Most pictures of one class or group."""

MAX_CLASSES = 200
"""Most classes whose counts are shown, the smallest first."""

PICTURE_PX = 112

N_BARS = 40

SPREADS = {
    "width_px": "Width, px",
    "height_px": "Height, px",
    "brightness": "Brightness: mean grey value",
    "contrast": "Contrast: standard deviation of grey values",
    "sharpness": "Sharpness: blurred images are at the left",
}
"""Measures whose distribution is shown, and what is said of each."""

ORDER: tuple[Verdict, ...] = ("refuse", "warn", "pass")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataReport:
    """What validation found."""

    verdict: Verdict
    """Of the data as a whole."""
    results: tuple[ExpectationResult, ...]
    """Every expectation looked at."""
    drift: tuple[DriftFigure, ...]
    """One entry a feature."""
    drift_note: str
    """What the data were compared with, or why with nothing."""
    quarantined: tuple[QuarantinedImage, ...]
    """Images that came in and cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One image."""

    path: str
    """Relative to the raw data."""
    note: str
    """Said below it."""
    uri: str | None
    """None where it does not decode."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassBar:
    """One class's images by split."""

    label: str
    n_images: int
    by_split: tuple[tuple[str, int, float], ...]
    """Split, images, percent of the largest class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """One measure's histogram."""

    title: str
    bars: tuple[float, ...]
    """Heights in percent of the highest."""
    low: str
    middle: str
    high: str


def render_data_report(report: DataReport, *, table: pd.DataFrame, raw: Path) -> str:
    """The page.

    Args:
        report: What was found.
        table: The manifest's; where a column is missing, counts and pictures are left out.
        raw: Where the images are.
    """
    is_whole = all(result.passed for result in report.results if result.name == "columns")
    failed = sorted(
        (result for result in report.results if not result.passed),
        key=lambda result: ORDER.index(result.verdict),
    )
    kinds = [(kind, [q for q in report.quarantined if q.kind == kind]) for kind in KINDS]
    return render(
        "validation.html.j2",
        report=report,
        n_images=len(table),
        failed=[(result, _offenders(result, table, raw=raw, show=is_whole)) for result in failed],
        passed=[result for result in report.results if result.passed],
        classes=_classes(table) if is_whole else (),
        n_classes=int(table["label"].nunique()) if is_whole else 0,
        splits=SPLITS,
        spreads=_spreads(table) if is_whole else (),
        quarantine=[(kind, len(q), _quarantined(q, raw=raw)) for kind, q in kinds if q],
    )


def _offenders(
    result: ExpectationResult, table: pd.DataFrame, *, raw: Path, show: bool
) -> list[Picture]:
    """Pictures of the images that an expectation's failing rows are or hold."""
    column = {"images": "path", "classes": "label", "groups": "group"}.get(result.table)
    if column is None or not show or not result.offenders:
        return []
    offenders = list(result.offenders)
    rows = table[table[column].isin(offenders)]
    n_each = max(1, min(MAX_OF_A_CLASS, MAX_PICTURES // len(offenders)))
    if result.table == "groups":  # one image of each split first
        turn = rows.groupby(["group", "split"]).cumcount()
        rows = rows.assign(turn=turn).sort_values(["turn", "path"])
    pictures = []
    for name in offenders:
        for _, row in rows[rows[column] == name].head(n_each).iterrows():
            note = f"{row['label']}, {row['split']}" + (
                f", {name[:8]}" if column == "group" else ""
            )
            pictures.append(_picture(str(row["path"]), note=note, raw=raw))
    return pictures[:MAX_PICTURES]


def _quarantined(rows: Sequence[QuarantinedImage], *, raw: Path) -> list[Picture]:
    shown = rows[:MAX_PICTURES]
    return [_picture(row.path, note=f"{row.source}: {row.reason}", raw=raw) for row in shown]


def _picture(path: str, *, note: str, raw: Path) -> Picture:
    try:
        uri = thumbnail_uri(raw / path, side_px=PICTURE_PX) if path else None
    except DataError:
        uri = None
    return Picture(path=path, note=note, uri=uri)


def _classes(table: pd.DataFrame) -> list[ClassBar]:
    counts = pd.crosstab(table["label"], table["split"])
    counts = counts.reindex(columns=list(SPLITS), fill_value=0)
    totals = counts.sum(axis=1)
    smallest = sorted(counts.index, key=lambda label: (totals[label], label))[:MAX_CLASSES]
    largest = max(1, int(totals.max())) if len(totals) else 1
    return [
        ClassBar(
            label=str(label),
            n_images=int(totals[label]),
            by_split=tuple(
                (split, int(counts.loc[label, split]), 100 * counts.loc[label, split] / largest)
                for split in SPLITS
            ),
        )
        for label in smallest
    ]


def _spreads(table: pd.DataFrame) -> list[Spread]:
    return [
        _spread(table[name].dropna().to_numpy(dtype=np.float64), title=title)
        for name, title in SPREADS.items()
        if table[name].notna().any()
    ]


def _spread(values: Float64[np.ndarray, " images"], *, title: str) -> Spread:
    """Bars of equal width over all values."""
    counts, _ = np.histogram(values, bins=N_BARS)
    return Spread(
        title=title,
        bars=tuple(round(float(share), 2) for share in 100 * counts / counts.max()),
        low=f"{values.min():.4g}",
        middle=f"median {np.median(values):.4g}",
        high=f"{values.max():.4g}",
    )
