"""What ``data/raw`` holds, read whole and checked, before it is changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fgpipe.errors import DataError, NotReadyError
from fgpipe.images.files import ImageMeasures, all_usable, listed
from fgpipe.images.groups_file import GROUPS_NAME, GroupRow, groups_text, read_groups
from fgpipe.images.known_images import missing_and_unnamed, names_on_disk
from fgpipe.images.labels_file import LABELS_NAME, LabelledImage, labels_text, read_labels
from fgpipe.images.measure_cache import MeasureCache
from fgpipe.images.quarantine_file import (
    QUARANTINE_NAME,
    QuarantinedImage,
    quarantine_text,
    read_quarantine,
)
from fgpipe.intake.transaction import Staging

_WAY_OUT = "`dvc checkout data/raw` brings the last version back"


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The tables of ``data/raw``."""

    images: tuple[LabelledImage, ...]
    """Rows of ``labels.csv``."""
    groups: Mapping[str, GroupRow]
    """Rows of ``groups.csv`` by sha256."""
    quarantined: tuple[QuarantinedImage, ...]
    """Rows of ``quarantine.csv``."""

    @property
    def labels(self) -> set[str]:
        """The classes that have images."""
        return {image.label for image in self.images}

    @property
    def parents(self) -> dict[str, str | None]:
        """The coarser class of each."""
        return {image.label: image.parent for image in self.images}


def read_held(raw: Path) -> Held:
    """Read the tables of ``data/raw``.

    Raises:
        NotReadyError: If there is none.
        DataError: If it is not as ``fgpipe data`` left it.
    """
    if not (raw / LABELS_NAME).exists():
        raise NotReadyError(
            f"{raw} holds no images; `fgpipe data import PATH` brings the first ones in, "
            "`fgpipe data pull` those of a remote"
        )
    return Held(
        images=tuple(read_labels(raw)),
        groups={row.sha256: row for row in read_groups(raw)},
        quarantined=tuple(read_quarantine(raw)),
    )


def refuse_other_files(held: Held, *, raw: Path) -> None:
    """Refuse images that the tables do not name, and names without an image.

    What changes ``data/raw`` makes a version of all that lies there.

    Raises:
        DataError: Naming them.
    """
    paths = [image.path for image in held.images]
    missing, unnamed = missing_and_unnamed(raw, paths, on_disk=names_on_disk(raw))
    if unnamed:
        what = f"{len(unnamed)} image(s) in {raw} are not in labels.csv"
        way_out = "move them out of data/raw, then `fgpipe data add` them"
        raise DataError(listed(what, unnamed, way_out))
    if missing:
        raise DataError(listed(f"{len(missing)} image(s) are not there", missing, _WAY_OUT))


def measure_held(held: Held, *, raw: Path, cache: MeasureCache) -> list[ImageMeasures]:
    """Measures of every image there is, checked to be what came in.

    Args:
        held: What the tables say.
        raw: The folder ``data/raw``.
        cache: Measures of contents seen before: these are read, but not decoded.

    Raises:
        DataError: If files and tables do not agree.
    """
    refuse_other_files(held, raw=raw)
    paths = [image.path for image in held.images]
    results = cache.measure_all(raw, paths, description=f"reading {len(paths):,} images")
    measures = all_usable(results, way_out=_WAY_OUT)
    changed = [
        path
        for path, measure in zip(paths, measures, strict=True)
        if measure.sha256 not in held.groups or held.groups[measure.sha256].status != "active"
    ]
    if changed:
        what = f"{len(changed)} image(s) have other bytes than came in"
        raise DataError(listed(what, changed, _WAY_OUT))
    return measures


def stage_tables(
    staging: Staging,
    *,
    images: Sequence[LabelledImage] | None = None,
    groups: Sequence[GroupRow] | None = None,
    quarantined: Sequence[QuarantinedImage] | None = None,
) -> None:
    """Stage the tables that change."""
    if images is not None:
        staging.write(LABELS_NAME, labels_text(images))
    if groups is not None:
        staging.write(GROUPS_NAME, groups_text(groups))
    if quarantined:
        staging.write(QUARANTINE_NAME, quarantine_text(quarantined))
    elif quarantined is not None:
        staging.remove(QUARANTINE_NAME)
