"""Watches the sockets of every Python process below a test.

Python imports ``sitecustomize`` from ``PYTHONPATH`` in each process it starts; the one
written here adds an audit hook that notes every address asked for or connected to that is
not this machine's loopback. Nothing can remove an audit hook.
"""

import os
from pathlib import Path

HOOK = '''
import os, sys

FOLDER = os.environ["FGPIPE_NETWORK_AUDIT"]
LOCAL = {"", "localhost", "::1", "::", "0.0.0.0", None}


def note(name, text):
    file = os.open(os.path.join(FOLDER, name), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, (text + "\\n").encode())
    os.close(file)


def watch(event, arguments):
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if host not in LOCAL and not host.startswith("127."):
        note("foreign", f"{event} {host} by {sys.argv}")


note("processes", str(os.getpid()))
sys.addaudithook(watch)
'''


class NetworkAudit:
    """What processes started with :meth:`environment` asked the network for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "sitecustomize.py").write_text(HOOK)

    def environment(self) -> dict[str, str]:
        """What to add to the environment of a process to have it watched."""
        paths = [str(self._folder), os.environ.get("PYTHONPATH", "")]
        return {
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
            "FGPIPE_NETWORK_AUDIT": str(self._folder),
        }

    def n_processes(self) -> int:
        """Processes watched so far."""
        return len(self._lines("processes"))

    def foreign(self) -> list[str]:
        """Each asking for an address that is not this machine's, with its command."""
        return self._lines("foreign")

    def _lines(self, name: str) -> list[str]:
        path = self._folder / name
        return path.read_text().splitlines() if path.exists() else []
