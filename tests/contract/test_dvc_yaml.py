"""``dvc.yaml`` says what ``pipeline.STAGES`` says, and names the code each stage reaches."""

from typing import Any

import pytest
import yaml

from fgpipe.config import Params
from fgpipe.pipeline import STAGES, Stage
from fgpipe.records import EpochFigures
from tests.support.dvc_yaml import OUTSIDE, ROOT, code_of, deps_of, import_graph, outs_of

Written = dict[str, Any]
AGAIN = "; `python -m tests.support.dvc_yaml` writes it again"

by_stage = pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)


@pytest.fixture(scope="module")
def written() -> Written:
    return yaml.safe_load((ROOT / "dvc.yaml").read_text())


def test_the_stages_are_those_of_the_pipeline_in_its_order(written: Written) -> None:
    assert list(written["stages"]) == [stage.name for stage in STAGES], AGAIN


@by_stage
def test_a_stage_runs_the_module_that_the_command_line_runs(written: Written, stage: Stage) -> None:
    assert written["stages"][stage.name]["cmd"] == f"python -m fgpipe {stage.name}"


@by_stage
def test_a_stage_depends_on_what_it_reads_and_on_the_code_it_reaches(
    written: Written, stage: Stage
) -> None:
    deps = written["stages"][stage.name]["deps"]

    missing, superfluous = set(deps_of(stage)) - set(deps), set(deps) - set(deps_of(stage))

    assert not missing, f"missing in deps of {stage.name}: {sorted(missing)}{AGAIN}"
    assert not superfluous, f"superfluous in deps of {stage.name}: {sorted(superfluous)}{AGAIN}"


@by_stage
def test_a_stage_reaches_no_adapter_and_no_other_stage(stage: Stage) -> None:
    reached = import_graph().find_upstream_modules(f"fgpipe.stages.{stage.name}")

    others = {name for name in reached if name.startswith(("fgpipe.stages.", *OUTSIDE[1:]))}
    assert not others


@by_stage
def test_a_stage_has_its_own_section_of_parameters(written: Written, stage: Stage) -> None:
    sections = {field.alias or name for name, field in Params.model_fields.items()}

    assert written["stages"][stage.name]["params"] == [stage.name]
    assert stage.name in sections


@by_stage
def test_outs_are_the_record_and_folders_and_all_are_cached_but_the_gates(
    written: Written, stage: Stage
) -> None:
    entry = written["stages"][stage.name]

    if stage.name == "gate":
        expected = {"metrics": [{out: {"cache": False}} for out in outs_of(stage)]}
    else:
        expected = {"outs": outs_of(stage)}

    made = {key: entry[key] for key in entry if key not in {"cmd", "deps", "params"}}
    assert made == expected


@pytest.mark.parametrize(
    ("module", "reached"),
    [
        ("train", "fgpipe/training/loop.py"),
        ("train", "fgpipe/nn/heads/linear.py"),
        ("package", "fgpipe/serving/model_card.md.j2"),
    ],
)
def test_code_reached_through_others_and_templates_are_found(module: str, reached: str) -> None:
    stage = next(stage for stage in STAGES if stage.name == module)

    assert reached in code_of(stage)


def test_plots_of_training_name_columns_of_the_curves(written: Written) -> None:
    for name in ("loss", "accuracy"):
        plot = _plot(written, name)
        [(path, columns)] = plot["y"].items()

        assert path == "data/05_train/payload/curves.csv"
        assert {plot["x"], *columns} <= set(EpochFigures.model_fields)


def test_folders_that_python_writes_beside_code_are_ignored() -> None:
    ignored = (ROOT / ".dvcignore").read_text().splitlines()

    assert "__pycache__/" in ignored
    assert ".venv/" in ignored


def _plot(written: Written, name: str) -> dict[str, Any]:
    return next(plot[name] for plot in written["plots"] if name in plot)
