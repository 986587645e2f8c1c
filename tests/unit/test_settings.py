import os
import subprocess
import sys
from pathlib import Path

import pytest

from fgpipe import settings


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FGPIPE_HOME", "MLFLOW_TRACKING_URI", "FGPIPE_ONLINE"):
        monkeypatch.delenv(name, raising=False)


def git(*arguments: str, cwd: Path) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *identity, *arguments], cwd=cwd, check=True, capture_output=True)


def test_a_checkout_is_its_own_home(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()

    assert settings.home(tmp_path) == tmp_path


def test_a_worktrees_home_is_the_main_checkout(tmp_path: Path) -> None:
    main = tmp_path / "main"
    main.mkdir()
    git("init", "--quiet", cwd=main)
    git("commit", "--quiet", "--allow-empty", "-m", "first", cwd=main)
    git("worktree", "add", "--quiet", "../other", cwd=main)

    assert settings.home(tmp_path / "other") == main
    assert settings.tracking_uri(tmp_path / "other") == f"sqlite:///{main}/mlflow.db"


def test_the_home_of_an_experiment_that_dvc_runs_apart_is_where_it_came_from(
    tmp_path: Path,
) -> None:
    apart = tmp_path / "main" / ".dvc" / "tmp" / "exps" / "standalone" / "tmp123"
    apart.mkdir(parents=True)

    assert settings.home(apart) == tmp_path / "main"


def test_the_environment_decides_before_all_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FGPIPE_HOME", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")

    assert settings.home(tmp_path) == tmp_path / "elsewhere"
    assert settings.tracking_uri(tmp_path) == "http://127.0.0.1:1"


def test_telemetry_is_off_before_anything_is_imported_and_a_choice_is_left_alone() -> None:
    clean = {k: v for k, v in os.environ.items() if k not in settings.QUIET}
    code = "import os, fgpipe; print(os.environ['DO_NOT_TRACK'], os.environ['DVC_NO_ANALYTICS'])"

    done = subprocess.run(
        [sys.executable, "-c", code],
        env=clean | {"DVC_NO_ANALYTICS": "chosen"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.split() == ["true", "chosen"]


@pytest.mark.parametrize(("policy", "turns"), [(None, settings.SPIN_TURNS), ("ACTIVE", None)])
def test_threads_spin_a_moment_unless_the_user_says_how_they_wait(
    monkeypatch: pytest.MonkeyPatch, policy: str | None, turns: str | None
) -> None:
    given = {} if policy is None else {"OMP_WAIT_POLICY": policy}
    monkeypatch.setattr(os, "environ", given)

    settings.prepare_environment()

    assert os.environ["OMP_WAIT_POLICY"] == (policy or "PASSIVE")
    assert os.environ.get("GOMP_SPINCOUNT") == turns
