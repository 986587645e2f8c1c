"""What ``data/raw`` holds, and what changed since a model was last trained on it."""

import csv
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fgpipe.errors import NotReadyError
from fgpipe.images.known_images import known_images
from fgpipe.intake.held import read_held
from fgpipe.serving.seen import DATA_FILE

N_CLASSES_SHOWN = 20
"""Most classes that changed whose figures are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """How the images differ from those that a model was trained on."""

    added: Mapping[str, int]
    """Images by class."""
    removed: Mapping[str, int]
    """Images by the class that they had."""
    relabelled: Mapping[tuple[str, str], int]
    """Images by the class they had and the one they have."""

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.relabelled)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Figures of ``data/raw``."""

    n_images: int
    n_labels: int
    n_groups: int
    n_batches: int
    n_removed: int
    """Images that were forgotten."""
    quarantined: Mapping[str, int]
    """Files by kind."""
    changes: Changes | None
    """Since the last training; None where there is none."""

    def __str__(self) -> str:
        batches = "1 batch" if self.n_batches == 1 else f"{self.n_batches} batches"
        classes = f"{self.n_images:,} images of {self.n_labels} classes"
        lines = [f"data/raw: {classes} in {self.n_groups:,} groups, {batches}"]
        if self.quarantined:
            kinds = ", ".join(f"{n:,} {kind}" for kind, n in sorted(self.quarantined.items()))
            lines.append(f"  quarantined: {kinds} (data/raw/quarantine.csv)")
        if self.n_removed:
            lines.append(f"  removed: {self.n_removed:,}")
        return "\n".join(lines + _change_lines(self.changes))


def standing(raw: Path, *, trained: Path) -> Standing:
    """Count what ``data/raw`` holds and compare it with what was trained on.

    Args:
        raw: The folder ``data/raw``.
        trained: Payload of the train stage.

    Raises:
        NotReadyError: If there are no images.
        DataError: If ``raw`` is not as ``fgpipe data`` left it.

    Cost: Reads every image to hash it.
    """
    held = read_held(raw)
    known = known_images(raw)
    return Standing(
        n_images=len(known),
        n_labels=len(held.labels),
        n_groups=len({image.group for image in known}),
        n_batches=len({row.batch for row in held.groups.values()}),
        n_removed=sum(row.status == "removed" for row in held.groups.values()),
        quarantined=Counter(row.kind for row in held.quarantined),
        changes=_compared(
            {image.sha256: image.label for image in known}, then=_trained_on(trained)
        ),
    )


def _trained_on(payload: Path) -> dict[str, str] | None:
    """Label of every image that the last training was given, by sha256."""
    path = payload / DATA_FILE
    if not path.exists():
        return None
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return {row["sha256"]: row["label"] for row in csv.DictReader(file)}
    except (OSError, KeyError) as error:
        raise NotReadyError(
            f"{path} cannot be read ({error!r}); `dvc checkout data/05_train/payload` mends it"
        ) from None


def _compared(today: Mapping[str, str], *, then: Mapping[str, str] | None) -> Changes | None:
    if then is None:
        return None
    return Changes(
        added=Counter(today[sha256] for sha256 in today.keys() - then.keys()),
        removed=Counter(then[sha256] for sha256 in then.keys() - today.keys()),
        relabelled=Counter(
            (then[sha256], today[sha256])
            for sha256 in today.keys() & then.keys()
            if today[sha256] != then[sha256]
        ),
    )


def _change_lines(changes: Changes | None) -> list[str]:
    if changes is None:
        return ["since the last training: there is none here (data/05_train)"]
    if not changes:
        return ["since the last training: nothing changed"]
    sums = (changes.added, changes.removed, changes.relabelled)
    n_added, n_removed, n_relabelled = (sum(counts.values()) for counts in sums)
    what = f"{n_added:,} images added, {n_removed:,} removed, {n_relabelled:,} relabelled"
    labels = sorted({*changes.added, *changes.removed})
    width = max(map(len, labels), default=0)
    lines = [
        f"{label:<{width}}  +{changes.added.get(label, 0):,} -{changes.removed.get(label, 0):,}"
        for label in labels
    ]
    lines += [f"{one} -> {other}: {n:,}" for (one, other), n in sorted(changes.relabelled.items())]
    more = [f"and {len(lines) - N_CLASSES_SHOWN} more"] if len(lines) > N_CLASSES_SHOWN else []
    return [
        f"since the last training: {what}",
        *(f"  {line}" for line in [*lines[:N_CLASSES_SHOWN], *more]),
    ]
