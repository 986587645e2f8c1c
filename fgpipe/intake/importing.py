"""A source becomes ``data/raw``: whole and checked, or not at all.

Files that are no image to train on are quarantined with their reasons, not dropped.
"""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fgpipe.errors import DataError
from fgpipe.images.files import list_images
from fgpipe.images.groups_file import GROUPS_NAME, groups_text, read_groups
from fgpipe.images.labels_file import (
    LABELS_NAME,
    LabelledImage,
    labels_text,
    read_labels,
    refuse_mixed_parents,
)
from fgpipe.images.measure_cache import MeasureCache
from fgpipe.images.quarantine_file import (
    QUARANTINE_FOLDER,
    QUARANTINE_NAME,
    quarantine_text,
    read_quarantine,
)
from fgpipe.images.sources.source import Source, SourceImage
from fgpipe.intake.grouping import group_batch
from fgpipe.intake.incoming import (
    NOTHING_WRITTEN,
    copy_all,
    counted_reasons,
    hash_of,
    labelled,
    look_at,
    quarantined,
    refuse_empty_classes,
)
from fgpipe.intake.near_search import near_pairs
from fgpipe.intake.reporting import ImportReport
from fgpipe.intake.transaction import exclusive, own_folder

if TYPE_CHECKING:
    from fgpipe.nn.embedder import Embedder


def import_source(
    source: Source, *, raw: Path, cache: MeasureCache, embedder: "Embedder | None"
) -> ImportReport:
    """Copy, check and group a source's images as the first batch of ``data/raw``.

    Everything is written beside ``raw`` and renamed at the end.

    Args:
        source: The images.
        raw: The folder ``data/raw``.
        cache: Measures of contents seen before.
        embedder: Finds near-duplicates that perceptual hashes do not.

    Raises:
        DataError: If there is one class only or a class has no image that can be used, an
            image has two labels, near-duplicates join groups that are given as distinct,
            or ``raw`` holds other images already.
        UnavailableError: If another command is at work on ``raw``.
    """
    with exclusive(raw):
        if raw.is_symlink() or raw.exists():
            there = _already_there(source, raw=raw)
            if there is not None:
                return there
        with own_folder(raw, kind="partial") as partial:
            report = _write(source, partial=partial, cache=cache, embedder=embedder)
            if raw.is_dir():
                raw.rmdir()
            partial.replace(raw)
    return report


def _write(
    source: Source, *, partial: Path, cache: MeasureCache, embedder: "Embedder | None"
) -> ImportReport:
    labels = {image.label for image in source.images}
    if len(labels) == 1:
        raise DataError(
            f"{source.name} holds one class only, {labels.pop()}; a classifier needs at least two"
        )
    incoming = look_at(source, cache=cache)
    refuse_empty_classes(incoming)
    refuse_mixed_parents(
        {image.label: image.parent for image in source.images}, remark=NOTHING_WRITTEN
    )
    images = [labelled(image) for image in incoming.images]
    paths = [image.path for image in images]
    bad = [quarantined(each, batch=1) for each in incoming.unusable]
    _copy(incoming.images, partial=partial)
    _copy(
        [
            replace(each.image, path=row.path)
            for each, row in zip(incoming.unusable, bad, strict=True)
            if row.path
        ],
        partial=partial,
    )
    near = near_pairs(
        partial, paths=paths, measures=incoming.measures, n_known=0, embedder=embedder
    )
    pairs = [(pair.i, pair.j) for pair in near]
    rows = group_batch(
        images, sha256s=incoming.sha256s, pairs=pairs, repeats=incoming.repeats, batch=1
    )
    (partial / LABELS_NAME).write_text(labels_text(images), encoding="utf-8", newline="")
    (partial / GROUPS_NAME).write_text(groups_text(rows), encoding="utf-8", newline="")
    if bad:
        text = quarantine_text(bad)
        (partial / QUARANTINE_NAME).write_text(text, encoding="utf-8", newline="")
    return ImportReport(
        source=source.name,
        n_images=len(images),
        n_labels=len(labels),
        n_groups=len({row.group for row in rows}),
        n_repeats=incoming.n_repeats,
        n_quarantined=len(bad),
        reasons=counted_reasons(bad),
        joined_pairs=tuple((paths[i], paths[j]) for i, j in pairs),
        licence=source.licence,
        note=source.note,
        already_there=False,
    )


def _copy(images: "tuple[SourceImage, ...] | list[SourceImage]", *, partial: Path) -> None:
    """Copy files to their paths, one of those that share one."""
    targets = {partial / image.path: image.file for image in images}
    for folder in {target.parent for target in targets}:
        folder.mkdir(parents=True, exist_ok=True)
    copy_all((file, target) for target, file in targets.items())


def _already_there(source: Source, *, raw: Path) -> ImportReport | None:
    """The report, if ``raw`` holds just what the source would give; None if it is empty.

    Raises:
        DataError: If it holds anything else.
    """
    if not raw.is_dir():
        raise DataError(f"{raw} is not a folder; remove it first")
    if not any(raw.iterdir()):
        return None
    images = read_labels(raw) if (raw / LABELS_NAME).exists() else []
    if images and (raw / GROUPS_NAME).exists() and _holds(source, raw=raw, images=images):
        bad = read_quarantine(raw)
        return ImportReport(
            source=source.name,
            n_images=len(images),
            n_labels=len({image.label for image in images}),
            n_groups=len({row.group for row in read_groups(raw)}),
            n_repeats=len(source.images) - len(images) - len(bad),
            n_quarantined=len(bad),
            reasons=counted_reasons(bad),
            joined_pairs=(),
            licence=source.licence,
            note=source.note,
            already_there=True,
        )
    n_images = len(images) or len(list_images(raw))
    n_labels = len({image.label for image in images})
    raise DataError(
        f"{raw} already holds {n_images:,} images of {n_labels} classes; remove it first to "
        f"start over with {source.name}, or add to it with `fgpipe data add PATH`"
    )


def _holds(source: Source, *, raw: Path, images: list[LabelledImage]) -> bool:
    """Whether ``raw`` has the source's rows and bytes, but for files that repeat others'."""
    offered = {image.path: image for image in source.images}
    if any(row.path not in offered or labelled(offered[row.path]) != row for row in images):
        return False
    paths = [row.path for row in images]
    bad = {row.source: row.sha256 for row in read_quarantine(raw)}
    on_disk = list_images(raw, without=QUARANTINE_FOLDER)
    if on_disk != [raw / path for path in sorted(paths)] or not bad.keys() <= offered.keys():
        return False
    good = [path for path in offered if path not in bad]
    there = _hashes({path: raw / path for path in paths})
    offer = _hashes({path: offered[path].file for path in good})
    unchanged = _hashes({path: offered[path].file for path in bad}) == bad
    known = {row.sha256 for row in read_groups(raw) if row.status == "active"}
    same = all(offer.get(path) == sha256 for path, sha256 in there.items())
    return same and unchanged and set(offer.values()) == known


def _hashes(files: Mapping[str, Path]) -> dict[str, str]:
    """Hash of each file; empty where it cannot be read."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(files, pool.map(hash_of, files.values()), strict=True))
