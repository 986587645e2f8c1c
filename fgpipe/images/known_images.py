"""What ``data/raw`` holds: each image with its label, the hash of its bytes and its group."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from fgpipe.errors import DataError
from fgpipe.images.files import list_names, listed
from fgpipe.images.groups_file import read_groups
from fgpipe.images.labels_file import read_labels
from fgpipe.images.quarantine_file import QUARANTINE_FOLDER
from fgpipe.records import file_sha256


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


def missing_and_unnamed(raw: Path, paths: Iterable[str]) -> tuple[list[str], list[str]]:
    """Where ``labels.csv`` and the files on disk are apart; nothing is read or hashed.

    Args:
        raw: The folder ``data/raw``.
        paths: The images of ``labels.csv``.

    Returns:
        Paths without a file, and images without a row, both sorted.
    """
    named = set(paths)
    on_disk = set(list_names(raw, without=QUARANTINE_FOLDER))
    missing = sorted(path for path in named - on_disk if not (raw / path).is_file())
    return missing, sorted(on_disk - named)


def known_images(raw: Path) -> list[KnownImage]:
    """Every image of ``labels.csv``, sorted by path.

    Raises:
        DataError: If a file is missing, or its bytes are not in ``groups.csv``.
    """
    labelled = sorted(read_labels(raw), key=lambda image: image.path)
    groups = {row.sha256: row.group for row in read_groups(raw)}

    def digest(path: str) -> str | None:
        try:
            return file_sha256(raw / path)
        except OSError:
            return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        hashes = list(
            tqdm(
                pool.map(digest, [image.path for image in labelled]),
                total=len(labelled),
                desc="reading images",
                unit="image",
                disable=None,
            )
        )
    found, problems = [], []
    for image, sha256 in zip(labelled, hashes, strict=True):
        if sha256 is None or sha256 not in groups:
            problem = "cannot be read" if sha256 is None else "is not in groups.csv"
            problems.append(f"{image.path} {problem}")
            continue
        found.append(
            KnownImage(path=image.path, label=image.label, sha256=sha256, group=groups[sha256])
        )
    if problems:
        what = f"{len(problems)} of {len(labelled)} images of labels.csv are not as imported"
        raise DataError(listed(what, problems, "`dvc checkout data/raw` brings them back"))
    return found
