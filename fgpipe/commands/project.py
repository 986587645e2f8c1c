"""What every command needs: the project it is run in, and the tools behind the ports."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from fgpipe.errors import ConfigError

if TYPE_CHECKING:
    from fgpipe.images.measure_cache import MeasureCache
    from fgpipe.nn.embedder import Embedder
    from fgpipe.ports import Ports


def project_root() -> Path:
    """The folder fgpipe is run in, which must be a project.

    Raises:
        ConfigError: If it is none.
    """
    root = Path.cwd()
    for name in ("params.yaml", "dvc.yaml"):
        if not (root / name).is_file():
            raise ConfigError(f"{root} has no {name}; run fgpipe in the project's folder")
    return root


def real_ports(root: Path) -> "Ports":
    """The ports with the real tools behind them."""
    from fgpipe import settings
    from fgpipe.adapters.gx_checks import GxChecker
    from fgpipe.adapters.mlflow_registry import MlflowRegistry
    from fgpipe.adapters.mlflow_tracker import MlflowTracker
    from fgpipe.ports import Ports

    return Ports(
        checker=GxChecker(),
        tracker=MlflowTracker(root),
        registry=MlflowRegistry(root),
        checkpoints=settings.state(root) / "checkpoints",
        measures=settings.state(root) / "measures",
    )


def intake_tools(root: Path) -> "tuple[MeasureCache, Embedder | None]":
    """What images are looked at with when they come in."""
    from fgpipe import settings
    from fgpipe.images.measure_cache import MeasureCache
    from fgpipe.nn.embedder import create_embedder

    folder = settings.state(root) / "measures"
    return MeasureCache(folder), create_embedder(folder)


def version_raw(root: Path) -> str:
    """Put ``data/raw`` under version control as it is; a line that says so."""
    from fgpipe.adapters.dvc_runner import DvcRunner
    from fgpipe.pipeline import RAW

    digest = DvcRunner(root).add(RAW)
    return f"{RAW} is version {digest}, noted in {RAW}.dvc"


def writable(folder: Path) -> Path:
    """The folder, made where it is not there: before minutes of work, not after.

    Raises:
        ConfigError: If nothing can be written to it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be made ({error.strerror})") from None
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"{folder} cannot be written to; change who may, or look elsewhere")
    return folder
