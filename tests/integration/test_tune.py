"""Searches with real trainings of a small network, the real Optuna, MLflow and DVC."""

import csv
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fgpipe.adapters import mlflow_store as store
from fgpipe.adapters.mlflow_tracker import MlflowTracker
from fgpipe.adapters.optuna_search import OptunaSearcher
from fgpipe.config import load_params
from fgpipe.operations.search import Search, find
from fgpipe.operations.trial_table import ranked, summary
from fgpipe.operations.tune import adopt, run_search
from fgpipe.pipeline import run_stage
from fgpipe.ports import Ports, TrialResult
from tests.support.params import change_params
from tests.support.ports import fake_ports
from tests.support.real_project import environment, make_real_project, run

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
RATE = "train.learning_rate"
TUNE = {
    "objective": "validation_loss",
    "n_trials": 3,
    "sampler": "random",
    "pruner": "none",
    "seed": 0,
    "search": {
        RATE: {"kind": "float", "low": 1e-4, "high": 0.05, "log": True},
        "train.augment": ["flips", "none"],
    },
}


@pytest.fixture(autouse=True)
def _own_store() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.delenv("FGPIPE_HOME", raising=False)
        yield


@pytest.fixture
def prepared(project: Path) -> Path:
    """A project whose stages before the training have run."""
    for stage in ("manifest", "validate", "preprocess", "pretrain"):
        run_stage(stage, root=project, ports=fake_ports(project))
    return project


def write_tune(root: Path, **changes: object) -> None:
    (root / "tune.yaml").write_text(yaml.safe_dump(TUNE | changes, sort_keys=False))


def ports_of(root: Path) -> Ports:
    fakes = fake_ports(root)
    return Ports(
        checker=fakes.checker,
        tracker=MlflowTracker(root),
        registry=fakes.registry,
        checkpoints=root / ".fgpipe" / "checkpoints",
        measures=fakes.measures,
    )


def searched(root: Path) -> tuple[Search, tuple[TrialResult, ...]]:
    search = find(root)
    results = run_search(search, searcher=OptunaSearcher(search), ports=ports_of(root), say=print)
    return search, results


def runs(root: Path, condition: str) -> list[Any]:
    """Of the store, the oldest first."""
    client = store.connect(root)
    experiment = store.experiment_id(client, root=root)
    return list(client.search_runs([experiment], condition, order_by=["attributes.start_time"]))


def test_three_trials_are_runs_under_one_and_the_best_is_adopted(prepared: Path) -> None:
    write_tune(prepared)

    search, results = searched(prepared)
    text = summary(search, results, importances={})
    adopted = adopt(search, searcher=OptunaSearcher(search), number=None)

    assert [result.state for result in results] == ["finished"] * 3
    assert results[0].trial.values == {RATE: 0.003, "train.augment": "flips"}
    [parent] = runs(prepared, "tags.`fgpipe.search_key` != ''")
    trials = runs(prepared, f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert [trial.info.run_name for trial in trials] == ["trial-0", "trial-1", "trial-2"]
    for trial, result in zip(trials, results, strict=True):
        assert trial.info.status == "FINISHED"
        assert trial.data.tags["fgpipe.trial_state"] == "finished"
        assert float(trial.data.params[RATE]) == result.trial.values[RATE]
        assert trial.data.params["train.augment"] == result.trial.values["train.augment"]
        curve = store.connect(prepared).get_metric_history(trial.info.run_id, "validation_loss")
        assert len(curve) == 2
        assert result.value == min(point.value for point in curve)
    best = ranked(search, results)[0]
    assert parent.info.status == "FINISHED"
    assert parent.data.params[f"search.{RATE}"] == "0.0001 to 0.05, log"
    assert parent.data.metrics["best_validation_loss"] == best.value
    assert parent.data.tags[f"best.{RATE}"] == str(best.trial.values[RATE])
    assert parent.data.tags["fgpipe.trial"] == str(best.trial.number)
    client = store.connect(prepared)
    kept = client.download_artifacts(parent.info.run_id, "search/trials.csv", str(prepared))
    with Path(kept).open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["validation_loss"]) for row in rows] == [result.value for result in results]
    assert adopted == best
    assert load_params(prepared / "params.yaml").train.learning_rate == best.trial.values[RATE]
    assert f"{best.value:.4f}" in text
    assert not list((prepared / ".fgpipe" / "tune" / "trials").glob("*"))
    assert not (prepared / "data" / "05_train").exists()


def test_a_poor_trial_is_stopped_and_its_run_says_so_and_is_not_taken_up_again(
    prepared: Path,
) -> None:
    change_params(prepared, train={"learning_rate": 0.01, "epochs": 4})
    write_tune(prepared, pruner="halving", search={RATE: [0.01, 1e-9]}, n_trials=5)

    _, results = searched(prepared)

    pruned = [result for result in results if result.state == "pruned"]
    assert pruned
    assert {result.trial.values[RATE] for result in pruned} == {1e-9}
    found = runs(prepared, "tags.`fgpipe.trial_state` = 'pruned'")
    assert [int(each.data.tags["fgpipe.trial"]) for each in found] == [
        result.trial.number for result in pruned
    ]
    for each in found:
        assert each.info.status == "FINISHED"
        history = store.connect(prepared).get_metric_history(each.info.run_id, "validation_loss")
        assert 1 <= len(history) < 4
    assert not list((prepared / ".fgpipe" / "checkpoints").glob("*"))


def test_a_value_of_the_preprocessing_changes_a_trials_images_and_not_the_projects(
    prepared: Path,
) -> None:
    write_tune(prepared, search={"preprocess.color_space": ["gray", "rgb"]}, n_trials=3, seed=1)
    change_params(prepared, train={"epochs": 1})
    images = prepared / "data" / "03_preprocess" / "payload" / "images.npy"
    before = images.stat().st_mtime_ns

    _, results = searched(prepared)

    by_colour: dict[object, set[float | None]] = {}
    for result in results:
        by_colour.setdefault(result.trial.values["preprocess.color_space"], set()).add(result.value)
    assert set(by_colour) == {"gray", "rgb"}
    assert all(len(values) == 1 for values in by_colour.values())
    assert by_colour["gray"] != by_colour["rgb"]
    assert images.stat().st_mtime_ns == before


KILLED = """
import os, signal, sys
from pathlib import Path
from fgpipe.settings import prepare_environment
prepare_environment()
from fgpipe.adapters import optuna_search
from tests.integration.test_tune import searched

report = optuna_search.OptunaSearcher.report
def dying(self, trial, *, epoch, value):
    answer = report(self, trial, epoch=epoch, value=value)
    if (trial.number, epoch) == (1, 1):
        os.kill(os.getpid(), signal.SIGKILL)
    return answer
optuna_search.OptunaSearcher.report = dying
searched(Path(sys.argv[1]))
"""


def test_a_search_that_was_killed_comes_to_what_it_would_have_come_to(
    prepared: Path, tmp_path: Path
) -> None:
    write_tune(prepared)
    killed = tmp_path / "killed"
    subprocess.run(["cp", "-r", str(prepared), str(killed)], check=True)
    _, whole = searched(prepared)

    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(killed)],
        cwd=ROOT,
        env=environment(PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1"),
        check=False,
        capture_output=True,
    )
    left = [path.name for path in (killed / ".fgpipe" / "tune" / "trials").iterdir()]
    _, resumed = searched(killed)

    assert done.returncode == -signal.SIGKILL, done.stderr
    assert left == ["1"]
    assert [result.trial.number for result in resumed] == [0, 2, 3]
    assert [(result.trial.values, result.value) for result in resumed] == [
        (result.trial.values, result.value) for result in whole
    ]
    [parent] = runs(killed, "tags.`fgpipe.search_key` != ''")
    trials = runs(killed, f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert [trial.info.run_name for trial in trials] == ["trial-0", "trial-2", "trial-3"]
    assert {trial.info.status for trial in trials} == {"FINISHED"}


def test_the_command_is_interrupted_goes_on_and_adopts(tmp_path: Path) -> None:
    root = make_real_project(tmp_path / "project")
    change_params(root, train={"epochs": 3})
    write_tune(root, n_trials=2)
    command = [sys.executable, "-m", "fgpipe", "tune"]
    log = tmp_path / "log"
    with log.open("w") as file:
        first = subprocess.Popen(
            ["env", "--default-signal=INT", *command],  # a shell's background ignores it
            cwd=root,
            env=environment(),
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        deadline = time.monotonic() + 300
        while "epoch 1/3" not in log.read_text() and first.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        first.send_signal(signal.SIGINT)
        code = first.wait(timeout=60)

    again = run(*command, root=root)
    adopted = run(*command, "--adopt", root=root)
    unknown = run(*command, "--adopt", "77", root=root, code=2)
    done = run(*command, root=root)

    said = log.read_text()
    assert code == 130, said
    assert said.splitlines()[-1] == (
        "fgpipe: interrupted; `fgpipe tune` goes on with the trial it was at"
    )
    assert "Traceback" not in said
    assert "1 trial(s) that were broken off are taken up again" in again
    assert "2 trials: 2 finished, 0 pruned, 0 failed" in again
    assert "writes trial" in again
    assert "'s values:" in adopted.splitlines()[0]
    assert "trial 77 is none that finished" in unknown
    assert "trial 3" not in done
    assert "2 trials: 2 finished" in done
