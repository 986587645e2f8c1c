"""What a source gives: images with labels, before anything is copied or decoded."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceImage:
    """One image and what its source says about it."""

    file: Path
    """Where its bytes are."""
    path: str
    """Where they go, relative to ``data/raw``, with forward slashes."""
    label: str
    """Its class."""
    parent: str | None = None
    """The coarser class, if the source names one."""
    group: str | None = None
    """What it shares with images it must not be parted from, if the source knows."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """Anything else, for slices; every image of a source has the same names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Images from one place."""

    name: str
    """What a report calls it."""
    images: tuple[SourceImage, ...]
    """Sorted by path."""
    licence: str | None = None
    """What its images may be used for, if the source says so."""
    note: str | None = None
    """What a user of them should know."""
