"""Which images of one batch belong together, and to which of the groups there are.

Within a batch groups merge freely over near-duplicates and given names. What is added
later joins the one group there is that it is near to, for groups that are dealt to splits
already cannot merge; what is near to several of them is a bridge.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from fgpipe.errors import DataError
from fgpipe.images.groups_file import GroupRow
from fgpipe.images.labels_file import LabelledImage
from fgpipe.images.near_duplicates import joined
from fgpipe.images.sources.source import SourceImage
from fgpipe.images.splits import SEPARATOR
from fgpipe.intake.reporting import pair_lines

MAX_BRIDGING_FRACTION = 0.01
"""Share of the images that near-duplicates may join to another given group."""

Repeats = Mapping[int, Sequence[SourceImage]]
"""Files left out because an image, told by its position, has the same bytes."""


def group_batch(
    images: Sequence[LabelledImage],
    *,
    sha256s: Sequence[str],
    pairs: Sequence[tuple[int, int]],
    batch: int,
    repeats: Repeats = MappingProxyType({}),
) -> list[GroupRow]:
    """Rows of ``groups.csv`` for one batch: given groups, merged over near-duplicates.

    Args:
        images: The batch.
        sha256s: Hash of each image's bytes.
        pairs: Positions of near-duplicates.
        batch: Number of the batch.
        repeats: Files of the same bytes, by position; their given groups are the image's too.

    Returns:
        One row an image, sorted by sha256.

    Raises:
        DataError: If repeats and near-duplicates join more than 1 % of the images to another given
            group: then either the groups are wrong or the images are too alike to tell
            copies from them.
    """
    _refuse_bridges(images, pairs, repeats)
    links = [*pairs, *_links_by_name(_names(images, repeats))]
    stands_for = joined(range(len(images)), links)
    ids: dict[int, str] = {}
    for position, sha256 in enumerate(sha256s):
        root = stands_for[position]
        ids[root] = min(ids.get(root, sha256), sha256)
    rows = [
        GroupRow(
            sha256=sha256,
            group=ids[stands_for[position]],
            batch=batch,
            stratum=_stratum(image),
            status="active",
        )
        for position, (image, sha256) in enumerate(zip(images, sha256s, strict=True))
    ]
    return sorted(rows, key=lambda row: row.sha256)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupedBatch:
    """What became of the images of a batch that is added."""

    rows: tuple[GroupRow, ...]
    """Of those that came in, sorted by sha256."""
    bridges: Mapping[int, str]
    """Why the others did not, by position."""


def group_added(
    images: Sequence[LabelledImage],
    *,
    sha256s: Sequence[str],
    there: Sequence[tuple[LabelledImage, str]],
    pairs: Sequence[tuple[int, int]],
    batch: int,
    repeats: Repeats = MappingProxyType({}),
    named: Sequence[tuple[str, str]] = (),
) -> GroupedBatch:
    """Groups of a batch that is added to others.

    Args:
        images: The batch.
        sha256s: Hash of each image's bytes.
        there: Every image there is, and its group.
        pairs: Positions of near-duplicates, counted through ``there`` and then ``images``,
            the second of each in ``images``.
        batch: Number of the batch.
        repeats: Files of the same bytes, by position; their given groups are the image's too.
        named: Names that content which is there is now given, and its group.
    """
    n_there = len(there)
    links = [(i - n_there, j - n_there) for i, j in pairs if i >= n_there]
    names = _names(images, repeats)
    links += _links_by_name(names)
    stands_for = joined(range(len(images)), links)
    parts: dict[int, list[int]] = {}
    for position in range(len(images)):
        parts.setdefault(stands_for[position], []).append(position)
    reasons = _reasons(names, there=there, pairs=pairs, named=named)
    splits_of: dict[str, set[str]] = {}
    for image, group in there:
        if image.split is not None:
            splits_of.setdefault(group, set()).add(image.split)

    rows: list[GroupRow] = []
    bridges: dict[int, str] = {}
    for part in parts.values():
        touched: dict[str, set[str]] = {}
        for position in part:
            for group, reason in reasons.get(position, ()):
                touched.setdefault(group, set()).add(reason)
        if len(touched) > 1:
            bridges |= dict.fromkeys(part, _bridge_reason(touched))
            continue
        group, near = next(iter(touched.items()), ("", set()))
        splits = splits_of.get(group, set())
        for position in part:
            image = images[position]
            if splits and image.split is not None and image.split not in splits:
                bridges[position] = _split_reason(image.split, splits, near)
                continue
            rows.append(
                GroupRow(
                    sha256=sha256s[position],
                    group=group or min(sha256s[each] for each in part),
                    batch=batch,
                    stratum=_stratum(image),
                    status="active",
                )
            )
    return GroupedBatch(rows=tuple(sorted(rows, key=lambda row: row.sha256)), bridges=bridges)


def _names(images: Sequence[LabelledImage], repeats: Repeats) -> list[list[str]]:
    """The given groups of each image and of the files that repeat it."""
    names = (
        [image.group, *(each.group for each in repeats.get(i, ()))]
        for i, image in enumerate(images)
    )
    return [[name for name in of_one if name is not None] for of_one in names]


def _links_by_name(names: Sequence[Sequence[str]]) -> Iterator[tuple[int, int]]:
    """Each image of a given group with the first of it."""
    first_of: dict[str, int] = {}
    for position, of_one in enumerate(names):
        for name in of_one:
            yield first_of.setdefault(name, position), position


def _stratum(image: LabelledImage) -> str:
    parts = [image.label, *image.attributes.values()]
    return SEPARATOR.join(part.replace(SEPARATOR, "/") for part in parts)


def _refuse_bridges(
    images: Sequence[LabelledImage], pairs: Sequence[tuple[int, int]], repeats: Repeats
) -> None:
    alike: list[tuple[LabelledImage, LabelledImage | SourceImage]]
    alike = [(images[i], images[j]) for i, j in pairs]
    alike += [(images[i], repeat) for i, of_one in repeats.items() for repeat in of_one]
    bridges = tuple(
        (one.path, other.path)
        for one, other in alike
        if None not in {one.group, other.group} and one.group != other.group
    )
    n_joined = len({path for pair in bridges for path in pair})
    if n_joined > MAX_BRIDGING_FRACTION * len(images):
        what = f"copies or near-duplicates join {n_joined} of {len(images)} images to another"
        lines = [
            f"{what} given group, more than {MAX_BRIDGING_FRACTION:.0%}:",
            *pair_lines(bridges),
            "mend the groups, or leave one image of each pair out",
        ]
        raise DataError("\n".join(lines))


def _reasons(
    names: Sequence[Sequence[str]],
    *,
    there: Sequence[tuple[LabelledImage, str]],
    pairs: Sequence[tuple[int, int]],
    named: Sequence[tuple[str, str]],
) -> dict[int, list[tuple[str, str]]]:
    """For each image that belongs to groups there are: which, and by what."""
    found: dict[int, list[tuple[str, str]]] = {}
    for i, j in pairs:
        if i < len(there):
            old, group = there[i]
            found.setdefault(j - len(there), []).append((group, old.path))
    groups_of: dict[str, set[str]] = {}
    for name, group in [*((old.group, group) for old, group in there), *named]:
        if name is not None:
            groups_of.setdefault(name, set()).add(group)
    for position, of_one in enumerate(names):
        for name in of_one:
            for group in groups_of.get(name, ()):
                found.setdefault(position, []).append((group, f"the group named {name}"))
    return found


def _bridge_reason(touched: Mapping[str, set[str]]) -> str:
    examples = sorted(min(reasons) for reasons in touched.values())
    more = f" and {len(examples) - 2} more" if len(examples) > 2 else ""
    what = f"belongs to {len(examples)} groups that must stay apart"
    return f"{what} (near {examples[0]} and {examples[1]}{more})"


def _split_reason(split: str, splits: set[str], near: set[str]) -> str:
    given = " and ".join(sorted(splits))
    return f"came as {split}, but belongs to a group that came as {given} (near {min(near)})"
