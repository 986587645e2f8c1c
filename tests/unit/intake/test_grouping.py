"""Near-duplicates and groups of one batch."""

from itertools import combinations
from pathlib import Path

import pytest
from PIL import Image

from fgpipe.images.files import measure
from fgpipe.images.labels_file import LabelledImage
from fgpipe.intake import grouping
from fgpipe.intake.grouping import group_batch, near_duplicate_pairs
from tests.support.synthetic import LABELS, draw


def image(path: str, *, group: str | None = None, **attributes: str) -> LabelledImage:
    return LabelledImage(path=path, label="a", parent=None, group=group, attributes=attributes)


def test_every_pair_of_many_copies_is_found_however_they_are_chunked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{number}.png" for number in range(7)]
    for number, name in enumerate(names):
        group = 0 if number % 2 == 0 else number
        pixels = draw(LABELS[0], group=group).copy()
        pixels[0, 0] = number
        Image.fromarray(pixels).save(tmp_path / name)
    phashes = [measure(tmp_path / name).phash for name in names]
    monkeypatch.setattr(grouping, "_PAIRS_AT_ONCE", 4)

    pairs = near_duplicate_pairs(tmp_path, paths=names, phashes=phashes)

    assert pairs == list(combinations([0, 2, 4, 6], 2))


def test_flat_images_are_no_near_duplicates_of_each_other(tmp_path: Path) -> None:
    names = ["black.png", "grey.png", "white.png"]
    for name, value in zip(names, (0, 100, 255), strict=True):
        Image.new("L", (50, 50), value).save(tmp_path / name)
    phashes = [measure(tmp_path / name).phash for name in names]

    pairs = near_duplicate_pairs(tmp_path, paths=names, phashes=phashes)

    assert set(phashes) == {"0" * 16}
    assert pairs == []


def test_no_image_at_all_has_no_pair(tmp_path: Path) -> None:
    assert near_duplicate_pairs(tmp_path, paths=[], phashes=[]) == []


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
