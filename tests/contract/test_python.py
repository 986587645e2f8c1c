"""``dvc.yaml`` says ``python``; whichever that is, the project's own runs the stage."""

import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.support.dvc_yaml import ROOT


@pytest.fixture(scope="module")
def foreign_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with nothing installed."""
    folder = tmp_path_factory.mktemp("foreign")
    venv.create(folder, with_pip=False, symlinks=True)
    return folder / "bin" / "python"


def version(python: Path, root: Path) -> subprocess.CompletedProcess[str]:
    command = [python, "-m", "fgpipe", "--version"]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


def test_another_python_hands_over_to_the_projects(foreign_python: Path, tmp_path: Path) -> None:
    (tmp_path / "fgpipe").symlink_to(ROOT / "fgpipe")
    (tmp_path / ".venv").symlink_to(sys.prefix)

    done = version(foreign_python, tmp_path)

    assert done.returncode == 0, done.stderr
    assert "version" in done.stdout


def test_a_python_with_fgpipe_stays_though_the_project_has_its_own(
    foreign_python: Path, tmp_path: Path
) -> None:
    (tmp_path / "fgpipe").symlink_to(ROOT / "fgpipe")
    (tmp_path / ".venv").symlink_to(foreign_python.parents[1])

    done = version(Path(sys.executable), tmp_path)

    assert done.returncode == 0, done.stderr
