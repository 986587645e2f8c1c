"""A project made as a user makes one, on the synthetic world, that a machine runs in a minute."""

import os
import subprocess
import sys
from pathlib import Path

from fgpipe.adapters.dvc_runner import DvcRunner, initialise
from fgpipe.operations.new_project import create_project
from fgpipe.pipeline import RAW
from tests.conftest import SMALL
from tests.support.params import change_params
from tests.support.synthetic import write_world
from tests.support.tiny_project import commit

ROOT = Path(__file__).parents[2]
LEARNS = {"train": {"epochs": 10, "learning_rate": 0.01, "backbone_rate": 1.0, "patience": 10}}
"""Enough for a small network to tell the synthetic classes apart."""


def make_real_project(root: Path) -> Path:
    """``fgpipe init``, images, small parameters, a commit; nothing has run."""
    create_project(root, template=ROOT, initialise_dvc=initialise)
    write_world(root / RAW, n_groups_per_label=12)
    change_params(root, **SMALL)
    change_params(root, **LEARNS)
    DvcRunner(root).add(RAW)
    commit(root, "start")
    return root


def environment(**more: str) -> dict[str, str]:
    """A shell with this environment's programs first and no settings of ours."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("FGPIPE_", "MLFLOW_TRACKING_URI", "PREFECT_"))
    }
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**kept, "PATH": path, **more}


def run(*command: str, root: Path, code: int = 0, **more: str) -> str:
    """What a command prints, its exit code checked."""
    done = subprocess.run(
        command,
        cwd=root,
        env=environment(**more),
        check=False,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == code, done.stdout[-4000:]
    return done.stdout
