"""Images are forgotten, and what they held in place stays."""

from collections.abc import Collection
from pathlib import Path

import pytest

from fgpipe.errors import DataError
from fgpipe.images.groups_file import read_groups
from fgpipe.images.labels_file import read_labels
from fgpipe.images.quarantine_file import read_quarantine
from fgpipe.images.splits import stable_splits
from fgpipe.intake.forgetting import RemovalReport, names_in, remove_images
from fgpipe.ports import SeenBy
from fgpipe.records import file_sha256
from tests.adapters.registry import FakeRegistry
from tests.support.intake import add_folder, content, import_folder
from tests.support.synthetic import LABELS, flawed, write_class_folders


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Four images of each label, and a quarantined one."""
    folder = write_class_folders(tmp_path / "mine")
    (folder / LABELS[0] / "bad.png").write_bytes(flawed("text"))
    import_folder(folder, raw=tmp_path / "data" / "raw")
    return tmp_path / "data" / "raw"


def nobody(_: Collection[str]) -> tuple[SeenBy, ...]:
    return ()


def remove(raw: Path, *names: str) -> RemovalReport:
    return remove_images(names, raw=raw, seen_here=raw / "none.csv", trained_on=nobody)


ONE = f"images/{LABELS[0]}/000.png"
OTHER = f"images/{LABELS[1]}/001.jpg"


def test_bytes_and_label_go_and_a_tombstone_stays(raw: Path) -> None:
    fractions = {"train": 0.4, "validation": 0.2, "calibration": 0.2, "test": 0.2}
    sha256 = file_sha256(raw / ONE)
    before = {row.sha256: row for row in read_groups(raw)}
    splits = stable_splits(before.values(), fractions=fractions, seed=0)

    report = remove(raw, ONE)

    assert (report.paths, report.n_total) == ((ONE,), 15)
    assert not (raw / ONE).exists()
    assert ONE not in (raw / "labels.csv").read_text()
    after = {row.sha256: row for row in read_groups(raw)}
    assert list(after) == list(before)
    assert after[sha256].status == "removed"
    assert [s for s in after if after[s] != before[s]] == [sha256]
    assert stable_splits(after.values(), fractions=fractions, seed=0) == splits


def test_images_are_named_by_path_by_path_from_the_project_or_by_hash(
    raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(raw.parent.parent)
    third = f"images/{LABELS[2]}/000.png"
    sha256 = file_sha256(raw / OTHER)

    report = remove(raw, f"data/raw/{ONE}", sha256[:9], third, ONE)

    assert sorted(report.paths) == sorted([ONE, OTHER, third])
    assert not any((raw / path).exists() for path in (ONE, OTHER, third))


@pytest.mark.parametrize("by", ["path", "source", "hash"])
def test_a_quarantined_file_goes_without_a_tombstone(raw: Path, by: str) -> None:
    (row,) = read_quarantine(raw)
    groups = read_groups(raw)

    report = remove(raw, {"path": row.path, "source": row.source, "hash": row.sha256[:8]}[by])

    assert (report.paths, report.n_quarantined) == ((), 1)
    assert not (raw / "quarantine").exists()
    assert not (raw / "quarantine.csv").exists()
    assert read_groups(raw) == groups


def test_names_of_nothing_are_all_told_and_nothing_is_removed(raw: Path) -> None:
    before = content(raw.parent)

    with pytest.raises(DataError) as caught:
        remove(raw, ONE, "images/x.png", "0123456789ab", "abc")

    message = str(caught.value)
    assert message.startswith("3 of 4 names are those of no image:")
    assert all(name in message for name in ("images/x.png", "0123456789ab", "abc"))
    assert content(raw.parent) == before


def test_what_was_deleted_by_hand_does_not_become_a_version(raw: Path) -> None:
    (raw / OTHER).unlink()
    before = content(raw.parent)

    with pytest.raises(DataError, match=rf"1 image\(s\) are not there:\n  {OTHER}\n.*dvc checkout"):
        remove(raw, ONE)

    assert content(raw.parent) == before


def test_what_was_removed_already_is_told_so(raw: Path) -> None:
    sha256 = file_sha256(raw / ONE)
    remove(raw, ONE)

    with pytest.raises(DataError, match="was removed already"):
        remove(raw, sha256)


def test_one_class_alone_is_not_left(raw: Path) -> None:
    before = content(raw.parent)

    with pytest.raises(DataError, match="fewer than two classes left"):
        remove(raw, *[i.path for i in read_labels(raw) if i.label != LABELS[0]])

    assert content(raw.parent) == before


def test_a_class_that_loses_its_last_image_is_named(raw: Path) -> None:
    report = remove(raw, *[i.path for i in read_labels(raw) if i.label == LABELS[0]])

    assert report.lost_labels == (LABELS[0],)
    assert f"classes without any image left: {LABELS[0]}" in str(report)


def test_models_that_were_trained_on_them_are_listed(raw: Path, tmp_path: Path) -> None:
    registry = FakeRegistry()
    seen = {1: [ONE], 2: [OTHER], 3: [ONE, OTHER], 4: None}
    for version, paths in seen.items():
        bundle = tmp_path / f"bundle{version}"
        bundle.mkdir()
        registry.register(bundle, bundle_sha256=str(version), train_sha256="t", tags={})
        if paths is not None:
            rows = [f"{file_sha256(raw / path)},g,train" for path in paths]
            (bundle / "seen.csv").write_text("\n".join(["sha256,group,split", *rows]) + "\n")
    registry.promote(3)

    report = remove_images(
        [ONE], raw=raw, seen_here=tmp_path / "bundle1" / "seen.csv", trained_on=registry.trained_on
    )

    assert [(s.version, s.n_images, s.aliases) for s in report.seen_by] == [
        (1, 1, ()),
        (3, 1, ("champion",)),
        (4, None, ()),
    ]
    assert "model version 3 (champion) was trained on 1 of them" in str(report)
    assert "model version 4: what it was trained on cannot be had" in str(report)
    assert "the model in data/05_train was trained on 1" in str(report)
    assert "no model was trained" not in str(report)
    assert "no model was trained on them" in str(remove(raw, OTHER))


def test_a_registry_that_cannot_be_asked_stops_the_removal(raw: Path) -> None:
    before = content(raw.parent)

    def unreachable(_: Collection[str]) -> tuple[SeenBy, ...]:
        raise DataError("no registry")

    with pytest.raises(DataError, match="no registry"):
        remove_images([ONE], raw=raw, seen_here=raw, trained_on=unreachable)

    assert content(raw.parent) == before


def test_a_removed_image_does_not_come_back(raw: Path, tmp_path: Path) -> None:
    remove(raw, ONE)

    report = add_folder(tmp_path / "mine", raw=raw)

    assert report.removed == (ONE,)
    assert report.n_there == 15


def test_names_are_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a.png\n\n  b c.png \n", encoding="utf-8-sig")
    (tmp_path / "empty.txt").write_text("\n")

    assert names_in(tmp_path / "list.txt") == ["a.png", "b c.png"]
    for name in ("empty.txt", "none.txt"):
        with pytest.raises(DataError, match=name):
            names_in(tmp_path / name)
