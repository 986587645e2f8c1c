"""What commands that change ``data/raw`` tell a person."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fgpipe.images.quarantine_file import QUARANTINE_NAME

N_SHOWN = 5
"""Most items of a kind that a report shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What came in."""

    source: str
    """Name or folder of the source."""
    n_images: int
    """Images in ``data/raw``."""
    n_labels: int
    """Classes among them."""
    n_groups: int
    """Groups: no two splits share one."""
    n_repeats: int
    """Files of the source left out because another has the same bytes and label."""
    n_quarantined: int
    """Files that are no image to train on."""
    reasons: Mapping[str, int]
    """How many of them for which reason."""
    joined_pairs: tuple[tuple[str, str], ...]
    """Near-duplicates that were put into one group, by path."""
    licence: str | None
    """What the images may be used for, if the source says so."""
    note: str | None
    """What a user of them should know."""
    already_there: bool
    """Whether ``data/raw`` held just this, so that nothing was written."""

    def __str__(self) -> str:
        verb = "already there" if self.already_there else "imported"
        what = f"{self.n_images:,} images of {self.n_labels} classes in {self.n_groups:,} groups"
        lines = [f"{self.source}: {what}, {verb}"]
        lines += source_lines(note=self.note, licence=self.licence)
        lines += repeat_lines(self.n_repeats)
        lines += quarantine_lines(self.n_quarantined, self.reasons)
        if self.joined_pairs:
            pairs = "pair of near-duplicates shares"
            if len(self.joined_pairs) > 1:
                pairs = "pairs of near-duplicates share"
            lines.append(f"  {len(self.joined_pairs)} {pairs} a group:")
            lines += pair_lines(self.joined_pairs)
        return "\n".join(lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class AddReport:
    """What was added to ``data/raw``."""

    source: str
    """Name or folder of the source."""
    batch: int | None
    """Number of the batch; None if nothing came in."""
    n_images: int
    """Images that came in."""
    n_joined: int
    """How many of them joined a group there was."""
    n_there: int
    """Images of the source that were there already."""
    n_repeats: int
    """Files of the source left out because another has the same bytes and label."""
    new_labels: tuple[str, ...]
    """Classes that came in."""
    renamed: tuple[tuple[str, str], ...]
    """Path wanted and path given, where other bytes had it."""
    n_quarantined: int
    """Files that were quarantined."""
    n_quarantined_before: int
    """Files that were in quarantine already."""
    reasons: Mapping[str, int]
    """How many of them for which reason."""
    removed: tuple[str, ...]
    """Images left out because they were removed once."""
    n_total: int
    """Images in ``data/raw``."""
    licence: str | None
    """What the images may be used for, if the source says so."""
    note: str | None
    """What a user of them should know."""

    def __str__(self) -> str:
        what = "no image was added" if self.n_quarantined else "nothing is new"
        lines = [f"{self.source}: {what}"]
        if self.batch is not None:
            what = f"{self.n_images:,} images added as batch {self.batch}"
            lines = [f"{self.source}: {what}, {self.n_total:,} in all"]
        lines += source_lines(note=self.note, licence=self.licence)
        if self.new_labels:
            lines.append(f"  classes that were not there before: {', '.join(self.new_labels)}")
        if self.n_joined:
            lines.append(f"  {self.n_joined:,} of them joined a group that was there")
        if self.n_there:
            lines.append(f"  {self.n_there:,} were there already")
        if self.n_quarantined_before:
            lines.append(f"  {self.n_quarantined_before:,} were quarantined before")
        lines += repeat_lines(self.n_repeats)
        if self.renamed:
            lines.append(f"  {len(self.renamed)} got another name, theirs being taken:")
            lines += some_lines([f"{one} -> {other}" for one, other in self.renamed])
        if self.removed:
            lines.append(f"  {len(self.removed)} were removed once and stay out:")
            lines += some_lines(self.removed)
        lines += quarantine_lines(self.n_quarantined, self.reasons)
        return "\n".join(lines)


def source_lines(*, note: str | None, licence: str | None) -> list[str]:
    """What a source says of its images."""
    said = {"note": note, "licence": licence}
    return [f"  {what}: {text}" for what, text in said.items() if text]


def repeat_lines(n_repeats: int) -> list[str]:
    """A line, if files were left out that repeat others."""
    files = "file with the bytes of another was"
    if n_repeats > 1:
        files = "files with the bytes of another were"
    return [f"  {n_repeats} {files} left out"] if n_repeats else []


def quarantine_lines(n_quarantined: int, reasons: Mapping[str, int]) -> list[str]:
    """How many files were quarantined and why, if any were."""
    if not n_quarantined:
        return []
    lines = [f"  {n_quarantined:,} quarantined, listed in {QUARANTINE_NAME}:"]
    return lines + some_lines([f"{n:,} {reason}" for reason, n in reasons.items()])


def some_lines(items: Sequence[str]) -> list[str]:
    """The first items, one a line, and how many more there are."""
    lines = [f"    {item}" for item in items[:N_SHOWN]]
    if len(items) > N_SHOWN:
        lines.append(f"    and {len(items) - N_SHOWN} more")
    return lines


def pair_lines(pairs: tuple[tuple[str, str], ...]) -> list[str]:
    """The first pairs, one a line, and how many more there are."""
    return some_lines([f"{one} = {other}" for one, other in pairs])
