"""The environment: what may differ between two machines without changing a number.

==============================  ====================================================
variable                        what it sets
==============================  ====================================================
``FGPIPE_HOME``                 where the MLflow store, Prefect's database, Bentos and
                                checkpoints live (default: the main checkout)
``FGPIPE_MODEL_NAME``           name in the MLflow registry (default ``fgpipe``)
``FGPIPE_ONLINE``               ``1`` lets weights and published sets be downloaded
``MLFLOW_TRACKING_URI``         a tracking server (default: SQLite under the home)
==============================  ====================================================
"""

import os
import sys
from pathlib import Path

QUIET = {
    "DO_NOT_TRACK": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DVC_NO_ANALYTICS": "1",
    "BENTOML_DO_NOT_TRACK": "True",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MPLBACKEND": "Agg",
}
"""What keeps dependencies from calling home; each is read when its library is imported."""

REPEATABLE = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
"""Without which matrix products on a GPU are not the same bytes again."""


THREADS = {"OMP_WAIT_POLICY": "PASSIVE", "OPENCV_FOR_THREADS_NUM": "1"}
"""How libraries use threads; each is read when its library is imported.

OpenMP's that wait spin for :data:`SPIN_TURNS`, then sleep. With 100,000 turns (GNU's own are
300,000) a training step takes three times as long when another process takes one of two cores
(5.0 s against 1.6 s for EfficientNet-Lite0, torch 2.14); with none it takes 4 % more when nothing
does. OpenCV starts none within an image, since images are divided among cores: its threads only
wait for each other (measuring an image takes 265 microseconds of computing instead of 520, OpenCV
5.0)."""

SPIN_TURNS = "1000"
"""Some microseconds; a policy that the user set is left as it is, which turns would overrule."""


def prepare_environment() -> None:
    """Set what dependencies read when imported, unless it is set already."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_TURNS)
    for name, value in (QUIET | REPEATABLE | THREADS).items():
        os.environ.setdefault(name, value)
    if not online():
        os.environ.setdefault("HF_HUB_OFFLINE", "1")


def other_python(root: Path) -> Path | None:
    """The project's Python, where the one that runs this is another without fgpipe.

    ``dvc.yaml`` says ``python``. In a shell in which the environment is not activated,
    ``.venv/bin/dvc repro`` starts whichever Python is first in ``PATH`` with it.

    Args:
        root: The checkout in use.
    """
    from importlib import metadata  # as much as the rest of this module to import

    environment = home(root) / ".venv"
    if Path(sys.prefix) == environment or not (environment / "bin" / "python").is_file():
        return None
    installed = [entry for entry in sys.path if Path(entry or ".").resolve() != root.resolve()]
    if any(metadata.distributions(name="fgpipe", path=installed)):
        return None
    return environment / "bin" / "python"


def online() -> bool:
    """Whether model weights may be fetched from a network."""
    return os.environ.get("FGPIPE_ONLINE", "0") not in {"", "0", "false"}


def model_name() -> str:
    """Name of the registered model."""
    return os.environ.get("FGPIPE_MODEL_NAME") or "fgpipe"


def home(root: Path) -> Path:
    """Where state that every checkout shares is kept: the main checkout of ``root``.

    A git worktree and an experiment that DVC runs in a folder of its own
    (``.dvc/tmp/exps``) write to the MLflow store and the checkpoints of the checkout
    they came from, not to copies that vanish with them.

    Args:
        root: The checkout in use.
    """
    chosen = os.environ.get("FGPIPE_HOME")
    if chosen:
        return Path(chosen).resolve()
    root = root.resolve()
    for parent in root.parents:
        if parent.parts[-3:] == (".dvc", "tmp", "exps"):
            return parent.parents[2]
    git = root / ".git"
    if git.is_file():
        git_dir = Path(git.read_text().removeprefix("gitdir:").strip())
        if not git_dir.is_absolute():
            git_dir = (root / git_dir).resolve()
        if git_dir.parent.name == "worktrees":
            return git_dir.parents[2]
    return root


def tracking_uri(root: Path) -> str:
    """MLflow's tracking and registry URI."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home(root) / 'mlflow.db'}"


def state(root: Path) -> Path:
    """Folder of what is neither code, data nor result: checkpoints, Bentos, servers' state."""
    return home(root) / ".fgpipe"
