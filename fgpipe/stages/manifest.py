"""Stage 01: one row an image, with its split.

Reads ``data/raw`` once: every file is decoded to its end and measured over all cores.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from fgpipe.config import ManifestConfig
from fgpipe.errors import DataError
from fgpipe.images.files import ImageMeasures, list_images, listed, measure_all
from fgpipe.images.groups_file import GroupRow, read_groups
from fgpipe.images.labels_file import LABELS_NAME, LabelledImage, read_labels
from fgpipe.images.splits import fold_splits, random_splits, stable_splits
from fgpipe.images.table import ATTRIBUTE_PREFIX, write_table
from fgpipe.ports import Ports
from fgpipe.records import SPLITS, LabelCount, Manifest, Split, file_sha256

_IMPORT = "`fgpipe data import FOLDER` into a data/raw that was removed before brings them in"


def manifest(*, raw: Path, config: ManifestConfig, out: Path, ports: Ports) -> Manifest:  # noqa: ARG001 - every stage is given the ports
    """Describe every image of ``data/raw`` and give each its split.

    Args:
        raw: The folder ``data/raw``.
        config: How images are split.
        out: The stage's folder.
        ports: Not used.

    Raises:
        DataError: If ``labels.csv`` and the files on disk are not the same images, a file
            is not whole or not in ``groups.csv``, or there are fewer than two classes.
    """
    images = read_labels(raw)
    labels = sorted({image.label for image in images})
    if len(labels) < 2:
        raise DataError(
            f"{raw / LABELS_NAME} names one class only, {labels[0]}; "
            "a classifier needs at least two"
        )
    _same_images(images, raw=raw)
    groups = {row.sha256: row for row in read_groups(raw)}
    measures = measure_all(
        raw,
        [image.path for image in images],
        description="measuring images",
        way_out="mend these files, or remove them and their rows in labels.csv",
    )
    _all_known(images, measures, groups)
    splits = _splits(list(groups.values()), config)

    attributes = list(images[0].attributes)
    rows = [
        _row(image, measure, target=labels.index(image.label), groups=groups, splits=splits)
        for image, measure in zip(images, measures, strict=True)
    ]
    table = write_table(rows, attributes=attributes, payload=out / "payload")
    return Manifest(
        protocol=config.protocol,
        n_images=len(rows),
        n_groups=len({row["group"] for row in rows}),
        labels=_label_counts(images, [splits[measure.sha256] for measure in measures]),
        attributes={
            name: tuple(sorted({image.attributes[name] for image in images})) for name in attributes
        },
        table_sha256=file_sha256(table),
    )


def _same_images(images: Sequence[LabelledImage], *, raw: Path) -> None:
    """Hold ``labels.csv`` against the files on disk."""
    named = {image.path for image in images}
    on_disk = {path.relative_to(raw).as_posix() for path in list_images(raw)}
    missing = sorted(path for path in named - on_disk if not (raw / path).is_file())
    if missing:
        what = f"labels.csv names {len(missing)} image(s) that are not in {raw}"
        way_out = "bring them back (`dvc checkout data/raw`), or remove their rows"
        raise DataError(listed(what, missing, way_out))
    unnamed = sorted(on_disk - named)
    if unnamed:
        what = f"{len(unnamed)} image(s) in {raw} are not in labels.csv"
        raise DataError(listed(what, unnamed, f"remove them, or: {_IMPORT}"))


def _all_known(
    images: Sequence[LabelledImage],
    measures: Sequence[ImageMeasures],
    groups: Mapping[str, GroupRow],
) -> None:
    unknown = [
        image.path
        for image, measure in zip(images, measures, strict=True)
        if measure.sha256 not in groups
    ]
    if unknown:
        what = f"{len(unknown)} image(s) are not in groups.csv (other bytes than were imported?)"
        raise DataError(listed(what, unknown, f"`dvc checkout data/raw` undoes edits; {_IMPORT}"))


def _splits(rows: Sequence[GroupRow], config: ManifestConfig) -> dict[str, Split]:
    match config.protocol:
        case "stable":
            return stable_splits(rows, fractions=config.fractions, seed=config.seed)
        case "random":
            return random_splits(rows, fractions=config.fractions, seed=config.seed)
        case "fold":
            return fold_splits(
                rows,
                fractions=config.fractions,
                seed=config.seed,
                n_folds=config.n_folds,
                fold=config.fold,
            )


def _row(
    image: LabelledImage,
    measures: ImageMeasures,
    *,
    target: int,
    groups: Mapping[str, GroupRow],
    splits: Mapping[str, Split],
) -> dict[str, object]:
    return {
        "id": measures.sha256[:16],
        "path": image.path,
        "label": image.label,
        "target": target,
        "parent": image.parent,
        "group": groups[measures.sha256].group,
        "split": splits[measures.sha256],
        "sha256": measures.sha256,
        "phash": measures.phash,
        "width_px": measures.width_px,
        "height_px": measures.height_px,
        "channels": measures.channels,
        "n_bytes": measures.n_bytes,
        "brightness": measures.brightness,
        "contrast": measures.contrast,
        **{ATTRIBUTE_PREFIX + name: value for name, value in image.attributes.items()},
    }


def _label_counts(
    images: Sequence[LabelledImage], splits: Sequence[Split]
) -> tuple[LabelCount, ...]:
    counts = Counter((image.label, split) for image, split in zip(images, splits, strict=True))
    parents = {image.label: image.parent for image in images}
    return tuple(
        LabelCount(
            label=label,
            parent=parents[label],
            n_images={split: counts[label, split] for split in SPLITS},
        )
        for label in sorted(parents)
    )
