"""Which images a model has seen while it was made, so that it is not tested on them."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fgpipe.errors import NotReadyError

SEEN_FILE = "seen.csv"

DATA_FILE = "data.csv"
"""Beside it where a model was trained: all the images of its data, and their labels."""

UNLABELLED_FILE = "unlabelled.csv"
"""Where a backbone was pretrained: the images it learnt from that had no label."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Images that a model was pretrained, trained or chosen on."""

    hashes: frozenset[str]
    """Of their bytes."""
    groups: frozenset[str]
    """Of them."""

    @classmethod
    def load(cls, path: Path) -> "Seen":
        """Read ``seen.csv``.

        Raises:
            NotReadyError: If it is not there or lacks a column.
        """
        try:
            with path.open(newline="", encoding="utf-8") as file:
                rows = [(row["sha256"], row["group"]) for row in csv.DictReader(file)]
        except (OSError, KeyError) as error:
            raise NotReadyError(f"{path} cannot be read as a list of images ({error!r})") from None
        return cls(
            hashes=frozenset(sha256 for sha256, _ in rows),
            groups=frozenset(group for _, group in rows),
        )


def seen_groups(
    groups: Sequence[str], hashes: Sequence[str], *, by: Iterable[Seen]
) -> frozenset[str]:
    """Groups that share an image or their name with what a model has seen.

    Args:
        groups: The group of each test image.
        hashes: The hash of each test image.
        by: What each model has seen.
    """
    models = list(by)
    return frozenset(
        group
        for group, sha256 in zip(groups, hashes, strict=True)
        if any(group in seen.groups or sha256 in seen.hashes for seen in models)
    )
