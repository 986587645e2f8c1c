"""Images are forgotten: their bytes and labels go, a tombstone in ``groups.csv`` stays.

The tombstone keeps the splits of all others as they are, and the content out.
"""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from fgpipe.errors import DataError, NotReadyError
from fgpipe.images.files import listed
from fgpipe.images.known_images import known_images
from fgpipe.images.quarantine_file import QuarantinedImage
from fgpipe.intake.held import Held, read_held, refuse_other_files, stage_tables
from fgpipe.intake.incoming import NOTHING_WRITTEN, hash_of
from fgpipe.intake.reporting import some_lines
from fgpipe.intake.transaction import exclusive, staged
from fgpipe.ports import SeenBy
from fgpipe.serving.seen import Seen

MIN_DIGITS = 8
"""Fewest digits of a sha256 that name an image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovalReport:
    """What was forgotten."""

    paths: tuple[str, ...]
    """Images that are gone."""
    n_quarantined: int
    """Quarantined files that are gone."""
    n_total: int
    """Images left."""
    lost_labels: tuple[str, ...]
    """Classes that have no image any more."""
    trained_here: int
    """How many of the images the model in ``data/05_train`` was trained on."""
    seen_by: tuple[SeenBy, ...]
    """Registered models that were trained on them."""

    def __str__(self) -> str:
        what = f"{len(self.paths):,} images removed, {self.n_total:,} left"
        lines = [what, *some_lines(self.paths)]
        if self.n_quarantined:
            lines.append(f"  {self.n_quarantined:,} quarantined files removed")
        if self.lost_labels:
            lines.append(f"  classes without any image left: {', '.join(self.lost_labels)}")
        for seen in self.seen_by:
            name = f"model version {seen.version}"
            if seen.aliases:
                name += f" ({', '.join(seen.aliases)})"
            if seen.n_images is None:
                lines.append(f"  {name}: what it was trained on cannot be had from the registry")
            else:
                lines.append(f"  {name} was trained on {seen.n_images:,} of them")
        if self.trained_here:
            lines.append(f"  the model in data/05_train was trained on {self.trained_here:,}")
        if self.seen_by or self.trained_here:
            lines.append("  those models keep what they learned: train and promote another")
        elif self.paths:
            lines.append("  no model was trained on them")
        lines.append("  earlier versions of the data keep them until `dvc gc --workspace` is run")
        return "\n".join(lines)


def remove_images(
    names: Sequence[str],
    *,
    raw: Path,
    seen_here: Path,
    trained_on: Callable[[Collection[str]], tuple[SeenBy, ...]],
) -> RemovalReport:
    """Forget images.

    Args:
        names: Paths relative to ``data/raw`` (of images, or where quarantined ones are or
            would be), or first digits of their sha256.
        raw: The folder ``data/raw``.
        seen_here: What the model trained last has seen, if there is that file.
        trained_on: Asks the registry which models have seen images.

    Raises:
        NotReadyError: If there are no images.
        DataError: If a name is that of no image or of several, fewer than two classes would
            be left, or ``raw`` holds other files than its tables name; nothing is removed.
    """
    with exclusive(raw):
        held = read_held(raw)
        refuse_other_files(held, raw=raw)
        images, bad = _found(names, held, raw=raw)
        left = [image for image in held.images if image.path not in images]
        if len({image.label for image in left}) < 2:
            raise DataError(
                f"without these {len(images)} images there are fewer than two classes left; "
                f"{NOTHING_WRITTEN}"
            )
        sha256s = set(images.values())
        seen_by = trained_on(sha256s) if sha256s else ()
        groups = [
            row._replace(status="removed") if row.sha256 in sha256s else row
            for row in held.groups.values()
        ]
        rows = [row for row in held.quarantined if row not in bad]
        with staged(raw) as staging:
            stage_tables(
                staging,
                images=left if images else None,
                groups=groups if images else None,
                quarantined=rows if bad else None,
            )
            kept = {row.path for row in rows}
            for path in [*images, *{row.path for row in bad if row.path} - kept]:
                staging.remove(path)
    return RemovalReport(
        paths=tuple(images),
        n_quarantined=len(bad),
        n_total=len(left),
        lost_labels=tuple(sorted(held.labels - {image.label for image in left})),
        trained_here=_n_seen(seen_here, sha256s),
        seen_by=seen_by,
    )


def names_in(path: Path) -> list[str]:
    """The names that a text file lists, one a line.

    Raises:
        DataError: If it cannot be read or lists none.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as UTF-8 ({error})") from None
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise DataError(f"{path} names no image; give one path or sha256 a line")
    return names


def _found(
    names: Sequence[str], held: Held, *, raw: Path
) -> tuple[dict[str, str], list[QuarantinedImage]]:
    """Images by path with their hash, and rows of the quarantine.

    Raises:
        DataError: If a name is none, or none's alone.
    """
    by_path = {image.path for image in held.images}
    wanted = [_relative(name, raw=raw) for name in names]
    hashes = {name for name in wanted if name not in by_path and _is_hash(name)}
    path_of = {}
    if any(row.sha256.startswith(tuple(hashes)) for row in held.groups.values() if hashes):
        path_of = {each.sha256: each.path for each in known_images(raw)}
    images: dict[str, None] = {}
    bad: list[QuarantinedImage] = []
    problems = []
    for name in wanted:
        if name in by_path:
            images[name] = None
            continue
        rows = [row for row in held.quarantined if _is_called(row, name)]
        matches = sorted(each for each in path_of if name in hashes and each.startswith(name))
        if len(matches) + len({row.sha256 for row in rows}) > 1:
            problems.append(f"{name} begins the sha256 of several images; give more digits")
        elif matches:
            images[path_of[matches[0]]] = None
        elif rows:
            bad += [row for row in rows if row not in bad]
        else:
            problems.append(_not_found(name, held))
    if problems:
        what = f"{len(problems)} of {len(names)} names are those of no image"
        way_out = f"{NOTHING_WRITTEN}; give paths relative to data/raw, or a sha256's first digits"
        raise DataError(listed(what, problems, way_out))
    digests = {path: hash_of(raw / path) for path in images}
    changed = [path for path, sha256 in digests.items() if sha256 not in held.groups]
    if changed:
        what = f"{len(changed)} of these images have other bytes than came in"
        way_out = f"{NOTHING_WRITTEN}; `dvc checkout data/raw` brings the last version back"
        raise DataError(listed(what, changed, way_out))
    return digests, bad


def _relative(name: str, *, raw: Path) -> str:
    """The name, less the folder ``data/raw`` that a shell's completion puts before it."""
    path = Path(name)
    if raw in path.absolute().parents and not (raw / name).exists():
        return path.absolute().relative_to(raw).as_posix()
    return name.removeprefix("./")


def _is_hash(name: str) -> bool:
    return re.fullmatch(rf"[0-9a-f]{{{MIN_DIGITS},64}}", name) is not None


def _is_called(row: QuarantinedImage, name: str) -> bool:
    if name in {row.path, row.source}:
        return True
    return _is_hash(name) and row.sha256.startswith(name)


def _not_found(name: str, held: Held) -> str:
    gone = [row for row in held.groups.values() if row.status == "removed"]
    if _is_hash(name) and any(row.sha256.startswith(name) for row in gone):
        return f"{name} was removed already"
    return f"{name} is not in data/raw"


def _n_seen(path: Path, sha256s: Collection[str]) -> int:
    try:
        return len(Seen.load(path).hashes.intersection(sha256s))
    except NotReadyError:
        return 0
