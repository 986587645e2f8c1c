"""Whatever lies at a path, or can be fetched, becomes ``data/raw``."""

from pathlib import Path

from fgpipe.images.measure_cache import MeasureCache
from fgpipe.images.sources.registry import fetch_source, open_source
from fgpipe.intake.adding import add_source
from fgpipe.intake.importing import import_source
from fgpipe.intake.reporting import AddReport, ImportReport
from fgpipe.intake.transaction import own_folder
from fgpipe.nn.embedder import Embedder


def import_path(
    path: Path,
    *,
    kind: str | None,
    raw: Path,
    cache: MeasureCache,
    embedder: Embedder | None,
) -> ImportReport:
    """Fill ``data/raw`` from a folder, a table or an archive.

    Args:
        path: Where it is.
        kind: What it is, where that is not to be found out.
        raw: The folder ``data/raw``.
        cache: Measures of contents seen before.
        embedder: Finds near-duplicates that perceptual hashes do not.

    Raises:
        InputError: If no kind is called so.
        DataError: If it cannot be used, or ``raw`` holds other images already.
    """
    with own_folder(raw, kind="work") as work:
        source = open_source(path, kind=kind, work=work)
        return import_source(source, raw=raw, cache=cache, embedder=embedder)


def add_path(
    path: Path,
    *,
    kind: str | None,
    raw: Path,
    cache: MeasureCache,
    embedder: Embedder | None,
    new_classes: bool,
) -> AddReport:
    """Add a folder, a table or an archive to ``data/raw``.

    Args:
        path: Where it is.
        kind: What it is, where that is not to be found out.
        raw: The folder ``data/raw``.
        cache: Measures of contents seen before: these are not decoded again.
        embedder: Finds near-duplicates that perceptual hashes do not.
        new_classes: Whether classes may come in that are not there yet.

    Raises:
        InputError: If no kind is called so.
        NotReadyError: If there is nothing to add to.
        DataError: If it cannot be used, or as for :func:`add_source`.
    """
    with own_folder(raw, kind="work") as work:
        source = open_source(path, kind=kind, work=work)
        return add_source(source, raw=raw, cache=cache, embedder=embedder, new_classes=new_classes)


def import_fetched(
    name: str,
    *,
    raw: Path,
    downloads: Path,
    cache: MeasureCache,
    embedder: Embedder | None,
) -> ImportReport:
    """Fill ``data/raw`` from a source that fgpipe can get by itself.

    Args:
        name: Its kind.
        raw: The folder ``data/raw``.
        downloads: Where what is downloaded is kept.
        cache: Measures of contents seen before.
        embedder: Finds near-duplicates that perceptual hashes do not.

    Raises:
        InputError: If no kind is called so, or it cannot be fetched.
        UnavailableError: If its package or a network is not there.
        DataError: If it cannot be used, or ``raw`` holds other images already.
    """
    with own_folder(raw, kind="work") as work:
        source = fetch_source(name, downloads=downloads, work=work)
        return import_source(source, raw=raw, cache=cache, embedder=embedder)
