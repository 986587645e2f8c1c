import json
import os
import signal
import socket
import sys
import threading
import time
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from fgpipe.adapters.service_process import ask_probe, demand_port, free_port, running
from fgpipe.errors import ParityError, PipelineError, UnavailableError
from fgpipe.serving.bundle import PROBE_FILE, Probe, ProbeImage, seal_bundle

pytestmark = pytest.mark.integration

SERVER = """
import http.server, os, signal, subprocess, sys

class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments):
        pass

child = subprocess.Popen(["sleep", "60"])
print(child.pid, flush=True)
open("child", "w").write(str(child.pid))
if "deaf" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "broken" in sys.argv:
    sys.exit("no model here")
if "restarting" in sys.argv:
    print("x" * 10_000, "no model here, GIVING UP", flush=True)
if "slow" in sys.argv or "restarting" in sys.argv:
    child.wait()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Ready).serve_forever()
"""


def arguments(folder: Path, *how: str) -> dict[str, object]:
    port = free_port()
    (folder / "server.py").write_text(SERVER)
    return {
        "command": [sys.executable, str(folder / "server.py"), str(port), *how],
        "url": f"http://127.0.0.1:{port}",
        "environment": os.environ,
        "folder": folder,
        "start_timeout_s": 10,
        "gave_up": "GIVING UP",
    }


def is_gone(pid: int) -> bool:
    for _ in range(100):
        try:
            os.kill(pid, 0)
            if "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text():
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.02)
    return False


def test_a_server_is_ready_inside_and_gone_with_its_children_outside(tmp_path: Path) -> None:
    with running(**arguments(tmp_path)) as process:
        alive = process.poll() is None
        child = int((tmp_path / "child").read_text())

    assert alive
    assert process.returncode == -signal.SIGTERM
    assert is_gone(child)


def test_it_ends_even_if_the_block_fails(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), running(**arguments(tmp_path)) as process:
        raise KeyboardInterrupt

    assert process.returncode is not None
    assert is_gone(int((tmp_path / "child").read_text()))


def test_a_server_that_ends_while_it_starts_shows_its_last_words(tmp_path: Path) -> None:
    with (
        pytest.raises(PipelineError, match=r"(?s)ended with exit code 1 .*no model here"),
        running(**arguments(tmp_path, "broken")),
    ):
        pass

    assert is_gone(int((tmp_path / "child").read_text()))


def test_a_server_that_is_not_ready_in_time_is_ended(tmp_path: Path) -> None:
    slow = {**arguments(tmp_path, "slow"), "start_timeout_s": 0.5}

    with pytest.raises(PipelineError, match=r"did not get ready"), running(**slow):
        pass

    assert is_gone(int((tmp_path / "child").read_text()))


def test_a_server_that_tries_for_ever_is_not_waited_for(tmp_path: Path) -> None:
    hopeless = {**arguments(tmp_path, "restarting"), "start_timeout_s": 60}
    started = time.monotonic()

    with pytest.raises(PipelineError, match="no model here") as raised, running(**hopeless):
        pass

    assert time.monotonic() - started < 20
    assert len(str(raised.value)) < 5000


def test_a_server_that_does_not_listen_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fgpipe.adapters.service_process.PATIENCE_S", 0.2)

    with running(**arguments(tmp_path, "deaf")) as process:
        pass

    assert process.returncode == -signal.SIGKILL


def test_a_port_in_use_is_named_with_the_way_out() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]

        with pytest.raises(UnavailableError, match=rf"port {port} on 127\.0\.0\.1 .*--port"):
            demand_port(port, host="127.0.0.1")

    demand_port(port, host="127.0.0.1")


class Answering(BaseHTTPRequestHandler):
    """Answers every image with what the test says."""

    answer: ClassVar[dict[str, object]]
    status: ClassVar[int] = 200

    bodies: ClassVar[list[bytes]] = []

    def do_POST(self) -> None:
        self.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        content = json.dumps(self.answer).encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def probed_bundle(folder: Path, *, box: str | None = None) -> str:
    (folder / "a.png").write_bytes(b"an image")
    image = ProbeImage(file="a.png", sha256="0" * 64, probabilities=(0.7, 0.3), box=box)
    Probe(images=(image,)).save(folder / PROBE_FILE)
    facts = {
        "name": "tiny", "description": "", "license": "", "train_sha256": "t", "parents": {},
        "protocol": "stable", "labels": ("a", "b"), "image_size_px": 32, "precision": "f32",
        "runtime": "openvino",
    }  # fmt: skip
    return seal_bundle(folder, facts=facts).bundle_sha256


@pytest.mark.parametrize(
    ("first", "second", "sha256", "status", "expected"),
    [
        (0.7005, 0.2995, None, 200, None),
        (0.71, 0.29, None, 200, (ParityError, "differs by 0.01")),
        (0.7, float("nan"), None, 200, (ParityError, "differs by")),
        (0.7, 0.3, "f" * 64, 200, (ParityError, "serves bundle ffffffffffff")),
        (0.7, 0.3, None, 500, (PipelineError, "answered 500 for a.png")),
    ],
)
def test_answers_over_http_are_held_to_the_probe(
    tmp_path: Path,
    first: float,
    second: float,
    sha256: str | None,
    status: int,
    expected: tuple[type[Exception], str] | None,
) -> None:
    found = probed_bundle(tmp_path)

    class Service(Answering):
        pass

    Service.status = status
    Service.answer = {
        "label": "a",
        "probability": first,
        "alternatives": [{"label": "b", "probability": second}],
        "bundle": {"name": "tiny", "sha256": sha256 or found},
    }
    with HTTPServer(("127.0.0.1", 0), Service) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"

        with pytest.raises(expected[0], match=expected[1]) if expected else nullcontext():
            ask_probe(url, tmp_path)

        server.shutdown()


@pytest.mark.parametrize("box", ["3 4 50 60", None])
def test_a_probes_box_goes_along(tmp_path: Path, box: str | None) -> None:
    found = probed_bundle(tmp_path, box=box)

    class Service(Answering):
        bodies: ClassVar[list[bytes]] = []
        answer: ClassVar[dict[str, object]] = {
            "label": "a",
            "probability": 0.7,
            "alternatives": [{"label": "b", "probability": 0.3}],
            "bundle": {"name": "tiny", "sha256": found},
        }

    with HTTPServer(("127.0.0.1", 0), Service) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()

        ask_probe(f"http://127.0.0.1:{server.server_port}", tmp_path)

        server.shutdown()
    [body] = Service.bodies
    assert (b'name="box"' in body) == (box is not None)
    assert (b"3 4 50 60" in body) == (box is not None)
