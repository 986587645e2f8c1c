"""The laws of the splits."""

from collections import Counter
from collections.abc import Collection, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fgpipe.images.groups_file import GroupRow
from fgpipe.images.splits import (
    fold_splits,
    given_splits,
    random_splits,
    stable_splits,
)
from fgpipe.records import SPLITS, Split

FRACTIONS: dict[Split, float] = {
    "train": 0.6,
    "validation": 0.1,
    "calibration": 0.1,
    "test": 0.2,
}

rows = st.lists(
    st.builds(
        GroupRow,
        sha256=st.integers(0, 10**6).map(str),
        group=st.integers(0, 12).map("group{}".format),
        batch=st.integers(1, 3),
        stratum=st.sampled_from(["a|x", "a|y", "b|x", "c"]),
        status=st.just("active"),
    ),
    max_size=60,
    unique_by=lambda row: row.sha256,
)


wishes = st.sampled_from([None, None, *SPLITS])


def given_to(
    images: list[GroupRow], wish: Mapping[str, Split], *, removed: Collection[str] = ()
) -> dict[str, Split]:
    return given_splits(images, given=wish, removed=removed, fractions=FRACTIONS, seed=0)


def wished(draw: st.DrawFn, images: list[GroupRow]) -> dict[str, Split]:
    """Splits that some of the images came with."""
    drawn = {row.sha256: draw(wishes) for row in images}
    return {sha256: split for sha256, split in drawn.items() if split is not None}


def world(*, n_groups: int, images_per_group: int = 3, label: str = "a") -> list[GroupRow]:
    return [
        GroupRow(
            sha256=f"{label}{g}-{i}", group=f"{label}{g}", batch=1, stratum=label, status="active"
        )
        for g in range(n_groups)
        for i in range(images_per_group)
    ]


@given(rows, st.integers(0, 5))
def test_no_group_is_in_two_splits(images: list[GroupRow], seed: int) -> None:
    splits = [
        stable_splits(images, fractions=FRACTIONS, seed=seed),
        fold_splits(images, fractions=FRACTIONS, seed=seed, n_folds=3, fold=1),
    ]

    for split in splits:
        assert split.keys() == {row.sha256 for row in images}
        pairs = {(row.group, split[row.sha256]) for row in images}
        assert len(pairs) == len({row.group for row in images})


@given(rows, st.randoms(use_true_random=False))
def test_splits_do_not_depend_on_the_order_of_rows(images: list[GroupRow], random) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001 - hypothesis names no type for it
    shuffled = list(images)
    random.shuffle(shuffled)

    for split in (
        lambda rows: stable_splits(rows, fractions=FRACTIONS, seed=0),
        lambda rows: random_splits(rows, fractions=FRACTIONS, seed=0),
        lambda rows: fold_splits(rows, fractions=FRACTIONS, seed=0, n_folds=4, fold=2),
    ):
        assert split(images) == split(shuffled)


@given(rows, rows)
def test_what_is_added_later_moves_no_image(images: list[GroupRow], more: list[GroupRow]) -> None:
    known = {row.sha256 for row in images}
    added = [row._replace(batch=4) for row in more if row.sha256 not in known]

    before = stable_splits(images, fractions=FRACTIONS, seed=0)
    after = stable_splits(images + added, fractions=FRACTIONS, seed=0)

    assert {sha256: after[sha256] for sha256 in before} == before


def test_later_images_of_a_group_follow_it() -> None:
    images = world(n_groups=20)
    later = [row._replace(sha256=f"late {row.sha256}", batch=2) for row in images]

    split = stable_splits(images + later, fractions=FRACTIONS, seed=0)

    assert all(split[row.sha256] == split[f"late {row.sha256}"] for row in images)


def test_later_images_of_a_group_count_towards_its_splits_share() -> None:
    images = world(n_groups=20, images_per_group=1)
    first = stable_splits(images, fractions=FRACTIONS, seed=0)
    grown = next(row for row in images if first[row.sha256] == "test")
    more = [grown._replace(sha256=f"more {i}", batch=2) for i in range(40)]
    fresh = [
        row._replace(sha256=f"fresh {row.sha256}", group=f"fresh {row.group}", batch=2)
        for row in images
    ]

    split = stable_splits(images + more + fresh, fractions=FRACTIONS, seed=0)

    assert "test" not in {split[row.sha256] for row in fresh}


@given(st.lists(st.integers(4, 30), min_size=1, max_size=6), st.integers(0, 10))
def test_a_class_in_four_groups_is_in_every_split(n_groups: list[int], seed: int) -> None:
    images = [
        row
        for position, n in enumerate(n_groups)
        for row in world(n_groups=n, label=f"class{position}")
    ]

    split = stable_splits(images, fractions=FRACTIONS, seed=seed)

    for position in range(len(n_groups)):
        held = {split[row.sha256] for row in images if row.stratum == f"class{position}"}
        assert held == set(SPLITS)


def test_many_equal_groups_are_dealt_in_the_very_proportions() -> None:
    images = world(n_groups=100) + world(n_groups=50, label="b")

    split = stable_splits(images, fractions=FRACTIONS, seed=3)

    counts = Counter((row.stratum, split[row.sha256]) for row in images)
    for label, n_images in (("a", 300), ("b", 150)):
        for name in SPLITS:
            assert counts[label, name] == pytest.approx(FRACTIONS[name] * n_images, abs=3)


def test_another_seed_deals_otherwise() -> None:
    images = world(n_groups=30)

    one, other = (stable_splits(images, fractions=FRACTIONS, seed=seed) for seed in (0, 1))

    assert one != other


@given(st.integers(1, 200), st.integers(0, 3))
def test_a_random_split_is_exact_in_each_stratum(n_images: int, seed: int) -> None:
    images = world(n_groups=1, images_per_group=n_images)

    split = random_splits(images, fractions=FRACTIONS, seed=seed)

    counts = Counter(split.values())
    for name in SPLITS:
        assert abs(counts[name] - FRACTIONS[name] * n_images) < 1


def test_a_random_split_parts_groups() -> None:
    split = random_splits(world(n_groups=1, images_per_group=50), fractions=FRACTIONS, seed=0)

    assert set(split.values()) == set(SPLITS)


def test_each_image_is_tested_in_just_one_fold_and_folds_are_equal() -> None:
    images = world(n_groups=40) + world(n_groups=20, label="b")

    folds = [
        fold_splits(images, fractions=FRACTIONS, seed=0, n_folds=4, fold=fold) for fold in range(4)
    ]

    tested = Counter(sha256 for fold in folds for sha256, name in fold.items() if name == "test")
    assert set(tested.values()) == {1}
    assert len(tested) == len(images)
    for fold in folds:
        counts = Counter(fold.values())
        assert counts["test"] == pytest.approx(45, abs=3)
        assert counts["train"] == pytest.approx(135 * 0.75, abs=4)
        assert counts["validation"] == pytest.approx(135 * 0.125, abs=4)


@settings(max_examples=20)
@given(rows, st.sets(st.integers(0, 59)))
def test_where_no_split_is_given_they_are_the_stable_ones_whatever_was_removed(
    images: list[GroupRow], positions: set[int]
) -> None:
    removed = {row.sha256 for i, row in enumerate(images) if i in positions}

    splits = given_to(images, {}, removed=removed)

    assert splits == stable_splits(images, fractions=FRACTIONS, seed=0)


@settings(max_examples=30)
@given(rows, rows, st.data())
def test_given_splits_are_kept_and_what_is_added_moves_no_image(
    images: list[GroupRow], more: list[GroupRow], data: st.DataObject
) -> None:
    known = {row.sha256 for row in images}
    added = [row._replace(batch=4) for row in more if row.sha256 not in known]
    wish = wished(data.draw, images)
    if not wish:
        return

    before = given_to(images, wish)
    after = given_to(images + added, wish | wished(data.draw, added))

    assert {sha256: after[sha256] for sha256 in before} == before
    assert all(before[sha256] == split for sha256, split in wish.items() if split != "train")


@settings(max_examples=30)
@given(rows, st.data(), st.randoms(use_true_random=False))
def test_given_splits_do_not_depend_on_the_order_of_rows(  # type: ignore[no-untyped-def]
    images: list[GroupRow],
    data: st.DataObject,
    random,  # noqa: ANN001 - hypothesis names no type for it
) -> None:
    wish = wished(data.draw, images)
    shuffled = list(images)
    random.shuffle(shuffled)

    assert given_to(images, wish) == given_to(shuffled, wish)


@settings(max_examples=30)
@given(rows, st.data())
def test_under_given_a_group_is_divided_only_if_its_images_came_so(
    images: list[GroupRow], data: st.DataObject
) -> None:
    of_group = {row.group: data.draw(wishes) for row in images}
    wish = {row.sha256: of_group[row.group] for row in images if of_group[row.group]}

    splits = given_to(images, wish)  # type: ignore[arg-type] # None is left out

    pairs = {(row.group, splits[row.sha256]) for row in images}
    assert len(pairs) == len({row.group for row in images})


def test_validation_and_calibration_are_carved_out_of_train_in_each_class() -> None:
    images = world(n_groups=40) + world(n_groups=20, label="b")
    wish: dict[str, Split] = {
        row.sha256: "test" if int(row.group[1:]) % 2 else "train" for row in images
    }

    splits = given_to(images, wish)

    for row in images:
        assert (splits[row.sha256] == "test") == (wish[row.sha256] == "test")
    counts = Counter((row.stratum, splits[row.sha256]) for row in images)
    for label, n_of_train in (("a", 60), ("b", 30)):
        for split in ("validation", "calibration"):
            assert counts[label, split] == pytest.approx(n_of_train / 8, abs=3)
            assert counts[label, split] > 0


def test_nothing_is_carved_where_all_splits_are_given() -> None:
    images = world(n_groups=40)
    wish = {row.sha256: SPLITS[int(row.group[1:]) % 4] for row in images}

    assert given_to(images, wish) == wish


def test_a_test_split_that_nobody_gave_is_carved_too() -> None:
    images = world(n_groups=40)
    wish: dict[str, Split] = {
        row.sha256: "validation" if int(row.group[1:]) % 4 == 0 else "train" for row in images
    }

    splits = given_to(images, wish)

    counts = Counter(splits.values())
    assert counts["validation"] == 30
    assert min(counts[split] for split in ("train", "calibration", "test")) > 5


def test_images_without_a_split_follow_their_group_or_are_dealt_but_never_to_a_given_test() -> None:
    images = world(n_groups=60)
    wish: dict[str, Split] = {
        row.sha256: "test" if int(row.group[1:]) < 10 else "train"
        for row in images
        if int(row.group[1:]) < 20 and row.sha256.endswith("-0")
    }

    splits = given_to(images, wish)

    for row in images:
        number = int(row.group[1:])
        if number < 10:
            assert splits[row.sha256] == "test"
        elif number < 20:
            assert splits[row.sha256] == splits[f"{row.group}-0"] != "test"
    left = Counter(splits[row.sha256] for row in images if int(row.group[1:]) >= 20)
    assert set(left) == {"train", "validation", "calibration"}
    assert left["train"] == pytest.approx(120 * 0.75, abs=4)


def test_a_group_that_came_for_two_splits_stays_divided() -> None:
    images = world(n_groups=1, images_per_group=4)
    names = [row.sha256 for row in images]
    wish: dict[str, Split] = {names[0]: "train", names[1]: "test", names[2]: "test"}

    splits = given_to(images, wish)

    assert splits == wish | {names[3]: "test"}


def test_a_removed_image_that_came_for_training_moves_no_other() -> None:
    images = world(n_groups=80, images_per_group=1)
    wish: dict[str, Split] = {
        row.sha256: "test" if int(row.group[1:]) % 3 == 0 else "train" for row in images
    }
    gone = {row.sha256 for row in images if int(row.group[1:]) % 3 == 1 and "1" in row.group}

    before = given_to(images, wish)
    left = {sha256: split for sha256, split in wish.items() if sha256 not in gone}
    after = given_to(images, left, removed=gone)

    assert {name: after[name] for name in left} == {name: before[name] for name in left}
