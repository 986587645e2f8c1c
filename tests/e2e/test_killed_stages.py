"""kill -9 in a stage, the same command again: the bytes of an undisturbed run."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.params import change_params
from tests.support.real_project import environment

pytestmark = pytest.mark.e2e

STAGES = ("manifest", "validate", "preprocess", "pretrain", "train", "evaluate", "gate", "package")


def run(stage: str, *, root: Path) -> None:
    subprocess.run([sys.executable, "-m", "fgpipe", stage], cwd=root, env=environment(), check=True)


def contents(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted((root / "data").glob("0*/**/*"))
        if path.is_file()
    }


def start_and_kill(stage: str, *, root: Path, when: Path) -> None:
    """Start a stage and kill it as soon as something is at ``when``."""
    process = subprocess.Popen(
        [sys.executable, "-m", "fgpipe", stage],
        cwd=root,
        env=environment(),
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not list(root.glob(str(when.relative_to(root)))):
        assert process.poll() is None, f"{stage} ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def test_stages_that_were_killed_leave_the_bytes_of_an_undisturbed_run(project: Path) -> None:
    (project / "dvc.yaml").touch()
    change_params(project, train={"epochs": 3}, preprocess={"image_size_px": 96})
    change_params(project, pretrain={"method": "byol", "epochs": 3})
    for stage in STAGES:
        run(stage, root=project)
    expected = contents(project)
    assert any(name.endswith("model.safetensors") for name in expected)
    data = project / "data"
    moments = {
        "manifest": data / "01_manifest" / "payload",
        "validate": data / "02_validate" / "payload",
        "preprocess": data / "03_preprocess" / "payload" / "images.npy",
        "pretrain": project / ".fgpipe" / "checkpoints" / "*" / "epoch.safetensors",
        "train": project / ".fgpipe" / "checkpoints" / "*" / "epoch.safetensors",
        "evaluate": data / "06_evaluate" / "candidate",
        "gate": data / "07_gate",
        "package": data / "08_package" / "payload" / "*",
    }

    for stage, moment in moments.items():
        folder = next(data.glob(f"0*_{stage}"))
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        folder.rmdir()
        if stage == "gate":  # too quick to be caught in the act
            run(stage, root=project)
            continue
        start_and_kill(stage, root=project, when=moment)
        assert not (folder / "record.json").exists()
        run(stage, root=project)

    assert contents(project) == expected
