"""A source becomes ``data/raw``: whole and checked, or not at all."""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fgpipe.errors import DataError, InputError
from fgpipe.images.files import list_images, listed, measure_all
from fgpipe.images.groups_file import GROUPS_NAME, groups_text, read_groups
from fgpipe.images.labels_file import LABELS_NAME, LabelledImage, labels_text, read_labels
from fgpipe.images.sources.elpv import elpv
from fgpipe.images.sources.folder import class_folders
from fgpipe.images.sources.source import Source, SourceImage
from fgpipe.intake.grouping import group_batch, near_duplicate_pairs
from fgpipe.intake.reporting import ImportReport
from fgpipe.records import file_sha256

SOURCES: dict[str, Callable[[], Source]] = {"elpv": elpv}
"""What :func:`fetch` knows."""


def fetch(name: str, *, raw: Path) -> ImportReport:
    """Fill ``data/raw`` from a source that fgpipe knows.

    Args:
        name: Its name.
        raw: The folder ``data/raw``.

    Raises:
        InputError: If no source is called so.
        UnavailableError: If the source's package is not installed.
        DataError: If ``raw`` holds other images already, or the source's cannot be used.
    """
    if name not in SOURCES:
        raise InputError(
            f"no source is called {name!r}; there is {', '.join(sorted(SOURCES))} "
            "(`fgpipe data import FOLDER` takes a folder of class folders)"
        )
    return import_source(SOURCES[name](), raw=raw)


def import_folder(folder: Path, *, raw: Path) -> ImportReport:
    """Fill ``data/raw`` from a folder of class folders.

    Args:
        folder: ``FOLDER/<label>/**/image``.
        raw: The folder ``data/raw``.

    Raises:
        DataError: If the folder or an image of it cannot be used, or ``raw`` holds other
            images already.
    """
    return import_source(class_folders(folder), raw=raw)


def import_source(source: Source, *, raw: Path) -> ImportReport:
    """Copy, check and group a source's images as the first batch of ``data/raw``.

    Everything is written beside ``raw`` and renamed at the end.

    Args:
        source: The images.
        raw: The folder ``data/raw``.

    Raises:
        DataError: If an image does not decode or has two labels, near-duplicates join
            groups that are given as distinct, or ``raw`` holds other images already.
    """
    if raw.is_symlink() or raw.exists():
        there = _already_there(source, raw=raw)
        if there is not None:
            return there
    with _partial(raw) as partial:
        report = _write(source, partial=partial)
        if raw.is_dir():
            raw.rmdir()
        partial.replace(raw)
    return report


def _write(source: Source, *, partial: Path) -> ImportReport:
    files = [str(image.file) for image in source.images]
    measures = measure_all(
        Path(),
        files,
        description=f"checking {len(files):,} images",
        way_out="nothing was imported; mend or remove these files and try again",
    )
    sha256s = [each.sha256 for each in measures]
    kept = _without_repeats(source.images, sha256s)
    images = [_labelled(source.images[i]) for i in kept]
    for i, image in zip(kept, images, strict=True):
        target = partial / image.path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source.images[i].file, target)
    paths = [image.path for image in images]
    pairs = near_duplicate_pairs(partial, paths=paths, phashes=[measures[i].phash for i in kept])
    rows = group_batch(images, sha256s=[sha256s[i] for i in kept], pairs=pairs, batch=1)
    (partial / LABELS_NAME).write_text(labels_text(images), encoding="utf-8", newline="")
    (partial / GROUPS_NAME).write_text(groups_text(rows), encoding="utf-8", newline="")
    return ImportReport(
        source=source.name,
        n_images=len(images),
        n_labels=len({image.label for image in images}),
        n_groups=len({row.group for row in rows}),
        n_repeats=len(source.images) - len(images),
        joined_pairs=tuple((paths[i], paths[j]) for i, j in pairs),
        licence=source.licence,
        note=source.note,
        already_there=False,
    )


def _labelled(image: SourceImage) -> LabelledImage:
    return LabelledImage(
        path=image.path,
        label=image.label,
        parent=image.parent,
        group=image.group,
        attributes=image.attributes,
    )


def _without_repeats(images: Sequence[SourceImage], sha256s: Sequence[str]) -> list[int]:
    """Positions of the images whose bytes come first.

    Raises:
        DataError: If the same bytes have two labels.
    """
    first: dict[str, int] = {}
    clashes = []
    for position, sha256 in enumerate(sha256s):
        one, other = images[first.setdefault(sha256, position)], images[position]
        if one.label != other.label:
            clashes.append(f"{one.path} and {other.path}")
    if clashes:
        what = f"{len(clashes)} images have the bytes of another and a different label"
        raise DataError(listed(what, clashes, "nothing was imported; keep the right one of each"))
    return sorted(first.values())


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
        return ImportReport(
            source=source.name,
            n_images=len(images),
            n_labels=len({image.label for image in images}),
            n_groups=len({row.group for row in read_groups(raw)}),
            n_repeats=len(source.images) - len(images),
            joined_pairs=(),
            licence=source.licence,
            note=source.note,
            already_there=True,
        )
    n_images = len(images) or len(list_images(raw))
    n_labels = len({image.label for image in images})
    raise DataError(
        f"{raw} already holds {n_images:,} images of {n_labels} classes; "
        f"remove it first to start over with {source.name}"
    )


def _holds(source: Source, *, raw: Path, images: Sequence[LabelledImage]) -> bool:
    """Whether ``raw`` has the source's rows and bytes, but for files that repeat others'."""
    offered = {image.path: image for image in source.images}
    if any(row.path not in offered or _labelled(offered[row.path]) != row for row in images):
        return False
    paths = [row.path for row in images]
    if list_images(raw) != [raw / path for path in sorted(paths)]:
        return False
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        there = list(pool.map(file_sha256, [raw / path for path in paths]))
        offer = dict(
            zip(
                offered,
                pool.map(file_sha256, [offered[path].file for path in offered]),
                strict=True,
            )
        )
    known = {row.sha256 for row in read_groups(raw)}
    return there == [offer[path] for path in paths] and set(offer.values()) == known


@contextlib.contextmanager
def _partial(raw: Path) -> Iterator[Path]:
    """A folder beside ``raw`` that vanishes unless it was renamed; so do those of the killed."""
    raw.parent.mkdir(parents=True, exist_ok=True)
    for stale in raw.parent.glob(f".{raw.name}.*.partial"):
        if not _is_running(stale.suffixes[-2].removeprefix(".")):
            shutil.rmtree(stale, ignore_errors=True)
    partial = raw.with_name(f".{raw.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _is_running(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        return True
    return True
