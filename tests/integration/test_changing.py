"""``fgpipe data ...`` on a real project: killed at any instant, told wrong things."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from fgpipe.__main__ import main
from fgpipe.adapters import dvc_runner
from fgpipe.images.quarantine_file import read_quarantine
from fgpipe.intake import transaction
from fgpipe.intake.transaction import is_unfinished
from tests.support.intake import add_folder, content, import_folder
from tests.support.synthetic import LABELS, draw, flawed, write_class_folders
from tests.support.tiny_project import git

pytestmark = pytest.mark.integration

KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from fgpipe.intake import incoming, transaction
from tests.support.intake import add_folder

more, start, folder = map(Path, sys.argv[1:])
left = 0

def counted(function):
    def count(*arguments, **keywords):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **keywords)
    return count

def status_after(n_calls):
    global left
    raw = Path(shutil.copytree(start, folder / str(n_calls))) / "raw"
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    left = n_calls
    for name in ("mkdir", "replace", "rmdir", "unlink"):
        setattr(Path, name, counted(getattr(Path, name)))
    shutil.copyfile = counted(shutil.copyfile)
    shutil.rmtree = counted(shutil.rmtree)
    add_folder(more, raw=raw)
    os._exit(0)

n_calls = 0
while (status := status_after(n_calls)) == signal.SIGKILL:
    n_calls += 1
sys.exit(status)
"""
"""Adds a folder over and over, each time in a fork that kills itself at one call later of
those that change the disk, until one comes through. Imports are paid once."""

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with images, in ``data/raw``, and more of them, in ``more``."""
    root = tmp_path_factory.mktemp("start")
    import_folder(write_class_folders(root / "first"), raw=root / "data" / "raw")
    more = write_class_folders(root / "more", n_images_per_label=1, seed=3)
    (more / LABELS[0] / "bad.png").write_bytes(flawed("truncated_png"))
    for name in ("params.yaml", "dvc.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, root / name)
    git("init", "--quiet", root=root)
    dvc_runner.initialise(root)
    return root


def test_adding_that_is_killed_anywhere_ends_as_if_it_had_not_been(
    start: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", KILLED, *map(str, (start / "more", start / "data", tmp_path))]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    *killed, whole = sorted(tmp_path.iterdir(), key=lambda path: int(path.name))
    waiting = [is_unfinished(data / "raw") for data in killed]

    for data in killed:
        add_folder(start / "more", raw=data / "raw")

    assert done.returncode == 0, done.stderr
    assert len(killed) > 25
    assert sum(waiting) >= 3
    expected = content(whole)
    for data in killed:
        assert content(data) == expected, data.name
        assert [path.name for path in data.iterdir()] == ["raw"], data.name


def fgpipe(*arguments: str, root: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fgpipe", "data", *arguments]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


@pytest.fixture
def project(start: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(start, tmp_path / "project"))


def test_images_are_added_relabelled_and_removed_and_each_is_a_version(project: Path) -> None:
    raw = project / "data" / "raw"
    path = f"images/{LABELS[0]}/000.png"
    (project / "list.csv").write_text(f"path,label\n{path},{LABELS[1]}\n")
    commands = [
        ("add", "more"),
        ("relabel", "list.csv"),
        ("remove", f"data/raw/{path}"),
        ("status",),
    ]

    said = {}
    versions = []
    for command in commands:
        done = fgpipe(*command, root=project)
        assert done.returncode == 0, done.stderr
        said[command[0]] = done.stdout
        versions += re.findall(r"data/raw is version (\w+\.dir)", done.stdout)

    assert "4 images added as batch 2, 20 in all" in said["add"]
    assert "1 quarantined, listed in quarantine.csv" in said["add"]
    assert f"{LABELS[0]} -> {LABELS[1]}: 1" in said["relabel"]
    assert "no model was trained on them" in said["remove"]
    assert "data/raw: 19 images of 4 classes in 19 groups, 2 batches" in said["status"]
    assert len(set(versions)) == 3
    assert "version" not in said["status"]
    assert not (raw / path).exists()
    assert len(read_quarantine(raw)) == 1


def test_what_a_killed_command_left_is_finished_and_versioned_by_status(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = project / "data" / "raw"
    with monkeypatch.context() as patch:
        patch.setattr(transaction, "finish", lambda _: False)
        add_folder(project / "more", raw=raw)
    waited = is_unfinished(raw)

    done = fgpipe("status", root=project)

    assert waited
    assert not is_unfinished(raw)
    assert done.returncode == 0, done.stderr
    assert "data/raw: 20 images of 4 classes" in done.stdout
    assert "a change that was cut short has been completed" in done.stdout
    assert "noted in data/raw.dvc" in done.stdout


def test_changes_by_hand_are_told_to_be_no_version(project: Path) -> None:
    labels = project / "data" / "raw" / "labels.csv"
    before = fgpipe("status", root=project)
    dvc_runner.DvcRunner(project).add(Path("data/raw"))
    after = fgpipe("status", root=project)
    text = labels.read_text().replace(f"000.png,{LABELS[0]}", f"000.png,{LABELS[1]}")
    labels.unlink()
    labels.write_text(text)

    by_hand = fgpipe("status", root=project)

    told = ["is no version yet" in done.stdout for done in (before, after, by_hand)]
    assert told == [True, False, True]


WRONG = {
    "add a folder that is not there": (("add", "nowhere"), "nowhere does not exist"),
    "add a class that is not there": (("add", "strange"), "`--new-classes` lets them in"),
    "add another label": (("add", "relabelled"), "are in data/raw with another label"),
    "add as an unknown kind": (("add", "more", "--as", "x"), "no source is called 'x'"),
    "remove an unknown path": (("remove", "images/x.png"), "images/x.png is not in data/raw"),
    "remove by a list that is not there": (("remove", "--from", "x.txt"), "x.txt cannot be read"),
    "relabel by a list that is not there": (("relabel", "x.csv"), "x.csv is no file"),
    "relabel an unknown path": (("relabel", "wrong.csv"), "line 2: images/x.png is not in"),
    "remote of an unknown kind": (("remote", "ftp://x"), "no remote that is known"),
    "push to nowhere": (("push",), "no remote is set"),
    "pull from nowhere": (("pull",), "no remote is set"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_is_one_message_with_exit_code_2_and_changes_nothing(
    project: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], case: str
) -> None:
    command, says = WRONG[case]
    for name, label, seed in (("strange", "crack", 7), ("relabelled", LABELS[1], 0)):
        for position, at in enumerate((label, LABELS[0])):
            (project / name / at).mkdir(parents=True)
            pixels = draw(LABELS[0], group=40 * seed + position, seed=seed)
            Image.fromarray(pixels).save(project / name / at / "a.png")
    first = project / "data" / "raw" / "images" / LABELS[0] / "000.png"
    shutil.copy(first, project / "relabelled" / LABELS[1] / "a.png")
    (project / "wrong.csv").write_text(f"path,label\nimages/x.png,{LABELS[0]}\n")
    before = content(project / "data")
    config = (project / ".dvc" / "config").read_bytes()

    monkeypatch.chdir(project)
    monkeypatch.setattr(sys, "argv", ["fgpipe", "data", *command])

    with pytest.raises(SystemExit) as caught:  # here: a process each would be half the time
        main()

    said = capfd.readouterr().err
    assert caught.value.code == 2, said
    assert says in said
    assert said.count("fgpipe: ") == 1
    assert "Traceback" not in said
    assert content(project / "data") == before
    assert (project / ".dvc" / "config").read_bytes() == config
