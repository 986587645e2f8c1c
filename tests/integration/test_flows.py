"""The flows on a real Prefect server, with fakes for what costs time."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from fgpipe.errors import NotReadyError
from fgpipe.pipeline import BASELINE, STAGES
from fgpipe.records import Baseline
from tests.adapters.registry import FakeRegistry
from tests.adapters.reproducer import FakeReproducer
from tests.adapters.service_builder import FakeServiceBuilder
from tests.support import tiny_project
from tests.support.tiny_project import ROOT, environment, make_tiny_project, set_parameter

pytestmark = pytest.mark.integration

EVERY_STAGE = tuple(stage.name for stage in STAGES)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that the code under test starts, and ends."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("server"))
        for name in [name for name in os.environ if name.startswith(("PREFECT_", "FGPIPE_"))]:
            patch.delenv(name)
        from flows.environment import prepare_environment
        from flows.server import prefect_server

        prepare_environment()
        with prefect_server(port=0) as started:
            patch.setenv("PREFECT_API_URL", started.url)
            yield started.url


@pytest.fixture
def api(server: str) -> Iterator[str]:
    """Flows of this process run on the server."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: server}):
        yield server


class Fakes:
    """What the flows find behind their ports."""

    def __init__(self, root: Path) -> None:
        self.reproducer = FakeReproducer(EVERY_STAGE, run=self._run)
        self.registry = FakeRegistry()
        self.builder = FakeServiceBuilder()
        self._root = root

    def _run(self, stage: str) -> None:
        tiny_project.run(stage, root=self._root)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "baseline.json").write_text("null\n")
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    return tmp_path


@pytest.fixture
def fakes(root: Path, api: str, monkeypatch: pytest.MonkeyPatch) -> Fakes:
    from flows import tools

    fakes = Fakes(root)
    monkeypatch.setattr(tools, "reproducer", lambda root: fakes.reproducer)
    monkeypatch.setattr(tools, "registry", lambda root: fakes.registry)
    monkeypatch.setattr(tools, "builder", lambda root: fakes.builder)
    return fakes


def state_of(flow: Any, root: Path) -> Any:
    return flow(root, return_state=True)


def test_training_brings_every_stage_up_to_date_in_order(root: Path, fakes: Fakes) -> None:
    from flows.train import train_flow

    decision = train_flow(root)

    assert fakes.reproducer.reproduced == list(EVERY_STAGE)
    assert decision.verdict == "passed"


def test_a_refusal_is_a_named_result_and_not_a_failure(
    root: Path, fakes: Fakes, capsys: pytest.CaptureFixture[str]
) -> None:
    from flows.train import train_flow

    set_parameter(root, "gate.min_top1", 0.99)

    state = state_of(train_flow, root)

    assert (state.type.value, state.name) == ("COMPLETED", "Rejected")
    assert "0.99" in state.message
    assert f"\n{state.message}\n" in capsys.readouterr().out
    assert state.message.count("rejected") == 1
    assert fakes.reproducer.reproduced[-1] == "package"


def test_the_champion_becomes_the_model_to_beat_before_evaluation(root: Path, fakes: Fakes) -> None:
    from flows.train import train_flow

    version = fakes.registry.register(root, bundle_sha256="old", train_sha256="old", tags={})
    fakes.registry.promote(version.version)
    seen: list[Baseline | None] = []

    def run(stage: str) -> None:
        if stage == "evaluate":
            seen.append(Baseline.load(root / BASELINE))
        tiny_project.run(stage, root=root)

    fakes.reproducer.run = run
    train_flow(root)

    assert seen == [Baseline(version=1, bundle_sha256="old", train_sha256="old")]


def test_retraining_promotes_what_passes_and_then_finds_nothing_to_do(
    root: Path, fakes: Fakes, capsys: pytest.CaptureFixture[str]
) -> None:
    from flows.retrain import retrain_flow

    first = state_of(retrain_flow, root)
    champion = fakes.registry.champion()
    fakes.reproducer.reproduced.clear()
    second = state_of(retrain_flow, root)

    assert first.type.value == "COMPLETED"
    assert champion is not None
    assert fakes.builder.proved == [champion.bento_tag]
    assert second.name == "Unchanged"
    assert fakes.reproducer.reproduced == []
    said = capsys.readouterr().out
    assert re.search(r"^train +made +\d+\.\d s$", said, flags=re.MULTILINE)
    assert "version 1 is champion" in said
    assert "nothing has changed; passed" in said


def test_retraining_stops_at_a_refusal_and_does_not_repeat_it(root: Path, fakes: Fakes) -> None:
    from flows.retrain import retrain_flow

    set_parameter(root, "gate.min_top1", 0.99)

    first, second = state_of(retrain_flow, root), state_of(retrain_flow, root)

    assert (first.name, second.name) == ("Rejected", "Unchanged")
    assert fakes.registry.champion() is None


def test_retraining_goes_on_where_something_changed_or_another_model_serves(
    root: Path, fakes: Fakes
) -> None:
    from flows.retrain import retrain_flow

    retrain_flow(root)
    fakes.reproducer.change()
    set_parameter(root, "train.head", "gru")
    changed = state_of(retrain_flow, root)
    fakes.registry.aliases["champion"] = 1
    rolled_back = state_of(retrain_flow, root)

    assert changed.name == "Completed"
    assert rolled_back.name == "Completed"
    assert fakes.registry.aliases == {"champion": 2, "previous": 1}


def test_promoting_what_did_not_pass_is_refused(root: Path, fakes: Fakes) -> None:
    from flows.promote import promote_flow
    from flows.train import train_flow

    set_parameter(root, "gate.min_top1", 0.99)
    train_flow(root)

    with pytest.raises(NotReadyError, match=r"0\.99"):
        promote_flow(root)

    assert fakes.registry.versions == {}


def command(
    module: str, *arguments: str, root: Path, **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=root,
        env={**environment(), **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real DVC project whose gate refuses, so that nothing is built."""
    project = make_tiny_project(tmp_path_factory.mktemp("tiny"))
    set_parameter(project, "gate.min_top1", 0.99)
    return project


def test_a_users_mistake_in_a_stage_ends_a_flow_with_one_message_and_code_2(
    project: Path, server: str
) -> None:
    set_parameter(project, "train.weights", "refuse")
    done = command("flows.train", root=project, PREFECT_API_URL=server)
    set_parameter(project, "train.weights", "packaged")

    assert done.returncode == 2
    assert done.stderr == "fgpipe: train.weights: 'refuse' is no weights\n"
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(EVERY_STAGE[:4])


def test_a_server_that_does_not_answer_is_told_at_once(project: Path) -> None:
    done = command("flows.retrain", root=project, PREFECT_API_URL="http://127.0.0.1:9/api")

    assert done.returncode == 2
    assert "no Prefect server answers at http://127.0.0.1:9/api" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--cron", "0 3 * *"), "--cron '0 3 * *'"),
        (("--cron", "0 3 * * *", "--timezone", "Mars/Olympus"), "Mars/Olympus"),
        (("--every", "0"), "1 second at least"),
    ],
)
def test_a_schedule_that_is_none_is_refused(
    project: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = command("flows.serve", *arguments, root=project)

    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_port_in_use_is_told(project: Path, server: str) -> None:
    port = str(httpx.URL(server).port)

    done = command("flows.serve", "--every", "60", "--port", port, root=project, PREFECT_API_URL="")

    assert done.returncode == 2
    assert f"port {port} on 127.0.0.1 cannot be used" in done.stderr


def test_a_schedule_fires_on_a_server_that_it_starts_and_both_end_together(project: Path) -> None:
    variables = {**environment(), "PREFECT_API_URL": ""}
    command = [sys.executable, "-m", "flows.serve", "--every", "2"]
    with subprocess.Popen(
        command, cwd=project, env=variables, stdout=subprocess.PIPE, text=True
    ) as serving:
        assert serving.stdout is not None
        try:
            lines = iter(serving.stdout.readline, "")
            address = next(line.split()[-1] for line in lines if "Prefect's pages" in line)
            verdict = next(line for line in lines if line.startswith("rejected"))
            state = _wait_for_state(f"{address}/api", name="Rejected")
        finally:
            serving.send_signal(signal.SIGTERM)
            code = serving.wait(90)

    assert "0.99" in verdict
    assert state["type"] == "COMPLETED"
    assert state["flow_run"].startswith("retrain")
    assert code == 128 + signal.SIGTERM
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{address}/api/health")


def _wait_for_state(api: str, *, name: str) -> dict[str, str]:
    """The state of a scheduled run of the deployment, once there is one of that name."""
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        query = {"sort": "START_TIME_DESC"}
        runs = httpx.post(f"{api}/flow_runs/filter", json=query, timeout=60).json()
        for run in runs:
            if run["auto_scheduled"] and run["state"]["name"] == name:
                flow = httpx.get(f"{api}/flows/{run['flow_id']}", timeout=60).json()
                return {"type": run["state"]["type"], "flow_run": flow["name"]}
        time.sleep(0.5)
    raise AssertionError(f"no scheduled run ended as {name}")
