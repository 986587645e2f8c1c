"""What an import tells a person."""

from dataclasses import dataclass

N_PAIRS_SHOWN = 5
"""Most pairs of near-duplicates that a report shows."""


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
        if self.note:
            lines.append(f"  note: {self.note}")
        if self.licence:
            lines.append(f"  licence: {self.licence}")
        if self.n_repeats:
            files = "file with the bytes of another was"
            if self.n_repeats > 1:
                files = "files with the bytes of another were"
            lines.append(f"  {self.n_repeats} {files} left out")
        if self.joined_pairs:
            pairs = "pair of near-duplicates shares"
            if len(self.joined_pairs) > 1:
                pairs = "pairs of near-duplicates share"
            lines.append(f"  {len(self.joined_pairs)} {pairs} a group:")
            lines += pair_lines(self.joined_pairs)
        return "\n".join(lines)


def pair_lines(pairs: tuple[tuple[str, str], ...]) -> list[str]:
    """The first pairs, one a line, and how many more there are."""
    lines = [f"    {one} = {other}" for one, other in pairs[:N_PAIRS_SHOWN]]
    if len(pairs) > N_PAIRS_SHOWN:
        lines.append(f"    and {len(pairs) - N_PAIRS_SHOWN} more")
    return lines
