"""What ``data/raw`` holds: each image with its label, the hash of its bytes and its group."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fgpipe.errors import DataError
from fgpipe.images.files import list_names, listed
from fgpipe.images.groups_file import read_groups
from fgpipe.images.labels_file import read_labels
from fgpipe.images.measuring import hash_all
from fgpipe.images.quarantine_file import QUARANTINE_FOLDER


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownImage:
    """One image of ``labels.csv``."""

    path: str
    """Relative to ``data/raw``."""
    label: str
    """Its class."""
    sha256: str
    """Hash of its bytes."""
    group: str
    """What it is in ``groups.csv``."""


def names_on_disk(raw: Path) -> list[str]:
    """Paths of the images that ``data/raw`` holds, but for those in quarantine; sorted."""
    return list_names(raw, without=QUARANTINE_FOLDER)


def missing_and_unnamed(
    raw: Path, paths: Iterable[str], *, on_disk: Iterable[str]
) -> tuple[list[str], list[str]]:
    """Where ``labels.csv`` and the files on disk are apart; nothing is read or hashed.

    Args:
        raw: The folder ``data/raw``.
        paths: The images of ``labels.csv``.
        on_disk: What :func:`names_on_disk` gave.

    Returns:
        Paths without a file, and images without a row, both sorted.
    """
    named, there = set(paths), set(on_disk)
    missing = sorted(path for path in named - there if not (raw / path).is_file())
    return missing, sorted(there - named)


def known_images(raw: Path) -> list[KnownImage]:
    """Every image of ``labels.csv``, sorted by path.

    Raises:
        DataError: If a file is missing, or its bytes are not in ``groups.csv``.
    """
    labelled = sorted(read_labels(raw), key=lambda image: image.path)
    groups = {row.sha256: row.group for row in read_groups(raw)}
    hashes = hash_all(raw, [image.path for image in labelled], description="reading images")
    found, problems = [], []
    for image, sha256 in zip(labelled, hashes, strict=True):
        if isinstance(sha256, DataError):
            problems.append(str(sha256))
            continue
        if sha256 not in groups:
            problems.append(f"{image.path} is not in groups.csv")
            continue
        found.append(
            KnownImage(path=image.path, label=image.label, sha256=sha256, group=groups[sha256])
        )
    if problems:
        what = f"{len(problems)} of {len(labelled)} images of labels.csv are not as imported"
        raise DataError(listed(what, problems, "`dvc checkout data/raw` brings them back"))
    return found
