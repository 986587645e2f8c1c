"""MLflow's own pages on the project's store."""

import os
import subprocess
import sys
from pathlib import Path

import click

from fgpipe import settings
from fgpipe.adapters.mlflow_store import artifacts, connect
from fgpipe.adapters.service_process import demand_port

HOST = "127.0.0.1"


def serve_pages(root: Path, *, port: int) -> None:
    """Serve until interrupted, to this machine only.

    Raises:
        UnavailableError: If the port is in use, or the store cannot be.
    """
    demand_port(port, host=HOST)
    connect(root)
    click.echo(f"MLflow on http://{HOST}:{port}; stop with Ctrl+C")
    # Without jobs and with one worker it is up in a third of the time.
    command = [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--backend-store-uri", settings.tracking_uri(root)),
        *("--artifacts-destination", artifacts(root).as_uri()),
        *("--host", HOST, "--port", str(port), "--workers", "1"),
    ]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    subprocess.run(command, cwd=root, env=environment, check=False)
