"""A change of data/raw happens wholly or not at all."""

import json
import shutil
from pathlib import Path

import pytest

from fgpipe.errors import NotReadyError
from fgpipe.intake import transaction
from fgpipe.intake.transaction import exclusive, finish, is_unfinished, staged
from tests.support.intake import content


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    raw = tmp_path / "data" / "raw"
    (raw / "images" / "old").mkdir(parents=True)
    (raw / "labels.csv").write_text("before")
    (raw / "images" / "old" / "a.png").write_text("a")
    return raw


def change(raw: Path) -> None:
    """Stage one of everything, but do not carry it out."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transaction, "finish", lambda _: False)
        with staged(raw) as staging:
            staging.place("images/new/b.png").write_text("b")
            staging.write("labels.csv", "after")
            staging.write("groups.csv", "groups")
            staging.remove("images/old/a.png")


def test_what_is_staged_changes_nothing_until_it_is_carried_out(raw: Path) -> None:
    before = content(raw)

    change(raw)
    while_staged = content(raw)
    finished = finish(raw)

    assert while_staged == before
    assert finished
    assert sorted(content(raw)) == ["groups.csv", "images/new/b.png", "labels.csv"]
    assert (raw / "labels.csv").read_text() == "after"
    assert not (raw / "images" / "old").exists()
    assert [path.name for path in raw.parent.iterdir()] == ["raw"]
    assert not finish(raw)


def test_an_exception_drops_the_change(raw: Path) -> None:
    before = content(raw.parent)

    def half() -> None:
        with staged(raw) as staging:
            staging.write("labels.csv", "after")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        half()

    assert content(raw.parent) == before


def test_labels_csv_is_moved_last(raw: Path) -> None:
    change(raw)

    plan = json.loads((raw.parent / ".raw.ready" / "plan.json").read_text())

    assert plan["move"] == ["images/new/b.png", "groups.csv", "labels.csv"]


@pytest.mark.parametrize("n_moved", [0, 1, 2, 3])
def test_whatever_was_moved_already_the_rest_follows(raw: Path, n_moved: int) -> None:
    change(raw)
    ready = raw.parent / ".raw.ready"
    for path in json.loads((ready / "plan.json").read_text())["move"][:n_moved]:
        (raw / path).parent.mkdir(parents=True, exist_ok=True)
        (ready / "files" / path).replace(raw / path)
    waiting = is_unfinished(raw)

    with exclusive(raw) as finished:
        assert finished

    assert waiting
    assert not is_unfinished(raw)
    assert (raw / "labels.csv").read_text() == "after"
    assert (raw / "images" / "new" / "b.png").read_text() == "b"
    assert not (raw / "images" / "old" / "a.png").exists()


@pytest.mark.parametrize("how", ["other labels", "moved file gone"])
def test_a_change_that_does_not_fit_any_more_is_dropped_with_a_word(raw: Path, how: str) -> None:
    change(raw)
    if how == "other labels":
        (raw / "labels.csv").write_text("by hand")
    else:
        (raw.parent / ".raw.ready" / "files" / "images" / "new" / "b.png").unlink()
    before = content(raw)

    with pytest.raises(NotReadyError, match="run it again"):
        finish(raw)

    assert content(raw) == before
    assert [path.name for path in raw.parent.iterdir()] == ["raw"]


def test_a_change_of_a_folder_that_is_gone_is_dropped(raw: Path) -> None:
    change(raw)
    shutil.rmtree(raw)

    assert not finish(raw)
    assert list(raw.parent.iterdir()) == []
