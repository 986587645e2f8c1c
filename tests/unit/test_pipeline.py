from pathlib import Path

import pytest

from fgpipe.errors import ConfigError, InputError, NotReadyError
from fgpipe.pipeline import load_record, run_stage, stage_named
from fgpipe.records import Manifest
from tests.support.params import change_params
from tests.support.ports import fake_ports


def test_a_record_is_saved_and_can_be_loaded(project: Path) -> None:
    record = run_stage("manifest", root=project, ports=fake_ports(project))

    assert load_record(Manifest, root=project) == record


def test_what_a_stage_left_before_is_gone(project: Path) -> None:
    leftover = project / "data" / "01_manifest" / "payload" / "leftover"
    leftover.parent.mkdir(parents=True)
    leftover.touch()

    run_stage("manifest", root=project, ports=fake_ports(project))

    assert not leftover.exists()


def test_a_stage_that_fails_leaves_no_record(project: Path) -> None:
    run_stage("manifest", root=project, ports=fake_ports(project))
    (project / "data" / "raw" / "labels.csv").unlink()

    with pytest.raises(InputError, match=r"labels\.csv"):
        run_stage("manifest", root=project, ports=fake_ports(project))

    assert not (project / "data" / "01_manifest" / "record.json").exists()


def test_bad_parameters_are_refused_before_anything_is_removed(project: Path) -> None:
    run_stage("manifest", root=project, ports=fake_ports(project))
    change_params(project, gate={"min_top1": 7})

    with pytest.raises(ConfigError, match=r"gate\.min_top1"):
        run_stage("manifest", root=project, ports=fake_ports(project))

    assert (project / "data" / "01_manifest" / "record.json").exists()


def test_what_is_doubted_of_the_parameters_is_a_warning_of_the_stage_it_concerns(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change_params(project, train={"augment": "none"}, evaluate={"views": "flips"})
    run_stage("manifest", root=project, ports=fake_ports(project))
    before = capsys.readouterr().err

    with pytest.raises(NotReadyError):
        run_stage("evaluate", root=project, ports=fake_ports(project))

    assert "warning" not in before
    assert "warning: evaluate.views (flips)" in capsys.readouterr().err


def test_a_stage_before_its_time_names_what_is_missing(project: Path) -> None:
    with pytest.raises(
        NotReadyError, match=r"01_manifest/record\.json does not exist; `dvc repro`"
    ):
        run_stage("preprocess", root=project, ports=fake_ports(project))


def test_no_data_tells_how_to_bring_some(project: Path) -> None:
    (project / "data" / "raw").rename(project / "elsewhere")

    with pytest.raises(NotReadyError, match=r"data fetch elpv.*data import FOLDER.*dvc pull"):
        run_stage("manifest", root=project, ports=fake_ports(project))


def test_a_stage_that_is_none_is_told_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"'trian'; there are manifest, .*package"):
        stage_named("trian")


def test_a_change_of_the_data_that_was_cut_short_stops_a_stage(project: Path) -> None:
    ready = project / "data" / ".raw.ready"
    ready.mkdir()
    (ready / "plan.json").write_text("{}")

    with pytest.raises(NotReadyError, match="`fgpipe data status` completes it"):
        run_stage("manifest", root=project, ports=fake_ports(project))
