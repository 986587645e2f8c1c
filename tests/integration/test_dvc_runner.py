"""DVC brings stages up to date, brings old results back and says what is wrong, once."""

import csv
import io
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
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


@pytest.fixture(scope="module", autouse=True)
def _stages_are_found() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
        yield


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_project(tmp_path_factory.mktemp("template"))


@pytest.fixture(scope="module")
def finished_template(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("finished") / "project"
    shutil.copytree(template, root)
    DvcRunner(root).reproduce("")
    commit(root, "results")
    return root


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Path:
    """Data added and nothing run."""
    return Path(shutil.copytree(template, tmp_path / "project"))


@pytest.fixture
def finished(finished_template: Path, tmp_path: Path) -> Path:
    """Every stage run, and committed."""
    return Path(shutil.copytree(finished_template, tmp_path / "project"))


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


def test_all_stages_run_once_and_then_are_up_to_date(finished: Path) -> None:
    runner = DvcRunner(finished)

    runner.reproduce("")

    assert sorted(ran(finished)) == sorted(EVERY_STAGE)
    assert runner.is_up_to_date()


def test_earlier_parameters_bring_the_earlier_result_back_without_running(finished: Path) -> None:
    runner = DvcRunner(finished)
    first = (finished / "data" / "05_train" / "record.json").read_bytes()
    set_parameter(finished, "train.head", "gru")
    runner.reproduce("train")
    second = (finished / "data" / "05_train" / "record.json").read_bytes()
    n_ran = len(ran(finished))

    set_parameter(finished, "train.head", "linear")
    was_up_to_date = runner.is_up_to_date()
    runner.reproduce("train")

    assert not was_up_to_date
    assert second != first
    assert (finished / "data" / "05_train" / "record.json").read_bytes() == first
    assert len(ran(finished)) == n_ran


def test_outs_that_were_deleted_are_missed_and_brought_back(finished: Path) -> None:
    runner = DvcRunner(finished)
    record = finished / "data" / "03_preprocess" / "record.json"

    record.unlink()
    was_up_to_date = runner.is_up_to_date()
    runner.reproduce("preprocess")

    assert not was_up_to_date
    assert record.exists()
    assert len(ran(finished)) == len(EVERY_STAGE)


def test_one_stage_is_brought_up_to_date_alone(project: Path) -> None:
    DvcRunner(project).reproduce("manifest")

    assert ran(project) == ["manifest"]


def test_a_users_mistake_in_a_stage_is_an_input_error_and_is_not_printed(
    finished: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    set_parameter(finished, "train.weights", "refuse")

    with pytest.raises(InputError, match=r"^train\.weights: 'refuse' is no weights$"):
        DvcRunner(finished).reproduce("train")

    said = "".join(capfd.readouterr())
    assert said == ""


def test_a_crash_in_a_stage_shows_what_the_stage_printed_and_nothing_of_dvc(
    finished: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    set_parameter(finished, "train.weights", "crash")

    with pytest.raises(PipelineError, match="exited with 1"):
        DvcRunner(finished).reproduce("train")

    out, err = capfd.readouterr()
    assert "RuntimeError: crash as asked" in err
    assert "ERROR" not in err
    assert out == ""


def test_missing_images_are_named_with_the_commands_that_bring_them(
    project: Path, tmp_path: Path
) -> None:
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


def test_a_worktree_uses_the_main_checkouts_cache(finished: Path, tmp_path: Path) -> None:
    git("worktree", "add", "--quiet", str(tmp_path / "tree"), root=finished)

    worktree = DvcRunner(tmp_path / "tree")
    (tmp_path / "tree" / "data" / "raw").mkdir()
    labels = (finished / "data" / "raw" / "labels.csv").read_bytes()
    (tmp_path / "tree" / "data" / "raw" / "labels.csv").write_bytes(labels)
    worktree.reproduce("")

    assert len(ran(finished)) == len(EVERY_STAGE)
    assert ran(tmp_path / "tree") == []
    assert worktree.is_up_to_date()


def test_an_experiment_shows_in_metrics_tables_and_plots(finished: Path) -> None:

    dvc("exp", "run", "--quiet", "--name", "gru-head", "-S", "train.head=gru", root=finished)
    shown = list(csv.DictReader(io.StringIO(dvc("exp", "show", "--csv", root=finished))))
    compared = json.loads(dvc("metrics", "diff", "--json", "HEAD", root=finished))
    dvc("plots", "diff", "HEAD", root=finished)

    tried = next(row for row in shown if row["Experiment"] == "gru-head")
    assert float(tried["test.top1.low"]) == pytest.approx(0.75)
    assert tried["train.head"] == "gru"
    [figures] = compared.values()
    assert figures["test.top1.value"]["diff"] == pytest.approx(0.1)
    assert load_record(GateDecision, root=finished).test["top1"].value == pytest.approx(0.8)
    page = (finished / "dvc_plots" / "index.html").read_text()
    for title in ("Loss", "Validation", "Reliability", "true class against given class"):
        assert title in page


def test_experiments_wait_in_a_queue_and_run_in_the_background(finished: Path) -> None:
    for head in ("gru", "lstm"):
        dvc(
            "exp",
            "run",
            "--queue",
            "--name",
            f"{head}-head",
            "-S",
            f"train.head={head}",
            root=finished,
        )
    waiting = dvc("queue", "status", root=finished)

    dvc("queue", "start", root=finished)
    try:
        deadline = time.monotonic() + 240
        while (said := dvc("queue", "status", root=finished)).count("Success") < 2:
            assert "Failed" not in said, said
            assert time.monotonic() < deadline, said
            time.sleep(1)
    finally:
        dvc("queue", "stop", root=finished)  # a worker also ends by itself when all is done
        is_gone = _ends(finished / ".dvc" / "tmp" / "exps" / "celery" / "dvc-exp-worker-1.pid")
    shown = list(csv.DictReader(io.StringIO(dvc("exp", "show", "--csv", root=finished))))

    assert waiting.count("Queued") == 2
    assert is_gone
    tried = {row["Experiment"]: row for row in shown if row["Experiment"]}
    assert float(tried["gru-head"]["test.top1.value"]) == pytest.approx(0.8)
    assert float(tried["lstm-head"]["test.top1.value"]) == pytest.approx(0.7)
    assert load_record(GateDecision, root=finished).test["top1"].value == pytest.approx(0.7)


def _ends(pid_file: Path) -> bool:
    """Whether the process whose number is in that file is gone, or goes within a minute."""
    number = int(pid_file.read_text())
    try:
        psutil.Process(number).wait(timeout=60)
    except psutil.NoSuchProcess:
        return True
    except psutil.TimeoutExpired:
        psutil.Process(number).kill()
        return False
    return True
