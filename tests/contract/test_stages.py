import importlib
import inspect
import typing
from pathlib import Path

from fgpipe import config
from fgpipe.images.expectations_file import Suite
from fgpipe.pipeline import STAGES, stage_named
from fgpipe.ports import Ports
from fgpipe.records import Baseline, Stored

GIVEN = {
    "raw": Path,
    "unlabelled": Path,
    "expectations": Suite,
    "baseline": Baseline | None,
    "candidate": Path,
}


def test_stage_functions_take_exactly_what_they_are_declared_to_read() -> None:
    for stage in STAGES:
        function = getattr(importlib.import_module(f"fgpipe.stages.{stage.name}"), stage.name)
        hints = typing.get_type_hints(function)
        parameters = inspect.signature(function).parameters
        expected = {
            name: GIVEN[name] if name in GIVEN else Stored[stage_named(name).record]
            for name in stage.reads
        }
        section = getattr(config, f"{stage.name.capitalize()}Config")
        expected |= {"config": section, "out": Path, "ports": Ports}

        assert hints.pop("return") is stage.record, stage.name
        assert hints == expected, stage.name
        assert all(p.kind is p.KEYWORD_ONLY for p in parameters.values()), stage.name


def test_a_stage_reads_only_what_stands_before_it() -> None:
    before = {"raw", "unlabelled", "expectations", "baseline"}
    for stage in STAGES:
        assert set(stage.reads) <= before, stage.name
        before |= {stage.name, *stage.folders}


def test_folders_are_numbered_in_order() -> None:
    numbers = [stage.number for stage in STAGES]

    assert numbers == sorted(set(numbers))
    assert str(stage_named("train").folder) == "data/05_train"
