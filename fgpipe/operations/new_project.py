"""Start a project: the code of this one, none of its data and history."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from fgpipe.errors import InputError, UnavailableError
from fgpipe.intake.profiling import write_expectations
from fgpipe.operations.promote import PIN
from fgpipe.pipeline import BASELINE, EXPECTATIONS, RAW, STAGES
from fgpipe.records import Baseline


def create_project(folder: Path, *, template: Path, initialise_dvc: Callable[[Path], None]) -> None:
    """Make ``folder`` a project of its own: git, DVC, code and parameters.

    Args:
        folder: Must not exist, or be empty.
        template: The checkout whose tracked files are taken.
        initialise_dvc: Makes a folder a DVC repository.

    Raises:
        InputError: If ``folder`` holds something already.
        UnavailableError: If git is not there, or ``template`` is no git checkout.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is not empty; choose a folder that does not exist yet")
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        for name in _template_files(template):
            target = partial / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(template / name, target)
        Baseline.save(None, partial / BASELINE)
        write_expectations(partial / EXPECTATIONS, table=None, force=True)
        _git("init", "--quiet", "--initial-branch=main", cwd=partial)
        initialise_dvc(partial)
        _git("add", "--all", cwd=partial)
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _template_files(template: Path) -> list[str]:
    """What git tracks, but for the demo's data, results and DVC's own files."""
    history = {f"{RAW}.dvc", "dvc.lock", str(PIN), str(BASELINE), str(EXPECTATIONS)}
    folders = (".dvc/", *(f"{stage.folder}/" for stage in STAGES))
    names = _git("ls-files", "-z", cwd=template).split("\0")
    return [name for name in names if name and name not in history and not name.startswith(folders)]


def _git(*arguments: str, cwd: Path) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=cwd, check=True, capture_output=True, text=True
        )
    except FileNotFoundError:
        raise UnavailableError("git is not installed; fgpipe needs it") from None
    except subprocess.CalledProcessError as error:
        message = error.stderr.strip() or error.stdout.strip()
        raise UnavailableError(f"git {arguments[0]} failed in {cwd}: {message}") from None
    return done.stdout
