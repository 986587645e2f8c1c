"""The real command on the synthetic world: two heads, two seeds, a kill in between."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import pytest
import yaml

from fgpipe.adapters.mlflow_speeds import training_speed
from fgpipe.operations.benchmark_results import CellResult
from fgpipe.operations.benchmark_tools import StageProcess, experiment, locked
from fgpipe.records import Evaluation, TrainedModel
from tests.support.params import change_params
from tests.support.real_project import environment

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
ASKED = {
    "measure": "test_top1",
    "seeds": 2,
    "baseline": "head=linear",
    "grid": {"train.head": ["linear", "gru"]},
}


@pytest.fixture
def root(project: Path) -> Path:
    (project / "dvc.yaml").write_text("stages: {}\n")
    (project / "benchmark.yaml").write_text(yaml.safe_dump(ASKED))
    change_params(project, train={"epochs": 1})
    return project


def start(root: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "fgpipe", "benchmark"],
        cwd=root,
        env=environment(PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process: "subprocess.Popen[str]") -> tuple[int, str]:
    said, _ = process.communicate(timeout=900)
    return process.returncode, said


def results(root: Path) -> dict[Path, int]:
    files = (root / ".fgpipe" / "benchmark" / "cells").glob("*/result.json")
    return {path: path.stat().st_mtime_ns for path in files}


def test_a_benchmark_that_is_killed_goes_on_and_nothing_is_trained_twice(root: Path) -> None:
    first = start(root)
    deadline = time.monotonic() + 600
    while not results(root) and first.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(first.pid, signal.SIGKILL)
    finish(first)
    before = results(root)

    code, said = finish(start(root))

    assert (len(before), code) == (1, 0), said
    after = results(root)
    assert len(after) == 4
    assert before.items() <= after.items()
    lines = said.splitlines()
    assert lines[0] == "2 methods on 1 data set: 4 trainings, 1 of them done before"
    assert [line[:5] for line in lines[1:4]] == ["[2/4]", "[3/4]", "[4/4]"]
    assert all("; about " in line for line in lines[1:3])

    client = mlflow.MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    found = client.get_experiment_by_name("fgpipe-benchmark")
    assert found is not None
    assert len(client.search_runs([found.experiment_id])) == 4
    own = client.get_experiment_by_name("fgpipe")
    assert own is None or client.search_runs([own.experiment_id]) == []

    for path in after:
        result = CellResult.load(path)
        trained = TrainedModel.load(path.with_name("train.json"))
        evaluation = Evaluation.load(path.with_name("evaluate.json"))
        assert evaluation.train_sha256 == trained.sha256() == result.train_sha256
        assert result.measures["test_top1"] == evaluation.candidate.top1.value
        assert result.costs.n_parameters == trained.n_parameters
        assert 20 < result.costs.memory_mib < 20_000
        assert result.costs.serve_images_per_s > 1
        assert result.costs.file_mb == pytest.approx(4 * trained.n_parameters / 1e6, rel=0.2)
        speed = training_speed(result.train_sha256, root=root, experiment="fgpipe-benchmark")
        assert speed is not None
        assert result.costs.train_images_per_s == speed.images_per_s > 0
    kept = {path.name for path in (root / ".fgpipe" / "benchmark" / "cells").rglob("*")}
    assert kept == {*(path.parent.name for path in after), "train.json", "evaluate.json"} | {
        "result.json",
        "log.txt",
    }

    lines = (root / "reports" / "benchmark" / "benchmark.csv").read_text().splitlines()
    rows = list(csv.DictReader(lines))
    assert {row["variant"] for row in rows} == {"head=linear", "head=gru"}
    page = (root / "reports" / "benchmark" / "benchmark.html").read_text()
    assert all(f"{100 * float(row['mean']):.1f}" in page for row in rows)


def test_a_stages_message_is_told_and_not_a_traceback(root: Path) -> None:
    change_params(root, train={"weights": "packaged"})
    (root / "benchmark.yaml").write_text(yaml.safe_dump(ASKED | {"seeds": 1}))

    code, said = finish(start(root))

    assert code == 2
    assert "Traceback" not in said
    assert "fgpipe: 2 of 2 trainings failed, the first with: train.weights: no package" in said


def test_a_stage_that_outlives_a_benchmark_keeps_the_next_one_off(root: Path) -> None:
    folder = root / ".fgpipe" / "benchmark"
    with locked(folder) as lock:
        waiting = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"]
        orphan = subprocess.Popen(waiting, pass_fds=[lock], stdout=subprocess.PIPE)
    assert orphan.stdout is not None
    orphan.stdout.readline()

    code, said = finish(start(root))

    orphan.kill()
    orphan.communicate()
    assert code == 2
    assert "another benchmark, or a stage that one left running, is at work in" in said


def test_a_stage_that_breaks_off_shows_the_end_of_what_it_printed(root: Path) -> None:
    (root / "data" / "01_manifest").write_text("in the way")
    log = root / "log.txt"
    with locked(root / ".fgpipe" / "benchmark") as lock:
        run = StageProcess(root, lock=lock)
        with pytest.raises(Exception, match=r"manifest broke off with exit code 1; .*log\.txt has"):
            run("manifest", root=root, log=log)

    assert experiment() == "fgpipe-benchmark"
    assert "NotADirectoryError" in log.read_text()
