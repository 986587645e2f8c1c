import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from fgpipe.adapters import service_process
from fgpipe.adapters.bento_builder import BentoBuilder
from fgpipe.errors import NotReadyError, ParityError, PipelineError, UnavailableError
from fgpipe.serving.bundle import BundleDescription
from tests.support.tiny_bundle import COLOURS, LABELS, png, tiny_bundle

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the service's code."""
    made = tmp_path_factory.mktemp("project")
    (made / "deploy").mkdir()
    shutil.copy(ROOT / "deploy" / "service.py", made / "deploy")
    return made


@pytest.fixture(scope="module")
def bundle(root: Path) -> BundleDescription:
    return tiny_bundle(root / "bundle")


@pytest.fixture(scope="module")
def tag(root: Path, bundle: BundleDescription) -> str:
    return BentoBuilder(root).build(
        root / "bundle", bundle_sha256=bundle.bundle_sha256, name="tiny"
    )


@pytest.fixture(scope="module")
def url(root: Path, tag: str) -> Iterator[str]:
    """The endpoint, served by a process of its own as a user would start it."""
    port = service_process.free_port()
    program = (
        "import sys; from pathlib import Path\n"
        "from fgpipe.adapters.bento_builder import BentoBuilder\n"
        "builder = BentoBuilder(Path(sys.argv[1]))\n"
        "say = lambda url: print(url, flush=True)\n"
        "builder.serve(sys.argv[2], port=int(sys.argv[3]), ready=say)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(root), tag, str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    lines = iter(process.stdout.readline, "")
    yield next(line.strip() for line in lines if line.startswith("http"))
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 0
    service_process.demand_port(port, host="127.0.0.1")


def test_a_bento_is_built_once_until_bundle_or_code_change(
    root: Path, bundle: BundleDescription, tag: str, tmp_path: Path
) -> None:
    bento = root / ".fgpipe" / "bento" / "bentos" / tag.replace(":", "/")
    written = (bento / "bento.yaml").stat().st_mtime_ns

    again = BentoBuilder(root).build(
        root / "bundle", bundle_sha256=bundle.bundle_sha256, name="tiny"
    )

    assert again == tag
    assert (bento / "bento.yaml").stat().st_mtime_ns == written
    assert "torch" not in (bento / "env" / "python" / "requirements.txt").read_text()
    assert (bento / "src" / "fgpipe" / "serving" / "http.py").is_file()
    assert BentoBuilder(root).has(tag)


def test_a_build_that_was_cut_off_is_made_again(
    root: Path, bundle: BundleDescription, tag: str
) -> None:
    bento = root / ".fgpipe" / "bento" / "bentos" / tag.replace(":", "/")
    (bento / "src" / "service.py").unlink()
    builder = BentoBuilder(root)
    (builder.bundle_of(tag) / "model.onnx").write_bytes(b"half")

    again = builder.build(root / "bundle", bundle_sha256=bundle.bundle_sha256, name="tiny")

    assert again == tag
    assert (bento / "src" / "service.py").is_file()
    assert builder.has(tag)


def test_a_service_proves_itself_and_leaves_no_process(
    root: Path, tag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports = []
    free = service_process.free_port
    monkeypatch.setattr(
        "fgpipe.adapters.bento_builder.free_port", lambda: ports.append(free()) or ports[-1]
    )

    BentoBuilder(root).prove(tag)

    service_process.demand_port(ports[0], host="127.0.0.1")


def test_a_service_whose_probe_is_wrong_does_not_start(root: Path) -> None:
    wrong = tiny_bundle(root / "wrong", probe_shift=0.01)
    builder = BentoBuilder(root)
    tag = builder.build(root / "wrong", bundle_sha256=wrong.bundle_sha256, name="wrong")

    with pytest.raises(ParityError, match="differs by"):
        builder.prove(tag)
    with pytest.raises(PipelineError, match=r"(?s)ParityError.*differs by"):
        builder._prove_served(tag, builder.bundle_of(tag))


def test_the_endpoint_answers_an_image(url: str, bundle: BundleDescription) -> None:
    answers = {
        label: httpx.post(f"{url}/v1/predict", files={"image": png(colour)}).json()
        for label, colour in COLOURS.items()
    }

    assert {label: answer["label"] for label, answer in answers.items()} == {
        label: label for label in LABELS
    }
    assert answers["blue"]["parent"] == "cold"
    assert answers["blue"]["bundle"]["sha256"] == bundle.bundle_sha256


def test_the_endpoint_runs_the_bentos_own_code_and_probes_it(
    url: str, root: Path, bundle: BundleDescription
) -> None:
    service_process.ask_probe(url, root / "bundle")

    assert httpx.get(f"{url}/v1/bundle").json()["sha256"] == bundle.bundle_sha256
    assert httpx.get(f"{url}/livez").status_code == 200
    assert "bentoml_service_request_total" in httpx.get(f"{url}/metrics").text


@pytest.mark.parametrize("content", [b"", b"junk", os.urandom(2000), png((0, 0, 0))[:40]])
def test_the_endpoint_refuses_junk_with_a_reason(url: str, content: bytes) -> None:
    answer = httpx.post(f"{url}/v1/predict", content=content, headers={"Content-Type": "image/png"})

    assert answer.status_code == 422
    assert answer.json()["detail"]


def test_the_endpoint_refuses_a_body_that_is_too_large(url: str) -> None:
    answer = httpx.post(
        f"{url}/v1/predict", content=bytes(21 * 2**20), headers={"Content-Type": "image/png"}
    )

    assert answer.status_code == 413


def test_a_probe_of_another_bundle_is_noticed(url: str, root: Path) -> None:
    tiny_bundle(root / "other", description="Another one.")

    with pytest.raises(ParityError, match="serves bundle"):
        service_process.ask_probe(url, root / "other")


def test_a_port_in_use_is_refused_before_anything_starts(root: Path, tag: str) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]

        with pytest.raises(UnavailableError, match=f"port {port}"):
            BentoBuilder(root).serve(tag, port=port)


def test_a_bento_that_is_not_there_is_named(root: Path) -> None:
    with pytest.raises(NotReadyError, match=r"tiny:none is not in the Bento store"):
        BentoBuilder(root).serve("tiny:none", port=0)

    assert not BentoBuilder(root).has("tiny:none")
