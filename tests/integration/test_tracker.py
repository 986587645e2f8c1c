"""The real MLflow store shows each training once, whatever happened to it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fgpipe.adapters import mlflow_store as store
from fgpipe.adapters.mlflow_tracker import MlflowTracker
from fgpipe.records import Comparison, Retrieval
from tests.support.tiny_project import (
    commit,
    decision,
    epoch,
    evaluation,
    git,
    trained,
)

pytestmark = pytest.mark.integration

PARAMETERS = {"train": {"head": "gru", "resolved": {"device": "cpu", "libraries": {"torch": "2"}}}}
DATA_HASH = "0123456789abcdef0123456789abcdef.dir"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One project for the module: MLflow takes seconds to make a store."""
    root = tmp_path_factory.mktemp("project")
    (root / ".gitignore").write_text("mlflow.db\nmlartifacts/\n.fgpipe/\n")
    (root / "data").mkdir()
    (root / "data" / "raw.dvc").write_text(f"outs:\n- md5: {DATA_HASH}\n  path: raw\n")
    git("init", "--quiet", root=root)
    commit(root, "start")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.delenv("FGPIPE_HOME", raising=False)
        yield root


@pytest.fixture(scope="module")
def tracker(root: Path) -> MlflowTracker:
    return MlflowTracker(root)


@pytest.fixture
def payload(tmp_path: Path) -> Path:
    folder = tmp_path / "payload"
    folder.mkdir()
    for name in ("recogniser.json", "curves.csv", "model.safetensors", "report.html"):
        (folder / name).write_text(name)
    return folder


def runs(root: Path, tag: str, value: str) -> list[Any]:
    client = store.connect(root)
    experiment = store.experiment_id(client, root=root)
    return list(client.search_runs([experiment], f"tags.`{tag}` = '{value}'"))


def log(run: Any, number: int) -> None:
    run.log_epoch(epoch(number), speed={"epoch_s": 2.0, "images_per_s": 50.0})


def test_a_run_has_parameters_curves_data_code_and_what_it_made(
    root: Path, tracker: MlflowTracker, payload: Path
) -> None:
    with tracker.training(input_key="whole", parameters=PARAMETERS) as run:
        log(run, 1)
        log(run, 2)
        run.finish(trained(head="gru"), payload)

    [found] = runs(root, store.INPUT_KEY, "whole")
    client = store.connect(root)
    assert found.info.status == "FINISHED"
    assert found.data.params["train.head"] == "gru"
    assert found.data.params["train.resolved.libraries.torch"] == "2"
    curve = client.get_metric_history(found.info.run_id, "validation_top1")
    assert [(point.step, point.value) for point in curve] == [(1, 0.5), (2, 0.75)]
    assert found.data.metrics["images_per_s"] == 50.0
    assert found.data.metrics["best_epoch"] == 2
    [data] = found.inputs.dataset_inputs
    assert data.dataset.digest == DATA_HASH
    assert json.loads(data.dataset.source)["path"] == "data/raw"
    assert found.data.tags[store.GIT_COMMIT] == git("rev-parse", "HEAD", root=root).strip()
    assert found.data.tags["fgpipe.git_dirty"] == "false"
    assert found.data.tags[store.TRAIN_SHA256] == trained(head="gru").sha256()
    kept = {file.path for file in client.list_artifacts(found.info.run_id, "train")}
    assert kept == {"train/recogniser.json", "train/curves.csv"}


def test_a_training_that_takes_a_while_shows_the_load_of_the_machine(
    root: Path, tracker: MlflowTracker
) -> None:
    with tracker.training(input_key="slow", parameters={}):
        _wait(1.0)

    [found] = runs(root, store.INPUT_KEY, "slow")
    assert "system/cpu_utilization_percentage" in found.data.metrics


def _wait(seconds: float) -> None:
    subprocess.run(["sleep", str(seconds)], check=True)


def test_a_training_that_failed_is_marked_and_taken_up_again_as_the_same_run(
    root: Path, tracker: MlflowTracker, payload: Path
) -> None:
    def fail_after_one_epoch() -> None:
        with tracker.training(input_key="failing", parameters=PARAMETERS) as run:
            log(run, 1)
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        fail_after_one_epoch()
    [failed] = runs(root, store.INPUT_KEY, "failing")
    with tracker.training(input_key="failing", parameters=PARAMETERS) as run:
        log(run, 1)
        log(run, 2)
        run.finish(trained(), payload)

    [found] = runs(root, store.INPUT_KEY, "failing")
    assert failed.info.status == "FAILED"
    assert found.info.run_id == failed.info.run_id
    assert found.info.status == "FINISHED"
    curve = store.connect(root).get_metric_history(found.info.run_id, "train_loss")
    assert [point.step for point in curve] == [1, 2]
    assert len(found.inputs.dataset_inputs) == 1


def test_an_epoch_that_a_kill_kept_from_the_log_is_there_at_the_end(
    root: Path, tracker: MlflowTracker, payload: Path
) -> None:
    with tracker.training(input_key="gap", parameters=PARAMETERS) as run:
        log(run, 2)
        run.finish(trained(), payload)

    [found] = runs(root, store.INPUT_KEY, "gap")
    curve = store.connect(root).get_metric_history(found.info.run_id, "train_loss")
    assert sorted(point.step for point in curve) == [1, 2]


KILLED = """
import os, signal, sys
from pathlib import Path
from fgpipe.adapters.mlflow_tracker import MlflowTracker
with MlflowTracker(Path(sys.argv[1])).training(input_key="killed", parameters={}):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_training_that_was_killed_is_taken_up_again_and_a_finished_one_is_not(
    root: Path, tracker: MlflowTracker, payload: Path
) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(root)], check=False)
    [killed] = runs(root, store.INPUT_KEY, "killed")

    with tracker.training(input_key="killed", parameters={}) as run:
        run.finish(trained(), payload)
    with tracker.training(input_key="killed", parameters={}):
        pass

    assert done.returncode == -signal.SIGKILL
    assert killed.info.status == "RUNNING"
    second, first = runs(root, store.INPUT_KEY, "killed")
    assert first.info.run_id == killed.info.run_id
    assert second.info.run_id != killed.info.run_id
    assert {first.info.status, second.info.status} == {"FINISHED"}


def test_an_interrupt_leaves_the_run_unfinished(root: Path, tracker: MlflowTracker) -> None:
    def interrupt() -> None:
        with tracker.training(input_key="interrupted", parameters={}):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()

    [found] = runs(root, store.INPUT_KEY, "interrupted")
    assert found.info.status == "KILLED"


def test_an_evaluation_adds_figures_with_intervals_to_the_run_and_twice_is_once(
    root: Path, tracker: MlflowTracker, payload: Path
) -> None:
    model = trained().model_copy(update={"weights_sha256": "evaluated"})
    with tracker.training(input_key="evaluated", parameters={}) as run:
        run.finish(model, payload)
    tested = evaluation(model)
    difference = tested.candidate.top1
    comparison = Comparison(
        version=1,
        champion=tested.candidate,
        n_images=10,
        n_groups=5,
        n_groups_left_out=0,
        top1=difference,
        macro_recall=difference,
        coarse_accuracy=None,
    )
    found_again = Retrieval(n_images=9, recall_at_1=difference, map_at_r=difference)
    tested = tested.model_copy(update={"comparison": comparison, "retrieval": found_again})

    tracker.log_evaluation(tested, payload)
    tracker.log_evaluation(tested, payload)

    [found] = runs(root, store.TRAIN_SHA256, model.sha256())
    figures = found.data.metrics
    assert figures["test_top1"] == pytest.approx(0.7)
    assert figures["test_top1_low"] == pytest.approx(0.65)
    assert figures["test_top1_high"] == pytest.approx(0.75)
    assert figures["vs_champion_macro_recall_low"] == pytest.approx(0.65)
    assert figures["test_map_at_r_high"] == pytest.approx(0.75)
    assert not [name for name in figures if "coarse" in name]
    client = store.connect(root)
    assert len(client.get_metric_history(found.info.run_id, "test_top1")) == 1
    kept = {file.path for file in client.list_artifacts(found.info.run_id, "evaluation")}
    assert "evaluation/report.html" in kept


def test_an_evaluation_of_a_model_trained_elsewhere_makes_one_run_marked_restored(
    root: Path, tracker: MlflowTracker, payload: Path
) -> None:
    model = trained().model_copy(update={"weights_sha256": "elsewhere"})
    tested = evaluation(model)

    tracker.log_evaluation(tested, payload)
    tracker.log_gate(decision(tested))
    tracker.log_gate(decision(tested))

    [found] = runs(root, store.TRAIN_SHA256, model.sha256())
    assert found.data.tags[store.RESTORED] == "true"
    assert found.data.tags[store.VERDICT] == "passed"
    assert found.data.tags["fgpipe.gate_summary"] == decision(tested).summary
    assert found.info.status == "FINISHED"


def test_changed_code_is_told(root: Path, tracker: MlflowTracker) -> None:
    ignore = root / ".gitignore"
    before = ignore.read_text()
    ignore.write_text(f"{before}x\n")

    with tracker.training(input_key="dirty", parameters={}):
        pass

    ignore.write_text(before)
    [found] = runs(root, store.INPUT_KEY, "dirty")
    assert found.data.tags["fgpipe.git_dirty"] == "true"


QUIET = """
import sys
from pathlib import Path
from fgpipe.adapters.mlflow_tracker import MlflowTracker
tracker = MlflowTracker(Path(sys.argv[1]))
assert "mlflow" not in sys.modules
with tracker.training(input_key="quiet", parameters={"train": {"a": 1}}):
    pass
"""


def test_a_store_is_made_and_written_without_a_word(tmp_path: Path) -> None:
    environment = {name: os.environ[name] for name in ("PATH", "HOME")}
    done = subprocess.run(
        [sys.executable, "-c", QUIET, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "mlflow.db").exists()
