import os
from collections import Counter
from pathlib import Path

import pytest

from fgpipe.errors import ConfigError, DataError, InputError, PipelineError
from fgpipe.operations.benchmark import run_benchmark
from fgpipe.operations.benchmark_results import CellResult
from tests.support.benchmarks import FakeStages, KilledError, ask, make_project


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_project(tmp_path / "birds")


@pytest.fixture
def stages() -> FakeStages:
    return FakeStages()


def run(root: Path, stages: FakeStages) -> list[str]:
    """What is said."""
    said: list[str] = []
    page = run_benchmark(
        root, folder=root / "state", out=root / "out", tools=stages.tools(), say=said.append
    )
    assert page == root / "out" / "benchmark.html"
    return said


def results(root: Path) -> dict[str, CellResult]:
    files = sorted((root / "state" / "cells").glob("*/result.json"))
    found = [CellResult.load(path) for path in files]
    return {result.name: result for result in found}


def n_ran(stages: FakeStages) -> Counter[str]:
    return Counter(stage for stage, _, _ in stages.ran)


def test_every_method_is_trained_with_every_seed_and_what_they_share_is_made_once(
    root: Path, stages: FakeStages
) -> None:
    said = run(root, stages)

    assert n_ran(stages) == {
        "manifest": 1,
        "validate": 1,
        "preprocess": 1,
        "pretrain": 1,
        "train": 6,
        "evaluate": 6,
    }
    assert said[0] == "2 methods on 1 data set: 6 trainings, 0 of them done before"
    assert said[2].startswith(
        "[2/6] birds, head=gru, seed 0: test_top1 0.800, 20 s; about 80 s left"
    )
    assert len(said) == 7


def test_a_result_has_the_figures_of_evaluation_and_validation_and_the_costs(
    root: Path, stages: FakeStages
) -> None:
    run(root, stages)

    result = results(root)["birds, head=gru, seed 2"]
    assert result.measures == {
        "test_top1": pytest.approx(0.82),
        "test_macro_recall": pytest.approx(0.7),
        "validation_top1": 0.75,
        "validation_macro_recall": 0.7,
    }
    assert result.costs.train_s == 12
    assert result.costs.memory_mib == 102
    assert result.costs.train_images_per_s == 50
    assert result.costs.serve_images_per_s == 200
    assert result.costs.n_parameters == 10
    assert result.costs.file_mb == 2.5
    assert result.machine == "cpu fp32, 1 thread; served in f32"


def test_what_is_left_is_small_records_and_no_array_or_weights(
    root: Path, stages: FakeStages
) -> None:
    run(root, stages)

    names = {path.name for path in (root / "state").rglob("*") if path.is_file()}
    assert names == {"train.json", "evaluate.json", "result.json", "record.json"}


def test_what_a_kill_left_of_a_cell_goes_too(root: Path, stages: FakeStages) -> None:
    run(root, stages)
    (cell, *_) = (root / "state" / "cells").iterdir()
    for left in (cell / "project", root / "state" / "cells" / "asked no more" / "project"):
        left.mkdir(parents=True)

    run(root, stages)

    assert list((root / "state" / "cells").glob("*/project")) == []
    assert len(results(root)) == 6


def test_a_benchmark_that_is_done_runs_nothing(root: Path, stages: FakeStages) -> None:
    run(root, stages)
    stages.ran.clear()

    said = run(root, stages)

    assert stages.ran == []
    assert said == ["2 methods on 1 data set: 6 trainings, 6 of them done before"]


def test_another_method_is_all_that_is_trained_when_it_is_added(
    root: Path, stages: FakeStages
) -> None:
    run(root, stages)
    stages.ran.clear()
    ask(root, variants={"long": {"train.epochs": 30}})

    run(root, stages)

    assert n_ran(stages) == {"preprocess": 1, "pretrain": 1, "train": 3, "evaluate": 3}


def test_another_measure_or_baseline_trains_nothing(root: Path, stages: FakeStages) -> None:
    run(root, stages)
    stages.ran.clear()
    ask(root, measure="validation_macro_recall", baseline="head=gru")

    run(root, stages)

    assert stages.ran == []
    assert "Benchmark: validation macro recall" in (root / "out" / "benchmark.html").read_text()


@pytest.mark.parametrize("stage", ["preprocess", "train", "evaluate"])
def test_one_that_was_killed_goes_on_with_the_stage_it_was_at(
    root: Path, stages: FakeStages, stage: str
) -> None:
    seed = 0 if stage == "preprocess" else 1
    stages.errors[stage, "linear", seed] = KilledError()
    with pytest.raises(KilledError):
        run(root, stages)

    run(root, stages)

    again = [entry for entry, n in Counter(stages.ran).items() if n > 1]
    assert again == [(stage, "linear", seed)]
    assert len(results(root)) == 6


def test_the_time_of_a_training_that_was_killed_is_not_known(
    root: Path, stages: FakeStages
) -> None:
    stages.errors["train", "linear", 1] = KilledError()
    stages.errors["evaluate", "linear", 2] = KilledError()
    for _ in range(2):
        with pytest.raises(KilledError):
            run(root, stages)

    run(root, stages)

    times = {name: result.costs.train_s for name, result in results(root).items()}
    assert times["birds, head=linear, seed 1"] is None
    assert times["birds, head=linear, seed 2"] == 12


def test_arrays_are_there_one_size_at_a_time(root: Path, stages: FakeStages) -> None:
    ask(root, grid={"preprocess.image_size_px": [160, 224], "train.head": ["linear", "gru"]})

    run(root, stages)

    assert n_ran(stages)["preprocess"] == 2
    assert n_ran(stages)["manifest"] == 1
    assert max(len(there) for there in stages.arrays) == 1


def test_a_split_for_every_seed_is_made_once_a_seed(root: Path, stages: FakeStages) -> None:
    ask(root, protocols={"random": {"protocol": "random"}, "fold": {"protocol": "fold"}})

    run(root, stages)

    assert n_ran(stages) == {
        "manifest": 3 + 4,
        "validate": 3 + 4,
        "preprocess": 3 + 4,
        "pretrain": 3 + 4,
        "train": 2 * (3 + 4),
        "evaluate": 2 * (3 + 4),
    }
    page = (root / "out" / "benchmark.html").read_text()
    assert "birds, random" in page
    assert "birds, fold" in page


def test_images_that_were_only_touched_do_not_train_anew(root: Path, stages: FakeStages) -> None:
    run(root, stages)
    stages.ran.clear()
    os.utime(root / "data" / "raw" / "labels.csv", (0, 0))

    run(root, stages)

    assert n_ran(stages) == {"manifest": 1, "validate": 1}


def test_other_splits_train_anew(root: Path, stages: FakeStages) -> None:
    run(root, stages)
    stages.ran.clear()
    ask(root, protocols={"other": {"seed": 9}})

    run(root, stages)

    assert n_ran(stages)["train"] == 6


def test_other_weights_under_the_same_name_train_anew(root: Path, stages: FakeStages) -> None:
    file = root / "start.safetensors"
    file.write_bytes(b"1")
    ask(root, variants={"start": {"train.weights": file.name}})
    run(root, stages)
    stages.ran.clear()
    file.write_bytes(b"2")

    run(root, stages)

    assert n_ran(stages)["train"] == 3


@pytest.mark.parametrize("name", ["policies/mine.json", "data/policies/mine.json", "mine.json"])
def test_a_policy_of_ones_own_is_found_where_params_say_and_stays_there(
    name: str, root: Path, stages: FakeStages, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = root / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("{}")
    ask(root, variants={"mine": {"train.augment": name}})
    found = []
    make = stages._make

    def reading(stage: str, *, root: Path, params: dict[str, dict[str, object]]) -> None:
        policy = str(params["train"].get("augment", "none"))
        if stage == "train" and policy.endswith(".json"):
            assert not Path(policy).is_absolute(), "params.yaml takes no such path"
            found.append((root / policy).read_text())
        make(stage, root=root, params=params)

    monkeypatch.setattr(stages, "_make", reading)

    run(root, stages)

    assert found == ["{}"] * 3
    assert not file.is_symlink()
    assert file.read_text() == "{}"


@pytest.fixture
def pretrained(root: Path) -> Path:
    """The file of weights that all of the benchmark's pretrainings start from."""
    file = root / "start.safetensors"
    file.write_bytes(b"1")
    weights = {"pretrain.weights": file.name, "train.weights": file.name}
    ask(root, grid=None, seeds=1, variants={"start": {"pretrain.method": "byol"} | weights})
    return file


def test_pretraining_and_training_find_a_file_of_weights(
    root: Path, stages: FakeStages, pretrained: Path
) -> None:
    run(root, stages)

    found = {params[name]["weights"] for params in stages.params for name in ("pretrain", "train")}
    assert found == {str(pretrained)}


def test_other_weights_under_the_same_name_are_pretrained_anew(
    root: Path, stages: FakeStages, pretrained: Path
) -> None:
    stages.errors["train", "linear", 0] = KilledError()
    with pytest.raises(KilledError):
        run(root, stages)
    pretrained.write_bytes(b"2")

    run(root, stages)

    assert n_ran(stages)["pretrain"] == 2


def test_a_training_that_fails_keeps_none_of_the_others(root: Path, stages: FakeStages) -> None:
    stages.errors["train", "gru", 1] = PipelineError("the loss is not finite")

    with pytest.raises(PipelineError, match="1 of 6 trainings failed, the first with: the loss"):
        run(root, stages)

    assert len(results(root)) == 5
    assert "failed: the loss is not finite" in (root / "out" / "benchmark.html").read_text()
    run(root, stages)
    assert len(results(root)) == 6


def test_where_all_that_failed_is_a_mistake_so_is_the_whole(root: Path, stages: FakeStages) -> None:
    stages.errors["train", "gru", 1] = ConfigError("train.weights: no package has them")

    with pytest.raises(InputError, match="no package has them"):
        run(root, stages)


def test_data_that_are_refused_are_told_before_any_training(root: Path, stages: FakeStages) -> None:
    stages.errors["validate", "linear", 0] = DataError("labels are refused")

    with pytest.raises(DataError, match="labels are refused"):
        run(root, stages)

    assert n_ran(stages) == {"manifest": 1, "validate": 1}


def test_a_measure_of_parents_needs_data_with_parents(root: Path, stages: FakeStages) -> None:
    ask(root, measure="test_coarse_accuracy")

    with pytest.raises(ConfigError, match=r"measure \(test_coarse_accuracy\): birds names no par"):
        run(root, stages)

    assert n_ran(stages)["train"] == 0
