"""``fgpipe data show``: pages on which a person looks at the data before a model does."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt64
from tqdm import tqdm

from fgpipe.images.files import all_usable
from fgpipe.images.known_images import KnownImage, known_images
from fgpipe.images.labels_file import read_labels
from fgpipe.images.measure_cache import MeasureCache
from fgpipe.intake.closest_pairs import ApartPair, closest_by_embedding, closest_by_hash
from fgpipe.nn.embedder import Embedder
from fgpipe.records import write_atomically
from fgpipe.report.augmented_page import AugmentedLook, render_augmented
from fgpipe.report.contact_sheet import (
    ClassSheet,
    ClosePair,
    DataLook,
    render_overview,
    render_sheet,
)

PAGE = "data.html"
AUGMENTED = "data-augmented.html"
SHEETS = "data-classes"

MAX_COMPARED = 100_000
"""Most images among which close pairs are looked for, which takes 30 s on two cores."""

_SHEET_NAME = re.compile(r"\d{4,}(-[a-z0-9-]+)?\.html")


def show_data(
    raw: Path,
    *,
    out: Path,
    n_per_class: int,
    embedder: Embedder | None,
    cache: MeasureCache,
    augmented: AugmentedLook | None = None,
) -> Path:
    """Write the overview, a contact sheet a class, and what augmentation makes of images.

    Args:
        raw: The folder ``data/raw``.
        out: The folder that ``data.html`` and ``data-classes/`` are written to.
        n_per_class: Most images on a sheet.
        embedder: What tells how alike images are; without it perceptual hashes do.
        cache: Where these come from.
        augmented: What the page of augmented images shows; None for no such page.

    Returns:
        The overview.

    Raises:
        DataError: If ``data/raw`` is not as imported, or an image does not decode.
    """
    look = look_at(raw, n_per_class=n_per_class, embedder=embedder, cache=cache)
    link = None if augmented is None else AUGMENTED
    page = render_overview(look, raw=raw, folder=SHEETS, augmented=link)
    for sheet in tqdm(look.sheets, desc="contact sheets", unit="class", disable=None):
        content = render_sheet(sheet, raw=raw, overview=f"../{PAGE}")
        write_atomically(out / SHEETS / sheet.file, content.encode())
    written = {sheet.file for sheet in look.sheets}
    for path in (out / SHEETS).iterdir():
        if _SHEET_NAME.fullmatch(path.name) and path.name not in written:
            path.unlink()  # of a class that is no more
    if augmented is None:
        (out / AUGMENTED).unlink(missing_ok=True)  # of parameters that are no more
    else:
        write_atomically(out / AUGMENTED, render_augmented(augmented, overview=PAGE).encode())
    write_atomically(out / PAGE, page.encode())
    return out / PAGE


def look_at(
    raw: Path,
    *,
    n_per_class: int,
    embedder: Embedder | None,
    cache: MeasureCache,
    max_compared: int = MAX_COMPARED,
) -> DataLook:
    """What there is to show; close pairs are looked for among ``max_compared`` images at most.

    Further arguments as for :func:`show_data`.
    """
    images = known_images(raw)
    parents = {image.label: image.parent for image in read_labels(raw)}
    of_label: dict[str, list[str]] = {label: [] for label in sorted(parents)}
    for image in images:
        of_label[image.label].append(image.path)
    drawn = set(sample_of([image.path for image in images], n=max_compared))
    compared = [image for image in images if image.path in drawn]
    targets = np.searchsorted(list(of_label), [image.label for image in compared])
    if embedder is not None:
        rows = embedder.embed(
            raw,
            [image.path for image in compared],
            sha256s=[image.sha256 for image in compared],
            description="embedding",
        )
        pairs = closest_by_embedding(rows, targets)
        measured = "Likeness is the cosine of what a general network sees in two images, 1 at most."
    else:
        pairs = closest_by_hash(_hashes(raw, compared, cache=cache), targets)
        measured = "Likeness is told by perceptual hashes of 64 bits: fewer differing are closer."
    among = "all" if len(compared) == len(images) else f"{len(compared):,} drawn from the"
    return DataLook(
        n_images=len(images),
        n_groups=len({image.group for image in images}),
        sheets=tuple(
            ClassSheet(
                label=label,
                parent=parents[label],
                n_images=len(paths),
                sample=sample_of(paths, n=n_per_class),
                file=sheet_name(position, label),
            )
            for position, (label, paths) in enumerate(of_label.items(), start=1)
        ),
        pairs=tuple(_shown(pair, compared, by_hash=embedder is None) for pair in pairs),
        measure=(
            f"{measured} The closest among {among} {len(images):,} images; each is shown once."
        ),
    )


def sample_of(paths: Sequence[str], *, n: int) -> tuple[str, ...]:
    """At most ``n`` paths, drawn by their hashes and sorted: most stay when data are added."""
    drawn = sorted(paths, key=lambda path: hashlib.sha256(path.encode()).digest())[:n]
    return tuple(sorted(drawn))


def sheet_name(position: int, label: str) -> str:
    """Name of a class's page: any label becomes a plain one, and no two the same."""
    plain = re.sub(r"[^a-z0-9]+", "-", label.lower())[:40].strip("-")
    return f"{position:04d}-{plain}.html" if plain else f"{position:04d}.html"


def _shown(pair: ApartPair, images: Sequence[KnownImage], *, by_hash: bool) -> ClosePair:
    one, other = images[pair.i], images[pair.j]
    bits = f"{pair.distance:.0f} of 64 bits differ"
    return ClosePair(
        paths=(one.path, other.path),
        labels=(one.label, other.label),
        likeness=bits if by_hash else f"likeness {1 - pair.distance:.3f}",
    )


def _hashes(
    raw: Path, images: Sequence[KnownImage], *, cache: MeasureCache
) -> UInt64[np.ndarray, " images"]:
    paths = [image.path for image in images]
    measures = all_usable(
        cache.measure_all(raw, paths, description="hashing"),
        way_out="`dvc checkout data/raw` brings back what was imported",
    )
    return np.array([int(measure.phash, 16) for measure in measures], dtype=np.uint64)
