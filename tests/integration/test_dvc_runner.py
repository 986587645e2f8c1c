"""DVC brings stages up to date, brings old results back and says what is wrong, once."""

import csv
import io
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fgpipe.adapters.dvc_runner import DvcRunner
from fgpipe.errors import InputError, NotReadyError, PipelineError, UnavailableError
from fgpipe.pipeline import STAGES, load_record
from fgpipe.records import GateDecision
from tests.support.tiny_project import (
    commit,
    environment,
    git,
    make_tiny_project,
    ran,
    set_parameter,
)

pytestmark = pytest.mark.integration

EVERY_STAGE = [stage.name for stage in STAGES]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
    return make_tiny_project(tmp_path / "project")


def dvc(*arguments: str, root: Path) -> str:
    """What DVC answers in a shell with the environment activated."""
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=root,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_all_stages_run_once_and_then_are_up_to_date(project: Path) -> None:
    runner = DvcRunner(project)
    before = runner.is_up_to_date()

    runner.reproduce("")
    runner.reproduce("")

    assert not before
    assert sorted(ran(project)) == sorted(EVERY_STAGE)
    assert runner.is_up_to_date()


def test_earlier_parameters_bring_the_earlier_result_back_without_running(project: Path) -> None:
    runner = DvcRunner(project)
    runner.reproduce("")
    first = (project / "data" / "05_train" / "record.json").read_bytes()
    set_parameter(project, "train.head", "gru")
    runner.reproduce("")
    n_ran = len(ran(project))

    set_parameter(project, "train.head", "linear")
    was_up_to_date = runner.is_up_to_date()
    runner.reproduce("")

    assert not was_up_to_date
    assert (project / "data" / "05_train" / "record.json").read_bytes() == first
    assert set(ran(project)[n_ran:]) <= {"gate"}


def test_outs_that_were_deleted_are_missed_and_brought_back(project: Path) -> None:
    runner = DvcRunner(project)
    runner.reproduce("")
    record = project / "data" / "03_preprocess" / "record.json"
    n_ran = len(ran(project))

    record.unlink()
    was_up_to_date = runner.is_up_to_date()
    runner.reproduce("preprocess")

    assert not was_up_to_date
    assert record.exists()
    assert len(ran(project)) == n_ran


def test_one_stage_is_brought_up_to_date_alone(project: Path) -> None:
    DvcRunner(project).reproduce("manifest")

    assert ran(project) == ["manifest"]


def test_a_users_mistake_in_a_stage_is_an_input_error_and_is_not_printed(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    set_parameter(project, "train.weights", "refuse")

    with pytest.raises(InputError, match=r"^train\.weights: 'refuse' is no weights$"):
        DvcRunner(project).reproduce("")

    said = "".join(capfd.readouterr())
    assert said == ""


def test_a_crash_in_a_stage_shows_what_the_stage_printed_and_nothing_of_dvc(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    set_parameter(project, "train.weights", "crash")

    with pytest.raises(PipelineError, match="exited with 1"):
        DvcRunner(project).reproduce("")

    out, err = capfd.readouterr()
    assert "RuntimeError: crash as asked" in err
    assert "ERROR" not in err
    assert out == ""


def test_missing_images_are_named_with_the_commands_that_bring_them(tmp_path: Path) -> None:
    project = make_tiny_project(tmp_path)
    (project / "data" / "raw").rename(tmp_path / "away")

    with pytest.raises(NotReadyError, match=r"^data/raw does not exist; `fgpipe data fetch"):
        DvcRunner(project).reproduce("manifest")


def test_an_unreadable_dvc_yaml_is_told_in_dvcs_words(project: Path) -> None:
    (project / "dvc.yaml").write_text("stages: [")

    with pytest.raises(PipelineError, match=r"dvc\.yaml' is invalid"):
        DvcRunner(project).reproduce("manifest")


def test_a_folder_without_dvc_is_told_how_to_start(tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match="fgpipe init"):
        DvcRunner(tmp_path).reproduce("manifest")


def test_a_second_process_is_told_that_the_first_is_at_work(project: Path) -> None:
    slow = "stages: {slow: {cmd: touch begun && sleep 30, outs: [data/out]}}"
    (project / "dvc.yaml").write_text(slow)
    command = [sys.executable, "-m", "dvc", "repro", "--quiet"]
    with subprocess.Popen(command, cwd=project, start_new_session=True) as first:
        while not (project / "begun").exists():
            time.sleep(0.05)

        try:
            with pytest.raises(UnavailableError, match="another process is at work"):
                DvcRunner(project).reproduce("slow")
        finally:
            subprocess.run(["kill", "--", f"-{first.pid}"], check=True)


def test_data_added_again_unchanged_have_the_same_hash_and_changed_another(project: Path) -> None:
    runner = DvcRunner(project)

    first = runner.add(Path("data/raw"))
    again = runner.add(Path("data/raw"))
    (project / "data" / "raw" / "more.csv").write_text("x\n")
    changed = runner.add(Path("data/raw"))

    assert first == again
    assert first.endswith(".dir")
    assert changed != first


def test_a_worktree_uses_the_main_checkouts_cache(project: Path, tmp_path: Path) -> None:
    DvcRunner(project).reproduce("")
    commit(project, "results")
    n_ran = len(ran(project))
    git("worktree", "add", "--quiet", str(tmp_path / "tree"), root=project)

    worktree = DvcRunner(tmp_path / "tree")
    (tmp_path / "tree" / "data" / "raw").mkdir()
    labels = (project / "data" / "raw" / "labels.csv").read_bytes()
    (tmp_path / "tree" / "data" / "raw" / "labels.csv").write_bytes(labels)
    worktree.reproduce("")

    assert len(ran(project)) == n_ran
    assert ran(tmp_path / "tree") == []
    assert worktree.is_up_to_date()


def test_an_experiment_shows_in_metrics_tables_and_plots(project: Path) -> None:
    DvcRunner(project).reproduce("")
    commit(project, "results")

    dvc("exp", "run", "--quiet", "--name", "gru-head", "-S", "train.head=gru", root=project)
    shown = list(csv.DictReader(io.StringIO(dvc("exp", "show", "--csv", root=project))))
    compared = json.loads(dvc("metrics", "diff", "--json", "HEAD", root=project))
    dvc("plots", "diff", "HEAD", root=project)

    tried = next(row for row in shown if row["Experiment"] == "gru-head")
    assert float(tried["test.top1.low"]) == pytest.approx(0.75)
    assert tried["train.head"] == "gru"
    [figures] = compared["diff"].values()
    assert figures["test.top1.value"]["diff"] == pytest.approx(0.1)
    assert load_record(GateDecision, root=project).test["top1"].value == pytest.approx(0.8)
    page = (project / "dvc_plots" / "index.html").read_text()
    for title in ("Loss", "Validation", "Reliability", "true class against given class"):
        assert title in page
