"""Records whatever a command and the Python processes below it ask of the network.

Python imports ``sitecustomize`` when it starts; the one written here installs an audit
hook, which sees every address that Python code connects or sends to and every name it
looks up, and notes those that are not this machine's own. Where the kernel lets a user
make a network namespace, :meth:`NetworkAudit.cut` is the prefix of a command that then
has no network at all, which holds what is not Python too.
"""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

LOG = "FGPIPE_TEST_NETWORK_LOG"

HOOK = f"""
import ipaddress, os, sys

def _is_own(host):
    if host in (None, "", b"", "localhost", b"localhost"):
        return True
    text = host.decode() if isinstance(host, bytes) else str(host)
    try:
        address = ipaddress.ip_address(text.split("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified

def _hook(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else None
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
    else:
        return
    if not _is_own(host):
        line = f"{{event}} {{host!r}} by {{' '.join(' '.join(sys.orig_argv).split())[:200]}}\\n"
        log = os.open(os.environ["{LOG}"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(log, line.encode())
        os.close(log)

if "{LOG}" in os.environ:
    sys.addaudithook(_hook)
"""


@dataclass(frozen=True)
class NetworkAudit:
    """An environment to run commands in, and what they asked of the network there."""

    folder: Path
    """Holds the hook and its log."""

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "sitecustomize.py").write_text(HOOK)

    def environment(self, base: dict[str, str] | None = None) -> dict[str, str]:
        """``base`` (default: this process's) with the hook in every Python below it."""
        base = dict(os.environ) if base is None else base
        path = [str(self.folder), *filter(None, [base.get("PYTHONPATH")])]
        return {**base, "PYTHONPATH": os.pathsep.join(path), LOG: str(self.folder / "log")}

    def attempts(self) -> list[str]:
        """One line for each time something beyond this machine was asked for."""
        log = self.folder / "log"
        return log.read_text().splitlines() if log.exists() else []

    @staticmethod
    def cut() -> list[str]:
        """Prefix of a command to run it with loopback alone; empty where that is not allowed."""
        if shutil.which("unshare") is None or shutil.which("ip") is None:
            return []
        prefix = ["unshare", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up; exec "$@"']
        works = subprocess.run([*prefix, "sh", "true"], capture_output=True, check=False)
        return [*prefix, "sh"] if works.returncode == 0 else []
