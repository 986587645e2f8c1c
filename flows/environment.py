"""What Prefect must find in the environment when it is imported."""

import os
from pathlib import Path

import httpx

from fgpipe import settings
from fgpipe.errors import UnavailableError

SETTINGS = {
    "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",  # they would be pickles
    "PREFECT_TASKS_DEFAULT_NO_CACHE": "true",  # DVC's cache is the one
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # a flow says its own lines
}
"""Set unless they are set already."""

HEALTH_TIMEOUT_S = 5.0


def prepare_environment() -> None:
    """Set what Prefect reads when imported, for the project in the current folder.

    The folder of its state is made here: Prefect makes no parent folders, and without one its
    server does not start.
    """
    home = settings.state(Path.cwd()) / "prefect"
    home.mkdir(parents=True, exist_ok=True)
    for name, value in {**SETTINGS, "PREFECT_HOME": str(home)}.items():
        os.environ.setdefault(name, value)


def check_server() -> None:
    """Make sure that the server which ``PREFECT_API_URL`` names answers, if it names one.

    Raises:
        UnavailableError: If it does not.
    """
    url = os.environ.get("PREFECT_API_URL")
    if url and not is_healthy(url):
        raise UnavailableError(
            f"no Prefect server answers at {url} (PREFECT_API_URL); start it, mend the address "
            "or unset the variable to run without"
        )


def is_healthy(url: str) -> bool:
    """Whether a Prefect server answers at an API's address."""
    try:
        return httpx.get(f"{url}/health", timeout=HEALTH_TIMEOUT_S).is_success
    except (httpx.HTTPError, httpx.InvalidURL):
        return False
