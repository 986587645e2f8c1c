import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from fgpipe.cli import STAGE_HELP, cli
from fgpipe.pipeline import STAGES

ROOT = Path(__file__).parents[2]

HEAVY = (
    "albumentations",
    "bentoml",
    "cv2",
    "dvc",
    "great_expectations",
    "matplotlib",
    "mlflow",
    "numpy",
    "openvino",
    "optuna",
    "pandas",
    "prefect",
    "pydantic",
    "timm",
    "torch",
)

COMMANDS = {
    "backbones": {"pattern"},
    "benchmark": set(),
    "data add": {"path", "kind", "new_classes"},
    "data fetch": {"name"},
    "data label-errors": {"top"},
    "data show": {"per_class", "folder", "augmented"},
    "data profile": {"force"},
    "data docs": {"folder"},
    "data import": {"path", "kind"},
    "data pull": set(),
    "data push": set(),
    "data relabel": {"file", "new_classes"},
    "data remote": {"url", "endpoint_url"},
    "data remove": {"names", "file"},
    "data sources": set(),
    "data status": set(),
    "find-lr": set(),
    "init": {"folder"},
    "plan": {"minutes"},
    "promote": {"despite_hold"},
    "run": set(),
    "schedule": {"arguments"},
    "serve": {"port", "host"},
    "status": set(),
    "tune": {"number"},
    "ui": {"port"},
} | {stage.name: set() for stage in STAGES}
"""Every command with its parameters: the public surface."""


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fgpipe", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_the_commands_and_their_parameters_are_exactly_these() -> None:
    found = {}
    for name, command in cli.commands.items():
        children = getattr(command, "commands", None)
        entries = (
            {name: command}
            if children is None
            else {f"{name} {child}": children[child] for child in children}
        )
        found |= {key: {p.name for p in entry.params} for key, entry in entries.items()}

    assert found == COMMANDS


def test_every_command_says_what_it_does() -> None:
    for name in COMMANDS:
        if name == "schedule":  # hands --help on to the flow
            continue
        result = CliRunner().invoke(cli, [*name.split(), "--help"])

        assert result.exit_code == 0, name
        assert len(result.output.splitlines()) > 3, name


def test_every_stage_has_its_help() -> None:
    assert list(STAGE_HELP) == [stage.name for stage in STAGES]
    for stage in STAGES:
        assert STAGE_HELP[stage.name].startswith(f"{stage.number:02d} ")


def test_the_command_line_starts_without_a_heavy_library(tmp_path: Path) -> None:
    code = (
        "import sys, fgpipe.__main__, fgpipe.cli; "
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )

    assert done.stdout.strip() == "[]"


def test_outside_a_project_the_way_out_is_named_with_exit_code_2(tmp_path: Path) -> None:
    done = run("manifest", cwd=tmp_path)

    assert done.returncode == 2
    assert done.stderr.startswith("fgpipe: ")
    assert "has no params.yaml; run fgpipe in the project's folder" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [("trian",), ("serve", "--port", "99999"), ("data", "fetch")])
def test_a_mistake_on_the_command_line_is_told_with_exit_code_2(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    done = run(*arguments, cwd=tmp_path)

    assert done.returncode == 2
    assert "Error: " in done.stderr
    assert "Traceback" not in done.stderr


FULL = "def full(*_, **__): raise OSError(28, 'No space left on device', 'data/images.npy')\n"
DOORS = {
    "a stage": (
        f"import sys; sys.argv = ['fgpipe', 'manifest']\nimport fgpipe.pipeline\n{FULL}"
        "fgpipe.pipeline.run_stage = full\nfrom fgpipe.__main__ import main; main()"
    ),
    "a flow": f"from flows.command import run_as_command\n{FULL}run_as_command(full)",
}


@pytest.mark.parametrize("door", DOORS)
def test_a_full_disk_is_told_with_exit_code_2_and_what_to_do(tmp_path: Path, door: str) -> None:
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).touch()

    done = subprocess.run(
        [sys.executable, "-c", DOORS[door]],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert done.stderr == (
        "fgpipe: data/images.npy cannot be written: the disk is full; make room, and run the "
        "same command again\n"
    )
