"""What a source brings, told apart: images, repeats of them, files that are none."""

import os
import shutil
import stat
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fgpipe.errors import DataError, UnavailableError
from fgpipe.images.files import ImageMeasures, listed
from fgpipe.images.labels_file import LabelledImage
from fgpipe.images.measure_cache import MeasureCache
from fgpipe.images.quarantine_file import QUARANTINE_FOLDER, QuarantinedImage
from fgpipe.images.sources.source import Source, SourceImage
from fgpipe.records import file_sha256

NOTHING_WRITTEN = "nothing was written"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unusable:
    """A file that is no image to train on."""

    image: SourceImage
    """What the source says of it."""
    sha256: str
    """Hash of its bytes; empty where they are not to be had."""
    reason: str
    """Why, without its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """A source's images, sorted by path."""

    images: tuple[SourceImage, ...]
    """Those that can be used, each content once."""
    measures: tuple[ImageMeasures, ...]
    """Of each of them."""
    repeats: Mapping[int, Sequence[SourceImage]]
    """Files left out because an image, told by its position, has the same bytes and label."""
    unusable: tuple[Unusable, ...]
    """The others."""

    @property
    def sha256s(self) -> list[str]:
        """Hashes of the images' bytes."""
        return [each.sha256 for each in self.measures]

    @property
    def n_repeats(self) -> int:
        """Files left out because another has the same bytes and label."""
        return sum(map(len, self.repeats.values()))


def look_at(source: Source, *, cache: MeasureCache) -> Incoming:
    """Measure every file of a source, all over all cores.

    Args:
        source: The images.
        cache: Measures of contents seen before.

    Raises:
        DataError: If the same bytes have two labels, or no file can be used.
    """
    offered = sorted(source.images, key=lambda image: image.path)
    results = cache.measure_all(
        Path(),
        [str(image.file) for image in offered],
        description=f"checking {len(offered):,} images",
    )
    unusable = [
        (image, result)
        for image, result in zip(offered, results, strict=True)
        if isinstance(result, DataError)
    ]
    usable = [
        (image, result)
        for image, result in zip(offered, results, strict=True)
        if isinstance(result, ImageMeasures)
    ]
    if not usable:
        what = f"none of the {len(offered):,} images of {source.name} can be used"
        raise DataError(listed(what, [error for _, error in unusable], NOTHING_WRITTEN))
    kept: list[tuple[SourceImage, ImageMeasures]] = []
    first: dict[str, int] = {}
    clashes = []
    repeats: dict[int, list[SourceImage]] = {}
    for image, measures in usable:
        one = first.setdefault(measures.sha256, len(first))
        if one == len(kept):
            kept.append((image, measures))
            continue
        repeats.setdefault(one, []).append(image)
        if (label := kept[one][0].label) != image.label:
            clashes.append(f"  {kept[one][0].path} ({label}) and {image.path} ({image.label})")
    if clashes:
        what = f"{len(clashes)} images have the bytes of another and a different label:"
        way_out = f"{NOTHING_WRITTEN}; keep the right one of each"
        raise DataError("\n".join([what, *clashes, way_out]))
    return Incoming(
        images=tuple(image for image, _ in kept),
        measures=tuple(measures for _, measures in kept),
        repeats=repeats,
        unusable=tuple(_unusable(image, error) for image, error in unusable),
    )


def _unusable(image: SourceImage, error: DataError) -> Unusable:
    reason = " ".join(str(error).removeprefix(f"{image.file}: ").split())
    return Unusable(image=image, sha256=hash_of(image.file), reason=reason)


def hash_of(file: Path) -> str:
    """Hash of a file's bytes; nothing of what cannot be read, or is no file."""
    try:
        return file_sha256(file) if stat.S_ISREG(file.stat().st_mode) else ""
    except OSError:
        return ""


def labelled(
    image: SourceImage,
    *,
    path: str | None = None,
    parent: str | None = None,
    attributes: Sequence[str] | None = None,
) -> LabelledImage:
    """A source's image as a row of ``labels.csv``.

    Args:
        image: What the source says.
        path: Where it goes, if not where the source says.
        parent: The coarser class, where the source names none.
        attributes: Names of the attributes it has there; those it lacks are empty.
    """
    names = list(image.attributes) if attributes is None else attributes
    return LabelledImage(
        path=path or image.path,
        label=image.label,
        parent=image.parent or parent,
        group=image.group,
        split=image.split,
        box=image.box,
        attributes={name: image.attributes.get(name, "") for name in names},
    )


def quarantined(each: Unusable, *, batch: int) -> QuarantinedImage:
    """Its row of ``quarantine.csv``."""
    return QuarantinedImage(
        sha256=each.sha256,
        path=quarantine_path(each.image, each.sha256) if each.sha256 else "",
        source=each.image.path,
        label=each.image.label,
        kind="damaged" if each.sha256 else "unreadable",
        reason=each.reason,
        batch=batch,
    )


def quarantine_path(image: SourceImage, sha256: str) -> str:
    """Where the bytes of an image that is not used are kept."""
    extension = PurePosixPath(image.path).suffix.lower()
    return f"{QUARANTINE_FOLDER}/{sha256[:16]}{extension}"


def copy_all(files: Iterable[tuple[Path, Path]]) -> None:
    """Copy files to where their folders are already, some at a time.

    Raises:
        UnavailableError: If the disk is full, or a file cannot be read any more.
    """

    def copy(pair: tuple[Path, Path]) -> None:
        try:
            shutil.copyfile(*pair)
        except OSError as error:
            what = f"{pair[0]} cannot be copied into data/ ({error.strerror})"
            raise UnavailableError(f"{what}; {NOTHING_WRITTEN}") from None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            for _ in pool.map(copy, files):
                pass
        finally:
            pool.shutdown(cancel_futures=True)


def counted_reasons(rows: Iterable[QuarantinedImage]) -> Mapping[str, int]:
    """How many rows have which reason, without its details; the most frequent first."""
    counts = Counter(row.reason.split(" (", maxsplit=1)[0] for row in rows)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def refuse_empty_classes(incoming: Incoming, *, known: Iterable[str] = ()) -> None:
    """Refuse a source of which a class would have no image.

    Args:
        incoming: What it brings.
        known: Classes that have images already.

    Raises:
        DataError: If a class that is not known has none that can be used.
    """
    there = {image.label for image in incoming.images} | set(known)
    lost = [each for each in incoming.unusable if each.image.label not in there]
    labels = sorted({each.image.label for each in lost})
    if labels:
        what = f"no image of {len(labels)} class(es) can be used: {', '.join(labels[:5])}"
        reasons = [f"{each.image.path}: {each.reason}" for each in lost]
        way_out = f"{NOTHING_WRITTEN}; mend these files, or leave the class out"
        raise DataError(listed(what, reasons, way_out))


def refuse_new_classes(labels: Iterable[str], *, known: Collection[str]) -> None:
    """Refuse classes that are not there yet.

    Raises:
        DataError: Naming them, and those there that differ from one in case only.
    """
    spelt = {label.casefold(): label for label in known}
    lines = [
        f"{label} (there is {spelt[label.casefold()]})" if label.casefold() in spelt else label
        for label in sorted(set(labels).difference(known))
    ]
    if lines:
        what = f"{len(lines)} class(es) are not in data/raw"
        raise DataError(listed(what, lines, f"{NOTHING_WRITTEN}; `--new-classes` lets them in"))
