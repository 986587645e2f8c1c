"""Raw images to an HTTP answer, on real tools, as a user goes through it.

The tests are one story on one project and run in this order.
"""

import csv
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from fgpipe.adapters.mlflow_registry import MlflowRegistry
from fgpipe.adapters.mlflow_store import connect
from fgpipe.adapters.service_process import free_port
from fgpipe.images.files import read_image
from fgpipe.images.table import read_table
from fgpipe.metrics.calibration import softmax
from fgpipe.nn.recogniser import build
from fgpipe.operations.provenance import provenance
from fgpipe.pipeline import load_record
from fgpipe.records import (
    Champion,
    Evaluation,
    GateDecision,
    Manifest,
    RecogniserSpec,
    TrainedModel,
)
from fgpipe.serving.predictor import Predictor
from tests.support.network_audit import LOG, NetworkAudit
from tests.support.params import change_params
from tests.support.real_project import environment, make_real_project, run

pytestmark = pytest.mark.e2e

PAYLOAD = Path("data") / "05_train" / "payload"
TOLERANCE = {"f32": (1e-3, 1e-3), "bf16": (2e-2, 5e-2)}
"""Of the serving precision: for 99 % of the probabilities, and for all."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_real_project(tmp_path_factory.mktemp("whole") / "project")


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> NetworkAudit:
    return NetworkAudit(tmp_path_factory.mktemp("audit"))


def flow(name: str, *, root: Path, audit: NetworkAudit, code: int = 0) -> str:
    """Run a flow without a network, every socket of every process below it watched."""
    command = [*audit.cut(), sys.executable, "-m", f"flows.{name}"]
    return run(*command, root=root, code=code, **watched(audit))


def watched(audit: NetworkAudit) -> dict[str, str]:
    """What is added to the environment of a process to have it watched."""
    return {key: audit.environment()[key] for key in ("PYTHONPATH", LOG)}


def outs(root: Path) -> dict[str, str]:
    stages = yaml.safe_load((root / "dvc.lock").read_text())["stages"]
    return {out["path"]: out["md5"] for stage in stages.values() for out in stage["outs"]}


def champion(root: Path) -> Champion:
    return Champion.load(root / "deploy" / "champion.json")


@pytest.fixture(scope="module")
def trained(root: Path, audit: NetworkAudit) -> str:
    """The first run, from images to champion; what it printed."""
    return flow("retrain", root=root, audit=audit)


def test_a_first_run_trains_and_promotes(root: Path, trained: str) -> None:
    decision = load_record(GateDecision, root=root)

    assert decision.passed, decision.summary
    assert decision.test["top1"].value > 0.5
    assert champion(root).version == 1
    assert "version 1 is champion" in trained
    assert len(trained.splitlines()) < 80, trained
    assert "Warning" not in trained


@pytest.mark.usefixtures("trained")
def test_the_version_is_tied_to_data_code_and_run(root: Path) -> None:
    client = connect(root)
    model = load_record(TrainedModel, root=root)
    known = provenance(root)

    version = client.get_model_version_by_alias("fgpipe", "champion")
    run_of_it = client.get_run(version.run_id)

    assert version.tags["fgpipe.data_hash"] == known["data_hash"]
    assert version.tags["fgpipe.train_hash"] == known["train_hash"]
    assert version.tags["fgpipe.git_commit"] == known["git_commit"]
    assert version.tags["fgpipe.bundle_sha256"] == champion(root).bundle_sha256
    assert run_of_it.data.tags["fgpipe.train_sha256"] == model.sha256()
    assert run_of_it.data.tags["fgpipe.verdict"] == "passed"
    assert run_of_it.inputs.dataset_inputs[0].dataset.digest in known["data_hash"]
    history = client.get_metric_history(version.run_id, "validation_loss")
    assert [point.value for point in history] == [e.validation_loss for e in model.curves]


@pytest.mark.usefixtures("trained")
def test_running_again_does_nothing_and_says_so(root: Path, audit: NetworkAudit) -> None:
    before = outs(root)

    said = flow("retrain", root=root, audit=audit)

    assert "nothing has changed" in said
    assert outs(root) == before
    assert champion(root).version == 1


@pytest.mark.usefixtures("trained")
def test_torch_and_the_graph_agree_on_the_whole_test_split(root: Path) -> None:
    table = read_table(root / "data" / "01_manifest" / "payload")
    paths = table.loc[table["split"] == "test", "path"]
    spec = RecogniserSpec.model_validate_json((root / PAYLOAD / "recogniser.json").read_text())
    network = build(spec, seed=0).eval()
    network.load_state_dict(load_file(root / PAYLOAD / "model.safetensors"))
    predictor = Predictor.load(root / PAYLOAD, precision="f32")
    images = [predictor.preprocess(read_image(root / "data" / "raw" / path)) for path in paths]
    pixels = np.stack(images)

    graph = softmax(predictor.logits(pixels))
    with torch.inference_mode():
        expected = softmax(network(torch.from_numpy(pixels))[0].double().numpy())

    assert np.abs(graph - expected).max() < 1e-3
    ranked = np.sort(expected, axis=1)
    clear = ranked[:, -1] - ranked[:, -2] > 1e-3
    assert np.array_equal(graph.argmax(axis=1)[clear], expected.argmax(axis=1)[clear])


@contextmanager
def serving(root: Path, audit: NetworkAudit) -> Iterator[httpx.Client]:
    """`fgpipe serve` as a user starts it."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "fgpipe", "serve", "--port", str(port)],
        cwd=root,
        env=environment(**watched(audit)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            deadline = time.monotonic() + 90
            while True:
                assert process.poll() is None, "the service ended"
                assert time.monotonic() < deadline, "the service did not start"
                try:
                    if client.get("/readyz").status_code == httpx.codes.OK:
                        break
                except httpx.TransportError:
                    time.sleep(0.2)
            yield client
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.usefixtures("trained")
def test_the_endpoint_answers_as_evaluation_did_and_junk_is_refused(
    root: Path, audit: NetworkAudit
) -> None:
    evaluation = load_record(Evaluation, root=root)
    labels = load_record(Manifest, root=root).label_names
    with (root / "data" / "06_evaluate" / "payload" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))

    differences = []
    with serving(root, audit) as client:
        for row in rows:
            image = (root / "data" / "raw" / row["path"]).read_bytes()
            answer = client.post("/v1/predict", files={"image": image}).json()
            entries = [answer, *answer["alternatives"]]
            given = {entry["label"]: entry["probability"] for entry in entries}
            differences += [abs(given[name] - probability(row, name)) for name in labels]
        junk = [
            client.post("/v1/predict", files={"image": body}) for body in (b"", b"junk", image[:99])
        ]

    most, every = TOLERANCE[evaluation.precision]
    assert len(rows) == evaluation.candidate.n_images
    assert np.quantile(differences, 0.99) < most
    assert max(differences) < every
    assert answer["bundle"]["sha256"] == champion(root).bundle_sha256
    assert answer["parent"] in {"amber", "blue"}
    assert {response.status_code for response in junk} == {422}


def probability(row: dict[str, str], label: str) -> float:
    """The probability of a label in a row of predictions.csv."""
    (name,) = [key for key in row if key.startswith("probability") and key.endswith(label)]
    return float(row[name])


@pytest.mark.usefixtures("trained")
def test_dvc_repro_at_a_desk_finds_nothing_to_do(root: Path) -> None:
    before = outs(root)

    said = run("dvc", "repro", root=root)

    assert "up to date" in said
    assert outs(root) == before


@pytest.mark.usefixtures("trained")
def test_dvc_repro_stops_at_data_that_do_not_meet_an_expectation(root: Path) -> None:
    expectations = root / "data" / "expectations.yaml"
    before, lock = expectations.read_text(), (root / "dvc.lock").read_bytes()
    asked = "{name: wide, meaning: wide, check: width, min: 5000, severity: refuse}"
    expectations.write_text(f"schema_version: 1\nexpectations: [{asked}]\n")

    said = run("dvc", "repro", root=root, code=255)

    assert "wide: wide (min 5000); not so for" in said
    assert "look at data/02_validate/payload/report.html" in said
    assert "Traceback" not in said
    assert "Running stage 'train'" not in said
    assert (root / "dvc.lock").read_bytes() == lock
    assert (root / "data" / "02_validate" / "payload" / "report.html").exists()
    expectations.write_text(before)
    again = run("dvc", "repro", root=root)
    assert "Running stage" not in again
    assert (root / "dvc.lock").read_bytes() == lock


@pytest.mark.usefixtures("trained")
def test_a_model_the_gate_refuses_is_a_named_result(root: Path, audit: NetworkAudit) -> None:
    change_params(root, gate={"min_top1": 1.0, "min_macro_recall": 1.0})
    change_params(root, train={"epochs": 1})

    said = flow("retrain", root=root, audit=audit)

    decision = load_record(GateDecision, root=root)
    assert decision.verdict == "rejected"
    assert "rejected" in said
    assert champion(root).version == 1
    comparison = load_record(Evaluation, root=root).comparison
    assert comparison is not None
    assert comparison.version == 1
    refused = run(sys.executable, "-m", "fgpipe", "promote", root=root, code=2)
    assert "gate" in refused
    assert "Traceback" not in refused


@pytest.mark.usefixtures("trained")
def test_earlier_parameters_restore_the_result_without_training(
    root: Path, audit: NetworkAudit
) -> None:
    client = connect(root)
    experiment = client.get_experiment_by_name("fgpipe").experiment_id
    n_runs = len(client.search_runs([experiment]))
    change_params(root, gate={"min_top1": 0.0, "min_macro_recall": 0.0})
    change_params(root, train={"epochs": 10})

    flow("retrain", root=root, audit=audit)

    assert len(client.search_runs([experiment])) == n_runs
    assert load_record(TrainedModel, root=root).sha256() == champion(root).train_sha256
    assert MlflowRegistry(root).champion() is not None
    assert champion(root).version == 1


@pytest.mark.usefixtures("trained")
def test_another_head_is_an_experiment_and_shown_beside_the_others(root: Path) -> None:
    run("git", "add", "--all", root=root)
    who = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    run("git", *who, "commit", "--quiet", "--message", "trained", root=root)

    run(
        "dvc",
        "exp",
        "run",
        "--set-param",
        "train.head=gru",
        "--set-param",
        "train.epochs=2",
        root=root,
    )

    assert load_record(TrainedModel, root=root).recogniser.head == "gru"
    shown = json.loads(run("dvc", "exp", "show", "--json", root=root).splitlines()[-1])
    assert "gru" in json.dumps(shown)
    changed = json.loads(run("dvc", "metrics", "diff", "--json", root=root).splitlines()[-1])
    figures = changed["data/07_gate/record.json"]
    assert {"test.top1.value", "test.top1.low", "test.top1.high"} <= set(figures)


@pytest.mark.usefixtures("trained")
def test_the_status_is_short_and_has_intervals(root: Path) -> None:
    said = run(sys.executable, "-m", "fgpipe", "status", root=root)

    assert re.search(r"top-1 +0\.\d{3} +\[0\.\d{3}, [01]\.\d{3}\]", said)
    assert len(said.splitlines()) < 40


def test_nothing_went_to_any_address_but_this_machines(audit: NetworkAudit, trained: str) -> None:
    assert trained
    assert audit.attempts() == []
