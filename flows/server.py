"""A real Prefect server for schedules: found, or started and ended again.

The server that Prefect starts inside a process by itself cannot schedule: it says so once
in a log and stays up. So a schedule is only served on a server that answered.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fgpipe.errors import UnavailableError
from flows.environment import check_server, is_healthy

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 10.0
HOST = "127.0.0.1"


@contextmanager
def prefect_server(*, port: int = 0) -> Iterator[subprocess.Popen[bytes] | None]:
    """A server that answers at ``PREFECT_API_URL``, which is set for as long.

    Args:
        port: Where to start it on loopback; 0 takes a free one. Unused where
            ``PREFECT_API_URL`` names a server already.

    Yields:
        The process, or None where the server was there.

    Raises:
        UnavailableError: If the server named does not answer, the port is taken, or the
            server does not start.
    """
    if os.environ.get("PREFECT_API_URL"):
        check_server()
        yield None
        return
    port = _usable(port)
    url = f"http://{HOST}:{port}/api"
    log = Path(os.environ["PREFECT_HOME"]) / "server.log"
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", HOST]
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [*command, "--port", str(port)], stdout=output, stderr=subprocess.STDOUT
        ) as process,
    ):
        try:
            _wait_until_healthy(process, url=url, log=log)
            os.environ["PREFECT_API_URL"] = url
            yield process
        finally:
            os.environ.pop("PREFECT_API_URL", None)
            _end(process)


def _usable(port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise UnavailableError(
                f"port {port} on {HOST} cannot be used for the Prefect server "
                f"({error.strerror}); give another one, or none to take a free one"
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


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
