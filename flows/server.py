"""A real Prefect server for schedules: found, or started and ended again.

The server that Prefect starts inside a process by itself cannot schedule: it says so once
in a log and stays up. So a schedule is only served on a server that answered.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fgpipe.errors import UnavailableError
from flows.environment import check_server, is_healthy

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 10.0
HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A Prefect server that answers."""

    url: str
    """Of its API."""
    process: subprocess.Popen[bytes] | None
    """None where it was there."""


@contextmanager
def prefect_server(*, port: int) -> Iterator[Server]:
    """The server at ``PREFECT_API_URL``, or one that lives as long as the context.

    Args:
        port: Where to start it on loopback; 0 takes a free one. Unused where
            ``PREFECT_API_URL`` names a server.

    Raises:
        UnavailableError: If the server named does not answer, the port is taken, or the
            server does not start.
    """
    named = os.environ.get("PREFECT_API_URL")
    if named:
        check_server()
        yield Server(url=named, process=None)
        return
    port = _usable(port)
    url = f"http://{HOST}:{port}/api"
    log = Path(os.environ["PREFECT_HOME"]) / "server.log"
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", HOST]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _wait_until_healthy(process, url=url, log=log)
            yield Server(url=url, process=process)
        finally:
            end_group(process, signal.SIGTERM)


def end_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """End a process that leads a session, and all that it started.

    A session of its own keeps Ctrl-C at the terminal from reaching the process before it
    is asked to end here, in order.

    Args:
        process: The leader.
        number: Asks it to end; after a while it is killed.
    """
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _usable(port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            raise UnavailableError(
                f"port {port} on {HOST} cannot be used for the Prefect server ({error}); "
                "give another one with --port, or none to take a free one"
            ) from None
        return int(probe.getsockname()[1])


def _wait_until_healthy(process: subprocess.Popen[bytes], *, url: str, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not is_healthy(url):
        if process.poll() is not None or time.monotonic() > deadline:
            last = log.read_text(errors="replace").strip().splitlines()[-3:]
            raise UnavailableError(
                f"the Prefect server does not start; its log is {log}, and ends:\n"
                + "\n".join(f"  {line}" for line in last)
            )
        time.sleep(0.2)
