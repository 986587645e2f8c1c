"""What every source's rows go through: safe paths of their own, files that are there."""

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from fgpipe.errors import DataError
from fgpipe.images.files import EXTENSIONS, listed
from fgpipe.images.labels_file import Box
from fgpipe.images.sources.source import Source, SourceImage
from fgpipe.records import Split

SPLIT_NAMES: Mapping[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "calibration": "calibration",
    "test": "test",
    "testing": "test",
}
"""What publishers call their splits, in lower case, and what fgpipe calls them."""

MAX_NAME_BYTES = 200
"""Longest name of a file or folder that is kept as it is: file systems end at 255 bytes,
and a little is added where two names would be one."""

_UNSAFE = re.compile(r'[\x00-\x1f\x7f\\:*?"<>|]')
_PLAIN_NAME = r"[\w-](?:[\w.+() -]*[\w+()-])?"
_PLAIN = re.compile(rf"(?:{_PLAIN_NAME}/)*{_PLAIN_NAME}", re.ASCII)


def gather(
    name: str,
    images: Iterable[SourceImage],
    *,
    licence: str | None = None,
    note: str | None = None,
    within: Path | None = None,
    seen: bool = False,
) -> Source:
    """A source of these images, checked as far as that takes no look into a file.

    Their paths become safe on every file system and differ by more than case; labels, parents
    and groups lose white space around them and are composed (NFC), as a folder's name may
    be either way.

    Args:
        name: What a report calls it.
        images: In any order.
        licence: What they may be used for.
        note: What a user of them should know.
        within: The folder that every file must be in, as annotations may name any.
        seen: Whether the files are known to be there.

    Raises:
        DataError: If there are none, a file is missing, outside or no image by its name, a
            label is empty, or a label has two parents.
    """
    rows = sorted(images, key=lambda image: (image.path, str(image.file)))
    if not rows:
        raise DataError(f"{name} names no image")
    if within is not None:
        _refuse_outside(name, rows, within)
    if not seen:
        _refuse_missing(name, rows)
    wrong = [row.path for row in rows if not _is_image_name(row.path)]
    if wrong:
        what = f"{name}: {len(wrong):,} files have no image's extension"
        raise DataError(listed(what, wrong, f"known are {' '.join(sorted(EXTENSIONS))}"))
    rows = [_with_clean_names(row) for row in rows]
    _check_labels(name, rows)
    paths = distinct_paths([row.path for row in rows])
    rows = [
        row if row.path == path else replace(row, path=path)
        for row, path in zip(rows, paths, strict=True)
    ]
    return Source(
        name=name,
        images=tuple(sorted(rows, key=lambda image: image.path)),
        licence=licence,
        note=note,
    )


def distinct_paths(paths: Iterable[str]) -> list[str]:
    """The same paths, safe on every file system, where none is another but for case.

    The first of several that would be one keeps its name; others get some digits of their
    own hash before the extension.

    Args:
        paths: With forward slashes, in an order of their own.

    Raises:
        DataError: If a path leads out of its folder.
    """
    taken: set[str] = set()
    found = []
    for given in paths:
        path = given if _PLAIN.fullmatch(given) and len(given) < MAX_NAME_BYTES else _safe(given)
        key = path.casefold()
        repeat = 0
        while key in taken:
            text = given if not repeat else f"{given}\n{repeat}"
            digits = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
            stem, dot, extension = path.rpartition(".")
            key = f"{stem}~{digits}{dot}{extension}".casefold()
            repeat += 1
            if key not in taken:
                path = f"{stem}~{digits}{dot}{extension}"
        taken.add(key)
        found.append(path)
    return found


def distinct_names(names: Mapping[str, str]) -> dict[str, str]:
    """Names by id, with the id behind those that several ids share."""
    counts = Counter(names.values())
    return {id_: name if counts[name] == 1 else f"{name} ({id_})" for id_, name in names.items()}


def box_from_corners(left: float, top: float, right: float, bottom: float) -> Box:
    """A box from the corners that Matlab's users write: from 1, both ends within.

    Raises:
        DataError: If it has no area.
    """
    return Box.parse(f"{left - 1} {top - 1} {right - left + 1} {bottom - top + 1}")


def _safe(path: str) -> str:
    parts = PurePosixPath(unicodedata.normalize("NFC", path)).parts
    if ".." in parts or not parts or parts[0] == "/":
        raise DataError(f"{path!r} is not a path inside its folder")
    return "/".join(_safe_name(part) for part in parts)


def _safe_name(name: str) -> str:
    safe = _UNSAFE.sub("_", name).strip().rstrip(".") or "_"
    if safe.startswith("."):
        safe = f"_{safe}"
    if len(safe.encode("utf-8", "replace")) > MAX_NAME_BYTES:
        stem, extension = os.path.splitext(safe)  # noqa: PTH122 - a name, not a path
        digits = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        safe = f"{stem.encode()[:160].decode(errors='ignore')}~{digits}{extension[:16]}"
    return safe


def _is_image_name(path: str) -> bool:
    return path[path.rfind(".") :].lower() in EXTENSIONS


def _refuse_outside(name: str, rows: list[SourceImage], within: Path) -> None:
    n_parts = len(within.parts)
    outside = [
        str(row.file)
        for row in rows
        if row.file.parts[:n_parts] != within.parts or ".." in row.file.parts[n_parts:]
    ]
    if outside:
        what = f"{name}: {len(outside):,} images are outside of it"
        raise DataError(listed(what, outside, "correct what names them"))


def _with_clean_names(row: SourceImage) -> SourceImage:
    names = (row.label, row.parent or "", row.group or "")
    clean = [name.strip() for name in names]
    if not all(map(str.isascii, names)):
        clean = [unicodedata.normalize("NFC", name) for name in clean]
    if tuple(clean) == names:
        return row
    label, parent, group = clean
    return replace(row, label=label, parent=parent or None, group=group or None)


def _refuse_missing(name: str, rows: list[SourceImage]) -> None:
    files = [os.fspath(row.file) for row in rows]
    missing = [file for file in files if not os.path.isfile(file)]  # noqa: PTH113 - half the time of Path.is_file
    if missing:
        what = f"{name}: {len(missing):,} images are missing"
        raise DataError(listed(what, missing, "bring these files, or take their rows out"))


def _check_labels(name: str, rows: list[SourceImage]) -> None:
    parents: dict[str, str | None] = {}
    for row in rows:
        if not row.label:
            raise DataError(f"{name}: {row.path} has no label")
        if parents.setdefault(row.label, row.parent) != row.parent:
            one, other = parents[row.label] or "none", row.parent or "none"
            raise DataError(f"{name}: {row.label} has two parents, {one} and {other}")
