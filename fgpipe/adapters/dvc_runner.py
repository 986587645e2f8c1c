"""DVC as the one cache: brings stages up to date and versions data.

DVC runs as a subprocess: half a second dearer than its Python interface, but no foreign
logger, and a kill is clean. DVC answers 255 whatever a stage's exit code was; so a stage
that fails leaves its error in a file that the runner names in the environment
(:func:`hand_over`), and says nothing itself: whoever started the runner says it, once.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from fgpipe import settings
from fgpipe.errors import (
    FgpipeError,
    InputError,
    NotReadyError,
    PipelineError,
    UnavailableError,
)
from fgpipe.pipeline import EXPECTATIONS, RAW
from fgpipe.ports import Reproduced

FAILURE_FILE = "FGPIPE_FAILURE_FILE"
"""Environment variable: where a stage leaves its error for the runner that started it."""

CONFIG = """\
[core]
    analytics = false
    check_update = false
    autostage = false
[cache]
    type = "reflink,hardlink,symlink,copy"
"""
"""``.dvc/config`` of a project: DVC calls nobody, and images take their space once."""

NO_REPOSITORY = 253
"""DVC's exit code outside a repository of its own."""

BUSY = re.compile(r"is busy|Unable to acquire lock")
MISSING = re.compile(r"(?:missing data 'source': |No such file or directory: )'?([^']+)")
BROKE_OFF = re.compile(r"exited with -?\d+")


class DvcRunner:
    """The DVC repository at a project's root; fulfils ``ports.Reproducer``."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    def reproduce(self, stage: str) -> Reproduced:
        """Bring one stage up to date, or all if ``stage`` is empty.

        Returns:
            What that took; of all, the most that any took.

        Raises:
            InputError: If the stage refused its input, with its message.
            NotReadyError: If there is no DVC repository, or data are not there.
            UnavailableError: If another process is at work in the repository.
            PipelineError: If it failed otherwise.
        """
        _, log = self._run("repro", *(["--single-item", stage] if stage else []))
        if re.search(r"^Running stage ", log, flags=re.MULTILINE):
            return "made"
        return "restored" if "checking out outputs" in log else "unchanged"

    def is_up_to_date(self) -> bool:
        """Whether every stage's outs are there and are those of its deps and parameters."""
        code, _ = self._run("status", "--quiet", may_answer=(0, 1))
        return code == 0

    def add(self, path: Path) -> str:
        """Put a folder under version control; DVC's hash of it.

        Args:
            path: Inside the project.
        """
        relative = (self._root / path).relative_to(self._root)
        self._run("add", relative.as_posix())
        content = yaml.safe_load((self._root / f"{relative}.dvc").read_text())
        return str(content["outs"][0]["md5"])

    def is_version(self, path: Path) -> bool:
        """Whether a folder under version control is as it was when it was last added."""
        if not (self._root / f"{path}.dvc").exists():
            return False
        code, _ = self._run("status", "--quiet", f"{path.as_posix()}.dvc", may_answer=(0, 1))
        return code == 0

    def answer(self, *arguments: str) -> tuple[int, str]:
        """Run DVC for those who read its answer themselves; exit code and what it said."""
        return self._run(*arguments, may_answer=range(256))

    def explained(self, code: int, log: str, *, command: str) -> FgpipeError:
        """What went wrong, of an answer that is none of its reader's business."""
        return _explain(code, command=command, log=log, failure=None)

    def _run(self, *arguments: str, may_answer: Collection[int] = (0,)) -> tuple[int, str]:
        """Run DVC; its exit code and what it said."""
        share_cache(self._root)
        with TemporaryDirectory(prefix="fgpipe-dvc-") as folder:
            log, failure = Path(folder) / "log", Path(folder) / "failure.json"
            code = subprocess.run(
                [sys.executable, "-m", "fgpipe.adapters.dvc_quietly", str(log), *arguments],
                cwd=self._root,
                env=_environment() | {FAILURE_FILE: str(failure)},
                check=False,
            ).returncode
            said = log.read_text() if log.exists() else ""
            if code not in may_answer:
                raise _explain(
                    code,
                    command="dvc " + " ".join(arguments),
                    log=said,
                    failure=json.loads(failure.read_text()) if failure.exists() else None,
                )
        return code, said


def hand_over(error: FgpipeError) -> bool:
    """Leave a stage's error to the runner that started the stage, which will say it.

    Returns:
        Whether there is a runner; if not, the error is still to be said.
    """
    path = os.environ.get(FAILURE_FILE)
    if path is None or not Path(path).parent.is_dir():
        return False
    content = {"exit_code": error.exit_code, "message": str(error)}
    Path(path).write_text(json.dumps(content))
    return True


def initialise(root: Path) -> None:
    """Make ``root``, a git checkout, a DVC repository with our configuration.

    Raises:
        InputError: If there is one already, or ``root`` is no git checkout.
    """
    DvcRunner(root)._run("init")  # noqa: SLF001 - same module
    (root / ".dvc" / "config").write_text(CONFIG)


def share_cache(root: Path) -> None:
    """Let a git worktree use the main checkout's cache, unless it is told otherwise."""
    main = settings.home(root)
    local = root / ".dvc" / "config.local"
    if (root / ".git").is_file() and main != root and not local.exists():
        local.parent.mkdir(exist_ok=True)
        local.write_text(f"[cache]\n    dir = {main / '.dvc' / 'cache'}\n")


def _environment() -> dict[str, str]:
    """The environment, in which ``python`` is the interpreter that runs this."""
    folder = str(Path(sys.executable).parent)
    # Five attempts, botocore's own, are long to wait for a server that is not there.
    return {
        "AWS_MAX_ATTEMPTS": "3",
        **os.environ,
        "PATH": os.pathsep.join([folder, os.environ.get("PATH", "")]),
    }


def _explain(
    code: int, *, command: str, log: str, failure: dict[str, object] | None
) -> FgpipeError:
    if failure is not None:
        kind = InputError if failure["exit_code"] == InputError.exit_code else PipelineError
        return kind(str(failure["message"]))
    if code == NO_REPOSITORY:
        return NotReadyError("this folder is no DVC repository; `fgpipe init` starts a project")
    said = _last_error(log) or f"exit code {code}"
    if BUSY.search(log):
        return UnavailableError(
            "another process is at work in this project; wait for it to end, then try again "
            f"({said})"
        )
    if missing := MISSING.search(said):
        return _missing(missing[1])
    if BROKE_OFF.search(said):
        return PipelineError(f"a stage broke off; what it printed stands above ({said})")
    return PipelineError(f"`{command}` failed: {said}")


def _missing(path: str) -> NotReadyError:
    if path.endswith(EXPECTATIONS.as_posix()):
        return NotReadyError(
            f"{EXPECTATIONS} does not exist; `fgpipe data profile` writes it from the data"
        )
    if not path.endswith(RAW.as_posix()):
        return NotReadyError(f"{path} does not exist; `dvc repro` makes what stages make")
    return NotReadyError(
        f"{RAW} does not exist; `fgpipe data fetch elpv` brings the demo's images, "
        "`fgpipe data import FOLDER` yours, `dvc pull` those of a remote"
    )


def _last_error(log: str) -> str:
    """DVC's last error, or where it says something without that word its last lines."""
    errors = re.findall(r"^ERROR: (.*)", log, flags=re.MULTILINE)
    return errors[-1] if errors else "\n".join(log.strip().splitlines()[-8:])
