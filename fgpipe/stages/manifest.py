"""01 manifest: one row an image, with its split.

Reads ``data/raw`` once: every file's bytes are hashed, and those not seen before are decoded
to their end and measured, over all cores.
"""

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from fgpipe.config import ManifestConfig
from fgpipe.errors import DataError
from fgpipe.images.collector import without_collector
from fgpipe.images.files import ImageMeasures, all_usable, listed
from fgpipe.images.groups_file import GroupRow, read_groups
from fgpipe.images.known_images import missing_and_unnamed, names_on_disk
from fgpipe.images.labels_file import (
    LABELS_NAME,
    LabelledImage,
    read_labels,
    refuse_mixed_parents,
)
from fgpipe.images.measure_cache import MeasureCache
from fgpipe.images.quarantine_file import (
    QUARANTINE_NAME,
    QuarantinedImage,
    read_quarantine,
)
from fgpipe.images.splits import fold_splits, given_splits, random_splits, stable_splits
from fgpipe.images.table import ATTRIBUTE_PREFIX, write_table
from fgpipe.ports import Ports
from fgpipe.records import SPLITS, LabelCount, Manifest, Split, file_sha256

_ADD = "`fgpipe data add PATH` brings images in"


@without_collector()
def manifest(*, raw: Path, config: ManifestConfig, out: Path, ports: Ports) -> Manifest:
    """Describe every image of ``data/raw`` and give each its split.

    Args:
        raw: The folder ``data/raw``.
        config: How images are split.
        out: The stage's folder.
        ports: What it asks of the world: where measures of contents seen before are.

    Raises:
        DataError: If ``labels.csv`` and the files on disk are not the same images, a file
            is not whole or not in ``groups.csv``, a box is outside its image, too many
            images are quarantined, there are fewer than two classes, or some have a parent
            and others none.
    """
    on_disk = names_on_disk(raw)
    cache = MeasureCache(ports.measures)
    # Most of the time is looking at files, so that begins before it is known which count.
    with cache.measuring(raw, on_disk, description="measuring images") as results:
        images = read_labels(raw)
        labels = sorted({image.label for image in images})
        if len(labels) < 2:
            raise DataError(
                f"{raw / LABELS_NAME} names one class only, {labels[0]}; "
                "a classifier needs at least two"
            )
        parents = {image.label: image.parent for image in images}
        refuse_mixed_parents(parents, remark=f"mend {raw / LABELS_NAME}")
        quarantined = read_quarantine(raw)
        _few_quarantined(quarantined, len(images), max_fraction=config.max_quarantined_fraction)
        paths = [image.path for image in images]
        _same_images(paths, on_disk=on_disk, raw=raw)
        groups = {row.sha256: row for row in read_groups(raw)}
        dealt = None if config.protocol == "given" else _dealt(list(groups.values()), config)
        found = dict(zip(on_disk, results(), strict=True))
        if hidden := [path for path in paths if path not in found]:
            more = cache.measure_all(raw, hidden, description="measuring hidden images")
            found |= zip(hidden, more, strict=True)
        measures = all_usable(
            [found[path] for path in paths],
            way_out=(
                "`dvc checkout data/raw` brings back what was imported; or remove these files "
                "and their rows in labels.csv"
            ),
        )
        rows = _known(paths, measures, groups)
        _boxes_inside(images, measures)
        if dealt is None:
            dealt = _dealt_as_given(images, rows, everything=list(groups.values()), config=config)
        splits = [dealt[row.sha256] for row in rows]

        attributes = list(images[0].attributes)
        table = write_table(
            _columns(images, measures, rows, splits=splits, labels=labels),
            attributes=attributes,
            payload=out / "payload",
        )
    return Manifest(
        protocol=config.protocol,
        n_images=len(images),
        n_groups=len({row.group for row in rows}),
        n_quarantined=len(quarantined),
        labels=_label_counts(images, splits, parents=parents),
        attributes={
            name: tuple(sorted({image.attributes[name] for image in images})) for name in attributes
        },
        table_sha256=file_sha256(table),
    )


def _few_quarantined(
    quarantined: Sequence[QuarantinedImage], n_images: int, *, max_fraction: float
) -> None:
    n_all = n_images + len(quarantined)
    if len(quarantined) <= max_fraction * n_all:
        return
    share = f"{len(quarantined)} of {n_all} images ({len(quarantined) / n_all:.1%})"
    limit = f"manifest.max_quarantined_fraction ({max_fraction:.1%})"
    lines = [f"{share} are quarantined, more than {limit}:"]
    for kind, n in sorted(Counter(row.kind for row in quarantined).items()):
        one = next(row for row in quarantined if row.kind == kind)
        lines.append(f"  {n} {kind}, such as {one.source}: {one.reason}")
    lines.append(
        f"{QUARANTINE_NAME} in data/raw lists them all: add mended files with "
        "`fgpipe data add PATH`, forget those that are beyond mending with `fgpipe data remove`, "
        "or raise manifest.max_quarantined_fraction in params.yaml"
    )
    raise DataError("\n".join(lines))


def _same_images(paths: Sequence[str], *, on_disk: Sequence[str], raw: Path) -> None:
    """Hold ``labels.csv`` against the files on disk."""
    missing, unnamed = missing_and_unnamed(raw, paths, on_disk=on_disk)
    if missing:
        alike = {_folded(path): path for path in unnamed}
        named_alike = [
            f"{path} (there is {alike[_folded(path)]})" if _folded(path) in alike else path
            for path in missing
        ]
        what = f"labels.csv names {len(missing)} image(s) that are not in {raw}"
        way_out = "bring them back (`dvc checkout data/raw`), or mend or remove their rows"
        raise DataError(listed(what, named_alike, way_out))
    if unnamed:
        what = f"{len(unnamed)} image(s) in {raw} are not in labels.csv"
        raise DataError(listed(what, unnamed, f"move them out of there; {_ADD}"))


def _folded(path: str) -> str:
    """Equal for names that differ in case alone, or in how an accent is written."""
    return unicodedata.normalize("NFC", path).casefold()


def _known(
    paths: Sequence[str], measures: Sequence[ImageMeasures], groups: Mapping[str, GroupRow]
) -> list[GroupRow]:
    """The row of ``groups.csv`` of each image."""
    rows = [groups.get(measure.sha256) for measure in measures]
    unknown = [path for path, row in zip(paths, rows, strict=True) if row is None]
    if unknown:
        what = f"{len(unknown)} image(s) are not in groups.csv (other bytes than were imported?)"
        raise DataError(listed(what, unknown, f"`dvc checkout data/raw` undoes edits; {_ADD}"))
    known = [row for row in rows if row is not None]
    removed = [path for path, row in zip(paths, known, strict=True) if row.status == "removed"]
    if removed:
        what = f"labels.csv names {len(removed)} image(s) that were removed, says groups.csv"
        way_out = "`dvc checkout data/raw` undoes edits; or remove the files and their rows"
        raise DataError(listed(what, removed, way_out))
    return known


def _boxes_inside(images: Sequence[LabelledImage], measures: Sequence[ImageMeasures]) -> None:
    """Hold each box against its image; one that reaches beyond is cut off where it is used."""
    outside = [
        f"{image.path}: box {image.box}, the image is {each.width_px} x {each.height_px} px"
        for image, each in zip(images, measures, strict=True)
        if image.box is not None
        and (image.box.left >= each.width_px or image.box.top >= each.height_px)
    ]
    if outside:
        what = f"{len(outside)} image(s) have a box outside of them"
        raise DataError(listed(what, outside, "mend the boxes in labels.csv, or empty their cells"))


def _dealt(everything: Sequence[GroupRow], config: ManifestConfig) -> dict[str, Split]:
    """The split of all that ever came in, by sha256."""
    fractions, seed = config.fractions, config.seed
    if config.protocol == "random":
        return random_splits(everything, fractions=fractions, seed=seed)
    if config.protocol == "fold":
        n_folds, fold = config.n_folds, config.fold
        return fold_splits(everything, fractions=fractions, seed=seed, n_folds=n_folds, fold=fold)
    return stable_splits(everything, fractions=fractions, seed=seed)


def _dealt_as_given(
    images: Sequence[LabelledImage],
    rows: Sequence[GroupRow],
    *,
    everything: Sequence[GroupRow],
    config: ManifestConfig,
) -> dict[str, Split]:
    given = {
        row.sha256: image.split
        for image, row in zip(images, rows, strict=True)
        if image.split is not None
    }
    if not given:
        raise DataError(
            "manifest.protocol is given, but labels.csv gives no image a split; set the "
            "protocol to stable, or import a source that names splits"
        )
    return given_splits(
        everything,
        given=given,
        removed={row.sha256 for row in everything if row.status == "removed"},
        fractions=config.fractions,
        seed=config.seed,
    )


def _columns(
    images: Sequence[LabelledImage],
    measures: Sequence[ImageMeasures],
    rows: Sequence[GroupRow],
    *,
    splits: Sequence[Split],
    labels: Sequence[str],
) -> dict[str, list[object]]:
    """The table's columns: column by column, for a dictionary a row takes ten times as long."""
    target = {label: position for position, label in enumerate(labels)}
    return {
        "id": [each.sha256[:16] for each in measures],
        "path": [image.path for image in images],
        "label": [image.label for image in images],
        "target": [target[image.label] for image in images],
        "parent": [image.parent for image in images],
        "group": [row.group for row in rows],
        "batch": [row.batch for row in rows],
        "split": list(splits),
        "box": [None if image.box is None else str(image.box) for image in images],
        **dict(zip(ImageMeasures._fields, map(list, zip(*measures, strict=True)), strict=True)),
        **{
            ATTRIBUTE_PREFIX + name: [image.attributes[name] for image in images]
            for name in images[0].attributes
        },
    }


def _label_counts(
    images: Sequence[LabelledImage],
    splits: Sequence[Split],
    *,
    parents: Mapping[str, str | None],
) -> tuple[LabelCount, ...]:
    counts = Counter(zip((image.label for image in images), splits, strict=True))
    return tuple(
        LabelCount(
            label=label,
            parent=parents[label],
            n_images={split: counts[label, split] for split in SPLITS},
        )
        for label in sorted(parents)
    )
