"""What data/raw holds and what changed since a training."""

from pathlib import Path

import pytest

from fgpipe.errors import NotReadyError
from fgpipe.images.labels_file import read_labels
from fgpipe.intake.forgetting import remove_images
from fgpipe.intake.relabelling import relabel
from fgpipe.intake.standing import Standing, standing
from fgpipe.records import file_sha256
from tests.support.intake import add_folder, import_folder
from tests.support.synthetic import LABELS, flawed, write_class_folders

A, B, C, D = LABELS


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = write_class_folders(tmp_path / "mine")
    (folder / A / "bad.png").write_bytes(flawed("text"))
    import_folder(folder, raw=tmp_path / "raw")
    return tmp_path / "raw"


def train(raw: Path, payload: Path) -> None:
    """Leave what the train stage says about its data."""
    payload.mkdir()
    rows = [f"{file_sha256(raw / image.path)},{image.label}" for image in read_labels(raw)]
    (payload / "data.csv").write_text("\n".join(["sha256,label", *rows]) + "\n")


def test_what_there_is_is_counted(raw: Path, tmp_path: Path) -> None:
    found = standing(raw, trained=tmp_path)

    assert (found.n_images, found.n_labels, found.n_groups, found.n_batches) == (16, 4, 16, 1)
    assert found.quarantined == {"damaged": 1}
    assert str(found).splitlines() == [
        "data/raw: 16 images of 4 classes in 16 groups, 1 batch",
        "  quarantined: 1 damaged (data/raw/quarantine.csv)",
        "since the last training: there is none here (data/05_train)",
    ]


def test_what_changed_since_the_last_training_is_told_by_class(raw: Path, tmp_path: Path) -> None:
    train(raw, tmp_path / "payload")
    unchanged = standing(raw, trained=tmp_path / "payload")
    more = write_class_folders(tmp_path / "more", n_images_per_label=2, seed=5)
    add_folder(more, raw=raw)
    remove_images([f"images/{A}/000.png"], raw=raw, seen_here=raw, trained_on=lambda _: ())
    (tmp_path / "list.csv").write_text(f"path,label\nimages/{B}/000.png,{C}\n")
    relabel(tmp_path / "list.csv", raw=raw, new_classes=False)

    found: Standing = standing(raw, trained=tmp_path / "payload")

    assert "nothing changed" in str(unchanged)
    assert found.changes is not None
    assert found.changes.added == dict.fromkeys(LABELS, 2)
    assert found.changes.removed == {A: 1}
    assert found.changes.relabelled == {(B, C): 1}
    assert (found.n_batches, found.n_removed) == (2, 1)
    assert str(found).splitlines()[2:] == [
        "  removed: 1",
        "since the last training: 8 images added, 1 removed, 1 relabelled",
        f"  {A}  +2 -1",
        f"  {B}  +2 -0",
        f"  {C}   +2 -0",
        f"  {D}   +2 -0",
        f"  {B} -> {C}: 1",
    ]


def test_many_classes_do_not_flood_the_screen() -> None:
    from fgpipe.intake.standing import Changes

    changes = Changes(added={f"c{n:02d}": 1 for n in range(50)}, removed={}, relabelled={})
    figures = Standing(
        n_images=1,
        n_labels=2,
        n_groups=1,
        n_batches=1,
        n_removed=0,
        quarantined={},
        changes=changes,
    )

    lines = str(figures).splitlines()

    assert len(lines) == 23
    assert lines[-1] == "  and 30 more"


def test_nothing_there_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match="`fgpipe data import PATH`"):
        standing(tmp_path / "raw", trained=tmp_path)
