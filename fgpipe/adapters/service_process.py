"""A server in a process group of its own: started, waited for, asked, and ended for sure.

A server that fails while it starts may be started again for ever by what supervises it,
so waiting has a deadline, and ending takes the whole group. Its output is shown only if
it did not start.
"""

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from fgpipe.errors import ParityError, PipelineError, UnavailableError
from fgpipe.serving.bundle import PROBE_FILE, PROBE_TOLERANCE, Probe, open_bundle

SHOWN_CHARACTERS = 4000
"""Most of a failed server's output that an error quotes."""

PATIENCE_S = 10.0
"""How long a server that was asked to end may take before it is killed."""


def free_port() -> int:
    """A port on loopback that nothing listens on at this moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def demand_port(port: int, *, host: str) -> None:
    """Check that a port can be listened on.

    Raises:
        UnavailableError: If it is taken, or not this machine's to take.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise UnavailableError(
                f"port {port} on {host} cannot be listened on ({error.strerror}); end what uses "
                "it or name another one with --port"
            ) from None


@contextmanager
def running(
    command: Sequence[str],
    *,
    url: str,
    environment: Mapping[str, str],
    folder: Path,
    start_timeout_s: float,
    gave_up: str,
    quiet: bool = True,
) -> Iterator[subprocess.Popen[bytes]]:
    """A server that answers ``/readyz``, until the block ends.

    Args:
        command: Starts it in the foreground.
        url: Where it answers, without a final slash.
        environment: All of its environment variables.
        folder: Its working directory.
        start_timeout_s: Most seconds until it is ready.
        gave_up: What its output holds once there is no use in waiting longer; looked for
            if ``quiet``.
        quiet: Keep its output back unless it fails to start.

    Raises:
        PipelineError: If it ends or is not ready in time; with the end of its output.
    """
    with tempfile.TemporaryFile() as output:

        def said() -> str:
            # Not read(): the server writes where this file description stands.
            size = os.fstat(output.fileno()).st_size
            return os.pread(output.fileno(), size, 0).decode(errors="replace")

        process = subprocess.Popen(
            command,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output if quiet else None,
            stderr=subprocess.STDOUT if quiet else None,
            start_new_session=True,
        )
        try:
            if not _is_ready(
                process, url=url, timeout_s=start_timeout_s, hopeless=lambda: gave_up in said()
            ):
                code = process.poll()
                how = "did not get ready" if code is None else f"ended with exit code {code}"
                raise PipelineError(
                    f"the service at {url} {how} (it may take {start_timeout_s:g} s); its output "
                    f"ends with:\n{said()[-SHOWN_CHARACTERS:].strip() or '(shown above)'}"
                )
            yield process
        finally:
            _end(process)


def ask_probe(url: str, bundle: Path) -> None:
    """Send a bundle's probe images to a running service.

    Args:
        url: Where it answers, without a final slash.
        bundle: The folder it should be serving.

    Raises:
        ParityError: If another bundle answers, or with other probabilities.
        PipelineError: If it answers with an error.
    """
    description = open_bundle(bundle)
    tolerance = PROBE_TOLERANCE[description.precision]
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
        for image in Probe.load(bundle / PROBE_FILE).images:
            response = client.post(
                "/v1/predict",
                params={"alternatives": min(len(description.labels), 1000)},
                files={"image": (bundle / image.file).read_bytes()},
                data={"box": image.box} if image.box else None,
            )
            if response.status_code != httpx.codes.OK:
                raise PipelineError(
                    f"the service answered {response.status_code} for {image.file}: "
                    f"{response.text[:500]}"
                )
            answer = response.json()
            if answer["bundle"]["sha256"] != description.bundle_sha256:
                raise ParityError(
                    f"the service at {url} serves bundle {answer['bundle']['sha256'][:12]}, "
                    f"not {description.bundle_sha256[:12]}"
                )
            found = {entry["label"]: entry["probability"] for entry in answer["alternatives"]}
            found[answer["label"]] = answer["probability"]
            expected = zip(description.labels, image.probabilities, strict=True)
            errors = [abs(found.get(label, 2.0) - value) for label, value in expected]
            if not all(error <= tolerance for error in errors):
                raise ParityError(
                    f"over HTTP a probability of {image.file} differs by {max(errors):.2g} from "
                    f"what evaluation found, allowed is {tolerance:g}"
                )


def _is_ready(
    process: subprocess.Popen[bytes], *, url: str, timeout_s: float, hopeless: Callable[[], bool]
) -> bool:
    deadline = time.monotonic() + timeout_s
    with httpx.Client(timeout=2, trust_env=False) as client:
        while process.poll() is None and time.monotonic() < deadline and not hopeless():
            with suppress(httpx.HTTPError):
                if client.get(f"{url}/readyz").status_code == httpx.codes.OK:
                    return True
            time.sleep(0.1)
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask the whole group to end, then make it."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(PATIENCE_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
