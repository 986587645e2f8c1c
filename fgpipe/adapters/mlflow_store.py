"""The MLflow store that runs and the registry share, and the tags that tie things in it.

By default it is one SQLite file with a folder of artifacts beside it, made when it is
first asked for; ``MLFLOW_TRACKING_URI`` names a server instead. Several processes that
meet a database for the first time (parallel experiments) crash one another while MLflow
creates its tables, so the first touch of a local store is made under a file lock.

MLflow takes seconds to import: it is imported here when a store is connected.
"""

import logging
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from fgpipe import settings
from fgpipe.errors import UnavailableError

if TYPE_CHECKING:
    from mlflow import MlflowClient

INPUT_KEY = "fgpipe.input_key"
"""Run: key of the training's data, parameters and code, set when it starts."""
TRAIN_SHA256 = "fgpipe.train_sha256"
"""Run and version: hash of the training record, set when it is done."""
DATA_HASH = "fgpipe.data_hash"
"""Run and version: DVC's hash of ``data/raw``."""
TRAIN_HASH = "fgpipe.train_hash"
"""Run and version: DVC's hash of the training output."""
GIT_COMMIT = "fgpipe.git_commit"
"""Run and version: the commit checked out."""
VERDICT = "fgpipe.verdict"
"""Run: what the gate decided."""
BUNDLE_SHA256 = "fgpipe.bundle_sha256"
"""Run and version: hash of the bundle."""
RESTORED = "fgpipe.restored"
"""Run: ``true`` where it was made for a model that was trained elsewhere."""
BENTO_TAG = "fgpipe.bento_tag"
"""Version: the Bento it was built into."""


def connect(root: Path) -> "MlflowClient":
    """A client of the project's store, which is made if there is none yet.

    Also sets MLflow's own tracking and registry URIs, for what has no client method.

    Args:
        root: The checkout in use.

    Raises:
        UnavailableError: If the store cannot be reached or was written by another
            version of MLflow; the message has MLflow's reason.
    """
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")  # 7, its own, wait 4 minutes
    import mlflow
    from sqlalchemy.exc import SQLAlchemyError

    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    uri = settings.tracking_uri(root)
    named = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    if named is None:  # MLflow notes it there, where another project would read it
        os.environ.pop("MLFLOW_TRACKING_URI", None)
    with _first_touch(root):
        try:
            client = mlflow.MlflowClient()
            experiment_id(client, root=root)
            client.search_registered_models(max_results=1)
        except (mlflow.MlflowException, SQLAlchemyError, OSError) as error:
            message = f"the MLflow store {uri} cannot be used: {_reason(error)}"
            raise UnavailableError(message) from None
    return client


def experiment_id(client: "MlflowClient", *, root: Path) -> str:
    """The experiment all runs of the project are in, made if there is none yet."""
    from mlflow import MlflowException

    name = settings.model_name()
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        location = artifacts(root).as_uri() if is_local(root) else None
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException:  # another client of a server was faster
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise
    return str(experiment.experiment_id)


def run_of(client: "MlflowClient", *, train_sha256: str, root: Path) -> str | None:
    """The newest run that made a training record, or None."""
    runs = client.search_runs(
        [experiment_id(client, root=root)],
        f"tags.`{TRAIN_SHA256}` = '{train_sha256}'",
        max_results=1,
    )
    return str(runs[0].info.run_id) if runs else None


def restored_run(client: "MlflowClient", *, tags: Mapping[str, str], root: Path) -> str:
    """A finished run for a model that was trained elsewhere, marked as such.

    Args:
        client: Of the store.
        tags: What is known of the training; its record's hash must be among them.
        root: The checkout in use.
    """
    run = client.create_run(
        experiment_id(client, root=root),
        run_name=f"restored-{tags[TRAIN_SHA256][:8]}",
        tags={**tags, RESTORED: "true"},
    )
    run_id = str(run.info.run_id)
    client.set_terminated(run_id)
    return run_id


def is_local(root: Path) -> bool:
    """Whether the store is the project's own SQLite file."""
    return settings.tracking_uri(root) == f"sqlite:///{database(root)}"


def database(root: Path) -> Path:
    """The local store's file."""
    return settings.home(root) / "mlflow.db"


def artifacts(root: Path) -> Path:
    """The local store's folder of artifacts."""
    return settings.home(root) / "mlartifacts"


def _first_touch(root: Path) -> AbstractContextManager[object]:
    if not is_local(root):
        return nullcontext()
    state = settings.state(root)
    state.mkdir(parents=True, exist_ok=True)
    return FileLock(state / "mlflow.lock")


def _reason(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:500]
