"""A source is added to ``data/raw``: what is there stays as it is, in its split.

::

    files -> measured -> not there yet -> grouped with what is there -> staged -> data/raw
               |              |                    |
               |              +- there, removed    +- bridges --+
               +- unusable -----------------------------------> quarantine
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from fgpipe.errors import DataError
from fgpipe.images.files import ImageMeasures, listed
from fgpipe.images.groups_file import GroupRow
from fgpipe.images.labels_file import LabelledImage, refuse_mixed_parents
from fgpipe.images.measure_cache import MeasureCache
from fgpipe.images.quarantine_file import QuarantinedImage
from fgpipe.images.sources.source import Source, SourceImage
from fgpipe.intake.grouping import GroupedBatch, group_added
from fgpipe.intake.held import Held, measure_held, read_held, stage_tables
from fgpipe.intake.incoming import (
    NOTHING_WRITTEN,
    Incoming,
    copy_all,
    counted_reasons,
    labelled,
    look_at,
    quarantine_path,
    quarantined,
    refuse_empty_classes,
    refuse_new_classes,
)
from fgpipe.intake.near_search import near_pairs
from fgpipe.intake.reporting import AddReport
from fgpipe.intake.transaction import exclusive, staged

if TYPE_CHECKING:
    from fgpipe.nn.embedder import Embedder


def add_source(
    source: Source,
    *,
    raw: Path,
    cache: MeasureCache,
    embedder: "Embedder | None",
    new_classes: bool,
) -> AddReport:
    """Add a source's images to ``data/raw`` as a further batch.

    Content that is there already is passed over, and so is content that was removed once.
    Images near to one group join it; those near to several are quarantined.

    Args:
        source: The images.
        raw: The folder ``data/raw``.
        cache: Measures of contents seen before: these are not decoded again.
        embedder: Finds near-duplicates that perceptual hashes do not.
        new_classes: Whether classes may come in that are not there yet.

    Raises:
        NotReadyError: If there is nothing to add to.
        DataError: If an image has another label than its content has there, a class is new
            and must not be, has another parent than there or no image that can be used,
            or ``raw`` is not as it was left.
        UnavailableError: If another command is at work on ``raw``.

    Cost: Reads what is there once to hash it; decodes and embeds only what is new.
    """
    with exclusive(raw):
        held = read_held(raw)
        incoming = look_at(source, cache=cache)
        _refuse_classes(incoming, held, new_classes=new_classes)
        measures = measure_held(held, raw=raw, cache=cache)
        added = _judge(incoming, held, measures=measures, raw=raw, embedder=embedder)
        if added.changes:
            _write(added, held, raw=raw)
    return _report(source, incoming, added, held)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Added:
    """What is to change."""

    batch: int
    images: Sequence[tuple[SourceImage, str]]
    """What comes in, and the path it gets."""
    groups: Sequence[GroupRow]
    quarantined: Sequence[tuple[SourceImage, QuarantinedImage]]
    released: Sequence[QuarantinedImage]
    """Rows of the quarantine that what comes in takes the place of."""
    n_there: int
    n_quarantined_before: int
    removed: Sequence[str]

    @property
    def changes(self) -> bool:
        """Whether there is anything to write."""
        return bool(self.images or self.quarantined)


def _refuse_classes(incoming: Incoming, held: Held, *, new_classes: bool) -> None:
    refuse_empty_classes(incoming, known=held.labels)
    arriving = {image.label: image.parent for image in incoming.images}
    arriving |= {each.image.label: each.image.parent for each in incoming.unusable}
    if not new_classes:
        refuse_new_classes(arriving, known=held.labels)
    parents = held.parents
    clashes = [
        f"{label}: {parent} here, {parents[label] or 'none'} in data/raw"
        for label, parent in sorted(arriving.items())
        if label in parents and parent is not None and parent != parents[label]
    ]
    if clashes:
        what = f"{len(clashes)} class(es) have another parent in data/raw"
        raise DataError(listed(what, clashes, f"{NOTHING_WRITTEN}; mend one of them"))
    refuse_mixed_parents(arriving | parents, remark=NOTHING_WRITTEN)


def _judge(
    incoming: Incoming,
    held: Held,
    *,
    measures: Sequence[ImageMeasures],
    raw: Path,
    embedder: "Embedder | None",
) -> _Added:
    """Tell apart what is new, there, removed or to be quarantined, and group what is new."""
    there = {each.sha256: image for image, each in zip(held.images, measures, strict=True)}
    _refuse_other_labels(incoming, there)
    new, removed, n_there = [], [], 0
    for position, (image, sha256) in enumerate(zip(incoming.images, incoming.sha256s, strict=True)):
        if sha256 in there:
            n_there += 1
        elif sha256 in held.groups:
            removed.append(image.path)
        else:
            new.append(position)
    batch = max(row.batch for row in held.groups.values()) + 1
    grouped = _group(
        incoming,
        new,
        held,
        measures=measures,
        raw=raw,
        embedder=embedder,
        batch=batch,
    )
    kept = [incoming.images[i] for n, i in enumerate(new) if n not in grouped.bridges]
    bad = [(each.image, quarantined(each, batch=batch)) for each in incoming.unusable]
    for n, reason in grouped.bridges.items():
        image, sha256 = incoming.images[new[n]], incoming.sha256s[new[n]]
        bad.append((image, _bridge(image, sha256, reason=reason, batch=batch)))
    listed_already = {(row.sha256, row.source) for row in held.quarantined}
    told = [(i, row) for i, row in bad if (row.sha256, row.source) not in listed_already]
    hashes = {row.sha256 for row in grouped.rows}
    sources = {image.path for image in kept}
    return _Added(
        batch=batch,
        images=list(zip(kept, _free_paths(kept, held.images), strict=True)),
        groups=grouped.rows,
        quarantined=told,
        released=[
            row
            for row in held.quarantined
            if row.sha256 in hashes or (row.kind != "bridge" and row.source in sources)
        ],
        n_there=n_there,
        n_quarantined_before=len(bad) - len(told),
        removed=removed,
    )


def _refuse_other_labels(incoming: Incoming, there: Mapping[str, LabelledImage]) -> None:
    clashes = []
    for image, sha256 in zip(incoming.images, incoming.sha256s, strict=True):
        old = there.get(sha256)
        if old is not None and old.label != image.label:
            clashes.append(f"{image.path} is {image.label} here and {old.label} as {old.path}")
    if clashes:
        what = f"{len(clashes)} image(s) are in data/raw with another label"
        way_out = f"{NOTHING_WRITTEN}; mend these labels, or `fgpipe data relabel` those there"
        raise DataError("\n".join([f"{what}:", *(f"  {clash}" for clash in clashes), way_out]))


def _group(
    incoming: Incoming,
    new: Sequence[int],
    held: Held,
    *,
    measures: Sequence[ImageMeasures],
    raw: Path,
    embedder: "Embedder | None",
    batch: int,
) -> GroupedBatch:
    images = [incoming.images[i] for i in new]
    # Absolute paths of new files stand for themselves below any folder.
    files = [str(image.file.absolute()) for image in images]
    pairs = near_pairs(
        raw,
        paths=[image.path for image in held.images] + files,
        measures=[*measures, *(incoming.measures[i] for i in new)],
        n_known=len(measures),
        embedder=embedder,
    )
    names = _attributes(images, held.images)
    groups = [held.groups[each.sha256].group for each in measures]
    named = [
        (image.group, held.groups[sha256].group)
        for i, sha256 in enumerate(incoming.sha256s)
        if sha256 in held.groups
        for image in (incoming.images[i], *incoming.repeats.get(i, ()))
        if image.group is not None
    ]
    return group_added(
        [labelled(image, attributes=names) for image in images],
        sha256s=[incoming.measures[i].sha256 for i in new],
        there=list(zip(held.images, groups, strict=True)),
        pairs=[(pair.i, pair.j) for pair in pairs],
        repeats={n: incoming.repeats[i] for n, i in enumerate(new) if i in incoming.repeats},
        named=named,
        batch=batch,
    )


def _bridge(image: SourceImage, sha256: str, *, reason: str, batch: int) -> QuarantinedImage:
    return QuarantinedImage(
        sha256=sha256,
        path=quarantine_path(image, sha256),
        source=image.path,
        label=image.label,
        kind="bridge",
        reason=reason,
        batch=batch,
    )


def _attributes(new: Iterable[SourceImage], old: Sequence[LabelledImage]) -> list[str]:
    """Names of all attributes: those there are in their order, then those that come."""
    names = dict.fromkeys(old[0].attributes if old else ())
    for image in new:
        names |= dict.fromkeys(image.attributes)
    return list(names)


def _free_paths(images: Sequence[SourceImage], there: Sequence[LabelledImage]) -> list[str]:
    """A path for each image that no other has, not even on a file system without case."""
    files = {image.path.casefold() for image in there}
    folders = {folder for path in files for folder in _folders(path)}
    found = []
    for image in images:
        wanted = PurePosixPath(image.path)
        if files & set(_folders(image.path.casefold())):  # a file is called like its folder
            wanted = PurePosixPath("images", wanted.name)
        path, number = wanted, 1
        while (key := path.as_posix().casefold()) in files or key in folders:
            number += 1
            path = wanted.with_name(f"{wanted.stem}-{number}{wanted.suffix}")
        files.add(key)
        folders.update(_folders(key))
        found.append(path.as_posix())
    return found


def _folders(path: str) -> list[str]:
    return [folder.as_posix() for folder in PurePosixPath(path).parents][:-1]


def _write(added: _Added, held: Held, *, raw: Path) -> None:
    attributes = _attributes([image for image, _ in added.images], held.images)
    parents = held.parents
    old = [
        image._replace(attributes={name: image.attributes.get(name, "") for name in attributes})
        for image in held.images
    ]
    new = [
        labelled(image, path=path, parent=parents.get(image.label), attributes=attributes)
        for image, path in added.images
    ]
    rows = [row for row in held.quarantined if row not in added.released]
    rows += [row for _, row in added.quarantined]
    with staged(raw) as staging:
        copies = {staging.place(path): image.file for image, path in added.images}
        copies |= {
            staging.place(row.path): image.file for image, row in added.quarantined if row.path
        }
        copy_all((file, place) for place, file in copies.items())
        stage_tables(
            staging,
            images=[*old, *new] if new else None,
            groups=[*held.groups.values(), *added.groups] if added.groups else None,
            quarantined=rows if rows or held.quarantined else None,
        )
        kept = {row.path for row in rows}
        for row in added.released:
            if row.path and row.path not in kept:
                staging.remove(row.path)


def _report(source: Source, incoming: Incoming, added: _Added, held: Held) -> AddReport:
    known = {row.group for row in held.groups.values()}
    bad = [row for _, row in added.quarantined]
    return AddReport(
        source=source.name,
        batch=added.batch if added.images else None,
        n_images=len(added.images),
        n_joined=sum(row.group in known for row in added.groups),
        n_there=added.n_there,
        n_repeats=incoming.n_repeats,
        new_labels=tuple(sorted({image.label for image, _ in added.images} - held.labels)),
        renamed=tuple((image.path, path) for image, path in added.images if image.path != path),
        n_quarantined=len(bad),
        n_quarantined_before=added.n_quarantined_before,
        reasons=counted_reasons(bad),
        removed=tuple(added.removed),
        n_total=len(held.images) + len(added.images),
        licence=source.licence,
        note=source.note,
    )
