"""A reviewed list of labels is applied: ``labels.csv`` changes, splits do not."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fgpipe.errors import DataError
from fgpipe.images.csv_file import read_rows
from fgpipe.images.files import listed
from fgpipe.images.known_images import known_images
from fgpipe.images.labels_file import LabelledImage, refuse_mixed_parents
from fgpipe.intake.held import Held, read_held, refuse_other_files, stage_tables
from fgpipe.intake.incoming import NOTHING_WRITTEN, refuse_new_classes
from fgpipe.intake.reporting import some_lines
from fgpipe.intake.transaction import exclusive, staged
from fgpipe.records import file_sha256

OLD_LABEL = ("old_label", "given_label")
"""Columns that say what the label was when it was reviewed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RelabelReport:
    """What was relabelled."""

    changes: Mapping[tuple[str, str], int]
    """How many images from which label to which."""
    n_as_there: int
    """Rows whose label the image has already."""
    n_undecided: int
    """Rows without a label."""

    def __str__(self) -> str:
        lines = [f"{sum(self.changes.values()):,} images relabelled"]
        lines += some_lines(
            [f"{one} -> {other}: {n:,}" for (one, other), n in sorted(self.changes.items())]
        )
        if self.n_as_there:
            lines.append(f"  {self.n_as_there:,} have that label already")
        if self.n_undecided:
            lines.append(f"  {self.n_undecided:,} rows have an empty label and were passed over")
        return "\n".join(lines)


def relabel(path: Path, *, raw: Path, new_classes: bool) -> RelabelReport:
    """Give images the labels that a list says.

    The list is a CSV file with the columns ``label``, ``path`` or ``sha256`` (or both),
    and, to be sure, ``old_label`` or ``given_label``; a new class's ``parent`` is taken
    from the column of that name. Rows without a label are passed over.

    Args:
        path: The list.
        raw: The folder ``data/raw``.
        new_classes: Whether a label may be that of no image yet.

    Raises:
        NotReadyError: If there are no images.
        DataError: If a row names no image, an image of other bytes or with another label
            than it says, or a class that is not there, or ``raw`` holds other files than its
            tables name; nothing is changed.
    """
    with exclusive(raw):
        held = read_held(raw)
        refuse_other_files(held, raw=raw)
        if not path.is_file():
            raise DataError(
                f"{path} is no file; give a CSV with the columns path and label, such as "
                "`fgpipe data label-errors` writes"
            )
        columns, rows = read_rows(path, required=["label"])
        if not {"path", "sha256"} & set(columns):
            raise DataError(f"{path} has neither a column 'path' nor 'sha256'")
        decided = [(line, row) for line, row in rows if row["label"]]
        wanted = _resolved(decided, held, raw=raw, name=str(path))
        parents = _parents(decided, held, new_classes=new_classes)
        labels = {image.path: wanted.get(image.path, image.label) for image in held.images}
        after = [
            image._replace(label=labels[image.path], parent=parents[labels[image.path]])
            for image in held.images
        ]
        changes = Counter(
            (old.label, new.label)
            for old, new in zip(held.images, after, strict=True)
            if old.label != new.label
        )
        if len({image.label for image in after}) < 2:
            raise DataError(f"only one class would be left; {NOTHING_WRITTEN}")
        refuse_mixed_parents({image.label: image.parent for image in after}, remark=NOTHING_WRITTEN)
        if changes:
            with staged(raw) as staging:
                stage_tables(staging, images=after)
    return RelabelReport(
        changes=dict(changes),
        n_as_there=len(wanted) - sum(changes.values()),
        n_undecided=len(rows) - len(decided),
    )


def _resolved(
    rows: list[tuple[int, dict[str, str]]], held: Held, *, raw: Path, name: str
) -> dict[str, str]:
    """The label that each image, by path, is to have.

    Raises:
        DataError: Listing every row that is wrong.
    """
    by_path = {image.path: image for image in held.images}
    by_hash: dict[str, str] = {}
    if any(not row.get("path") for _, row in rows):
        by_hash = {each.sha256: each.path for each in known_images(raw)}
    wanted: dict[str, str] = {}
    problems = []
    for line, row in rows:
        path = row.get("path") or by_hash.get(row.get("sha256", ""), "")
        problem = _problem(row, by_path.get(path), raw=raw)
        if problem is None and wanted.setdefault(path, row["label"]) != row["label"]:
            problem = f"{path} is to be both {wanted[path]} and {row['label']}"
        if problem is not None:
            problems.append(f"line {line}: {problem}")
    if problems:
        what = f"{name} has {len(problems)} wrong row(s)"
        way_out = f"{NOTHING_WRITTEN}; paths and labels are those of data/raw/labels.csv"
        raise DataError(listed(what, problems, way_out))
    return wanted


def _problem(row: Mapping[str, str], image: LabelledImage | None, *, raw: Path) -> str | None:
    if image is None:
        return f"{row.get('path') or row.get('sha256') or 'an empty name'} is not in data/raw"
    old = next((row[name] for name in OLD_LABEL if row.get(name)), image.label)
    if image.label not in {old, row["label"]}:
        return f"{image.path} was {old} when it was reviewed and is {image.label}"
    if row.get("path") and row.get("sha256") and file_sha256(raw / image.path) != row["sha256"]:
        return f"{image.path} has other bytes than were reviewed"
    return None


def _parents(
    rows: list[tuple[int, dict[str, str]]], held: Held, *, new_classes: bool
) -> dict[str, str | None]:
    """The parent of every class that there is or that comes.

    Raises:
        DataError: If one is not there and must not be new, or comes with two parents.
    """
    given: dict[str, set[str]] = {}
    for _, row in rows:
        given.setdefault(row["label"], set()).update(filter(None, [row.get("parent")]))
    new = sorted(given.keys() - held.labels)
    if not new_classes:
        refuse_new_classes(new, known=held.labels)
    two = [f"{label}: {', '.join(sorted(given[label]))}" for label in new if len(given[label]) > 1]
    if two:
        what = f"{len(two)} class(es) have several parents"
        raise DataError(listed(what, two, f"{NOTHING_WRITTEN}; give each the same one everywhere"))
    return held.parents | {label: next(iter(given[label]), None) for label in new}
