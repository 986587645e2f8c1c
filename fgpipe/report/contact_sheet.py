"""Pages to look at data on: every class with a sample, one sheet a class, the closest pairs.

Each page is one file that refers to nothing but the other pages beside it. What is shown
is bounded whatever the number of images and classes.
"""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from fgpipe.report.data_uris import thumbnail_uri
from fgpipe.report.templates import render

SHEET_PX = 144
"""Longest side of a picture on a sheet."""

STRIP_PX = 96
"""Longest side of a picture on the overview, where there are many."""

MAX_STRIP = 8
"""Most pictures of a class on the overview."""

MAX_STRIPS = 1600
"""Most pictures of all classes there: some 5 MB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassSheet:
    """One class."""

    label: str
    """Its name."""
    parent: str | None
    """The coarser class."""
    n_images: int
    """How many there are."""
    sample: tuple[str, ...]
    """Paths of those shown."""
    file: str
    """Name of its page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosePair:
    """Two images of different classes that look alike."""

    paths: tuple[str, str]
    """Theirs."""
    labels: tuple[str, str]
    """Theirs."""
    likeness: str
    """How alike, for a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataLook:
    """What the pages show."""

    n_images: int
    """Images of all classes."""
    n_groups: int
    """Groups of images that no two splits share."""
    sheets: tuple[ClassSheet, ...]
    """The classes, by name."""
    pairs: tuple[ClosePair, ...]
    """The closest pairs between classes, the closest first."""
    measure: str
    """What likeness was told by, and among how many images, for a person."""


def render_overview(look: DataLook, *, raw: Path, folder: str, augmented: str | None = None) -> str:
    """The page with every class and the closest pairs.

    Args:
        look: What to show.
        raw: Where the images are.
        folder: Where the sheets are, relative to the page.
        augmented: Address of the page of augmented images, if there is one.

    Raises:
        DataError: If an image does not decode.
    """
    n_strip = max(1, min(MAX_STRIP, MAX_STRIPS // max(1, len(look.sheets))))
    strips = {sheet.label: sheet.sample[:n_strip] for sheet in look.sheets[:MAX_STRIPS]}
    shown = (path for strip in strips.values() for path in strip)
    return render(
        "data.html.j2",
        look=look,
        folder=folder,
        augmented=augmented,
        strips=strips,
        largest=max(sheet.n_images for sheet in look.sheets),
        pictures=thumbnails_of(shown, raw=raw, side_px=STRIP_PX),
        paired=thumbnails_of(
            (path for pair in look.pairs for path in pair.paths), raw=raw, side_px=SHEET_PX
        ),
    )


def render_sheet(sheet: ClassSheet, *, raw: Path, overview: str) -> str:
    """The page of one class.

    Args:
        sheet: The class.
        raw: Where the images are.
        overview: Address of the overview, relative to the page.

    Raises:
        DataError: If an image does not decode.
    """
    pictures = thumbnails_of(sheet.sample, raw=raw, side_px=SHEET_PX)
    return render("class_sheet.html.j2", sheet=sheet, overview=overview, pictures=pictures)


def thumbnails_of(paths: Iterable[str], *, raw: Path, side_px: int) -> dict[str, str]:
    """Each path's picture as a URI."""
    wanted = sorted(set(paths))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        uris = pool.map(lambda path: thumbnail_uri(raw / path, side_px=side_px), wanted)
        return dict(zip(wanted, uris, strict=True))
