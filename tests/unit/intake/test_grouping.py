"""Groups of one batch."""

from hypothesis import given
from hypothesis import strategies as st

from fgpipe.images.labels_file import LabelledImage
from fgpipe.intake.grouping import GroupedBatch, group_added, group_batch


def image(path: str, *, group: str | None = None, **attributes: str) -> LabelledImage:
    return LabelledImage(path=path, label="a", parent=None, group=group, attributes=attributes)


def test_given_groups_merge_over_near_duplicates_and_take_the_smallest_hash() -> None:
    images = [image(f"{i}", group=group) for i, group in enumerate(["x", "x", None, None, "y"])]
    images += [image(f"more {i}", group="y") for i in range(200)]
    hashes = ["9", "5", "7", "3", "6", *(f"8{i:03d}" for i in range(200))]

    rows = group_batch(images, sha256s=hashes, pairs=[(0, 2)], batch=4)

    groups = {row.sha256: row.group for row in rows}
    assert [groups[sha256] for sha256 in ("9", "5", "7", "3", "6")] == ["5", "5", "5", "3", "6"]
    assert {row.group for row in rows} == {"5", "3", "6"}
    assert [row.sha256 for row in rows] == sorted(hashes)
    assert {row.batch for row in rows} == {4}


def test_a_value_cannot_pass_for_two_levels_of_a_stratum() -> None:
    (row,) = group_batch([image("0", size="s|m")], sha256s=["0"], pairs=[], batch=1)

    assert row.stratum == "a|s/m"


N_THERE, N_NEW = 6, 8


@st.composite
def additions(draw: st.DrawFn) -> tuple[list[str], list[str | None], list[tuple[int, int]]]:
    """Groups of what is there, given groups of what comes, and near-duplicates."""
    there = draw(st.lists(st.sampled_from("PQR"), min_size=N_THERE, max_size=N_THERE))
    given_ = draw(st.lists(st.sampled_from([None, "x", "y"]), min_size=N_NEW, max_size=N_NEW))
    ends = st.tuples(st.integers(0, N_THERE + N_NEW - 1), st.integers(N_THERE, N_THERE + N_NEW - 1))
    pairs = draw(st.lists(ends.filter(lambda pair: pair[0] < pair[1]), max_size=10, unique=True))
    return there, given_, pairs


def added(
    there: list[str], given_: list[str | None], pairs: list[tuple[int, int]], order: list[int]
) -> tuple[dict[str, str], set[str]]:
    """Group by hash of what came in, and hashes of bridges, the new images in some order."""
    place = {old: new for new, old in enumerate(order)}

    def moved(i: int) -> int:
        return i if i < N_THERE else N_THERE + place[i - N_THERE]

    moved_pairs = [tuple(sorted((moved(i), moved(j)))) for i, j in pairs]
    result: GroupedBatch = group_added(
        [image(f"new {n}", group=given_[n]) for n in order],
        sha256s=[f"{n}" for n in order],
        there=[(image(f"old {n}"), group) for n, group in enumerate(there)],
        pairs=[(i, j) for i, j in moved_pairs],
        batch=2,
    )
    bridges = {str(order[position]) for position in result.bridges}
    return {row.sha256: row.group for row in result.rows}, bridges


@given(additions(), st.permutations(range(N_NEW)))
def test_no_addition_joins_two_groups_whatever_its_order(
    world: tuple[list[str], list[str | None], list[tuple[int, int]]], order: list[int]
) -> None:
    there, given_, pairs = world

    groups, bridges = added(there, given_, pairs, list(range(N_NEW)))
    again = added(there, given_, pairs, order)

    assert again == (groups, bridges)
    assert groups.keys() | bridges == {str(n) for n in range(N_NEW)}
    assert not groups.keys() & bridges
    for i, j in pairs:
        new = str(j - N_THERE)
        if i < N_THERE:
            assert groups.get(new, there[i]) == there[i]
        else:
            other = str(i - N_THERE)
            assert (new in bridges) == (other in bridges)
            assert groups.get(new) == groups.get(other)
    for n, name in enumerate(given_):
        for m, other_name in enumerate(given_):
            if name is not None and name == other_name:
                assert groups.get(str(n)) == groups.get(str(m))


def test_what_is_near_to_nothing_is_a_group_of_its_own() -> None:
    groups, bridges = added(list("PQRPQR"), [None] * N_NEW, [(0, 6), (7, 8)], list(range(N_NEW)))

    assert groups == {"0": "P", "1": "1", "2": "1"} | {str(n): str(n) for n in range(3, 8)}
    assert bridges == set()


def test_the_reason_of_a_bridge_names_an_image_of_each_group() -> None:
    new = [image("a"), image("b")]
    there = [(image(f"old {n}"), group) for n, group in enumerate("PQR")]

    result = group_added(
        new, sha256s=["0", "1"], there=there, pairs=[(0, 3), (1, 4), (2, 4), (3, 4)], batch=2
    )

    reason = "belongs to 3 groups that must stay apart (near old 0 and old 1 and 1 more)"
    assert result.bridges == {0: reason, 1: reason}
    assert result.rows == ()
