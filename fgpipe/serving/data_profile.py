"""``profile.json``: what the data of a bundle were like, to tell later data's drift by.

Class counts, binned measures, and the embeddings of a sample: figures, no images.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from jaxtyping import Float32, Float64
from pydantic import Field

from fgpipe.images.data_tables import MEASURES, images_table
from fgpipe.metrics.drift import (
    N_FOLDS,
    bin_counts,
    quantile_edges,
    stability_by_chance,
    stability_index,
    told_apart,
    told_apart_by_chance,
)
from fgpipe.nn.embedder import Embedder
from fgpipe.records import DriftFigure, Part, Record

PROFILE_FILE = "profile.json"

N_DIGITS = 4
"""Digits after the point of a figure."""

MIN_IMAGES = 4 * N_FOLDS
"""Fewer images than this, of either side, are not compared by their embeddings."""


class Histogram(Part):
    """How one measure was spread."""

    edges: Annotated[tuple[float, ...], Field(min_length=3)]
    """Smallest value, cuts, largest value."""
    counts: tuple[int, ...]
    """Images below the smallest, up to each cut, up to the largest, above it."""


class EmbeddedSample(Part):
    """What some of the images look like."""

    embedder: str
    """What made the rows."""
    sha256s: tuple[str, ...]
    """The images."""
    rows: tuple[str, ...]
    """One an image, of unit length: half-precision numbers, little-endian, in base64."""

    def numbers(self) -> Float64[np.ndarray, "images features"]:
        """The rows."""
        return np.array(
            [np.frombuffer(base64.b64decode(row), dtype="<f2") for row in self.rows],
            dtype=np.float64,
        )


class DataProfile(Record):
    """What a version of the data was like."""

    n_images: int
    """Images of the version."""
    last_batch: int
    """Its last batch: images of later ones were added since."""
    labels: dict[str, int]
    """Images of each class."""
    measures: dict[str, Histogram]
    """Each measure of the images."""
    sample: EmbeddedSample | None
    """None where none was asked for or no embedder was there."""


def profile_of(
    table: pd.DataFrame, *, raw: Path, n_sample: int, embedder: Embedder | None
) -> DataProfile:
    """Describe a version of the data.

    Args:
        table: The manifest's.
        raw: Where the images are.
        n_sample: Images to embed at most; 0 embeds none.
        embedder: Gives images their rows. One without a cache makes the same bytes of the
            same images whatever was embedded before.
    """
    images = images_table(table)
    chosen = keyed_sample(images, n=n_sample, seed=0)
    sample = None
    if embedder is not None and len(chosen):
        rows = _embedded(chosen, raw=raw, embedder=embedder, description="package: profile")
        sample = EmbeddedSample(
            embedder=embedder.name,
            sha256s=tuple(chosen["sha256"]),
            rows=tuple(base64.b64encode(row.astype("<f2").tobytes()).decode() for row in rows),
        )
    measures = {}
    for name in MEASURES:
        values = images[name].to_numpy(dtype=np.float64)
        edges = quantile_edges(values)
        counts = tuple(int(n) for n in bin_counts(values, edges))
        measures[name] = Histogram(edges=edges, counts=counts)
    return DataProfile(
        n_images=len(images),
        last_batch=int(images["batch"].max()),
        labels={str(label): int(n) for label, n in sorted(images["label"].value_counts().items())},
        measures=measures,
        sample=sample,
    )


def keyed_sample(table: pd.DataFrame, *, n: int, seed: int) -> pd.DataFrame:
    """At most ``n`` rows, the same whatever the order, sorted by their contents' hashes."""
    if n == 0:
        return table.iloc[:0]
    keys = [hashlib.sha256(f"{seed} {sha256}".encode()).digest() for sha256 in table["sha256"]]
    order = sorted(range(len(keys)), key=keys.__getitem__)[:n]
    return table.iloc[order].sort_values("sha256")


def drift_figures(images: pd.DataFrame, *, then: DataProfile) -> tuple[DriftFigure, ...]:
    """How far labels and measures are from what they were.

    Args:
        images: What to compare, as :func:`images_table` gives it; at least one.
        then: What with.
    """
    names = sorted(set(then.labels) | set(images["label"]))
    counted = images["label"].value_counts()
    figures = [
        _stability(
            "labels",
            [then.labels.get(name, 0) for name in names],
            [int(counted.get(name, 0)) for name in names],
        )
    ]
    for name in MEASURES:
        histogram = then.measures[name]
        since = bin_counts(images[name].to_numpy(dtype=np.float64), histogram.edges)
        figures.append(_stability(name, histogram.counts, [int(n) for n in since]))
    return tuple(figures)


def embedding_drift(
    images: pd.DataFrame,
    *,
    then: EmbeddedSample,
    raw: Path,
    embedder: Embedder,
    n_sample: int,
    seed: int,
) -> DriftFigure | None:
    """How well images can be told from a sample by their looks; None if there are few.

    Args:
        images: What to compare; those of the sample itself are left out.
        then: The sample.
        raw: Where the images are.
        embedder: The one that made the sample's rows.
        n_sample: Images to embed at most.
        seed: Which, and of the folds.
    """
    others = images[~images["sha256"].isin(then.sha256s)]
    chosen = keyed_sample(others, n=n_sample, seed=seed)
    if min(len(chosen), len(then.rows)) < MIN_IMAGES:
        return None
    rows = _embedded(chosen, raw=raw, embedder=embedder, description="validate: drift")
    # Rounded as the sample's are, or a classifier could tell them by their digits.
    since = rows.astype(np.float16).astype(np.float64)
    area = told_apart(then.numbers(), since, seed=seed)
    return DriftFigure(
        feature="embeddings",
        measure="auc",
        value=round(area, N_DIGITS),
        by_chance=round(told_apart_by_chance(len(then.rows), len(since)), N_DIGITS),
        n_then=len(then.rows),
        n_since=len(since),
    )


def drift_table(figures: Sequence[DriftFigure]) -> pd.DataFrame:
    """One row a feature.

    An expectation is about a column, so each feature's figure (that of no drift where
    chance explains it) also stands in a column of its name, null in the other rows.
    """
    table = pd.DataFrame(
        [{**figure.model_dump(), "beyond_chance": figure.beyond_chance} for figure in figures]
    )
    own: Mapping[str, pd.Series] = {
        figure.feature: table["beyond_chance"].where(table["feature"] == figure.feature)
        for figure in figures
    }
    return table.assign(**own)


def _stability(feature: str, then: Sequence[int], since: Sequence[int]) -> DriftFigure:
    before, after = np.array(then, dtype=np.int64), np.array(since, dtype=np.int64)
    return DriftFigure(
        feature=feature,
        measure="psi",
        value=round(stability_index(before, after), N_DIGITS),
        by_chance=round(stability_by_chance(before, after), N_DIGITS),
        n_then=int(before.sum()),
        n_since=int(after.sum()),
    )


def _embedded(
    chosen: pd.DataFrame, *, raw: Path, embedder: Embedder, description: str
) -> Float32[np.ndarray, "images features"]:
    return embedder.embed(
        raw, chosen["path"].tolist(), sha256s=chosen["sha256"].tolist(), description=description
    )
