from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from fgpipe.operations.benchmark_plan import Benchmark, DataSet, Variant, cells_of
from fgpipe.operations.benchmark_results import CellResult, Costs
from fgpipe.operations.benchmark_summary import KeyedCell, summarise
from fgpipe.report.benchmark_page import BenchmarkReport
from tests.support.tiny_project import manifest

TEST = {"linear": [0.70, 0.72, 0.71], "gru": [0.80, 0.83, 0.79], "mlp": [0.60, 0.75, 0.72]}
VALIDATION = {"linear": 0.9, "gru": 0.55, "mlp": 0.65}


def result(method: str, seed: int, **costs: Any) -> CellResult:
    values: dict[str, Any] = {
        "train_s": 10.0 * (seed + 1),
        "memory_mib": 100.0 + seed,
        "train_images_per_s": 50.0,
        "serve_images_per_s": 200.0,
        "n_parameters": 10,
        "file_mb": 1.5,
    }
    return CellResult(
        name=method,
        manifest_sha256="m",
        train_sha256="t",
        measures={"test_top1": TEST[method][seed], "validation_top1": VALIDATION[method]},
        costs=Costs(**(values | costs)),
        machine="cpu",
        seconds=1.0,
    )


def summary(
    *, without: tuple[str, ...] = (), problems: dict[str, str] | None = None, **changes: Any
) -> BenchmarkReport:
    content = {"manifest": {"protocol": "stable", "n_folds": 2, "fold": 0}, "train": {}}
    values: dict[str, Any] = {
        "data_sets": (DataSet(name="birds", root=Path("birds"), content=content),),
        "protocols": {"": {}},
        "variants": tuple(Variant(name=name, changes={"train.head": name}) for name in TEST),
        "baseline": "linear",
        "n_seeds": 3,
        "measure": "test_top1",
    }
    benchmark = Benchmark(**(values | changes))
    cells = [
        KeyedCell(cell=cell, key=f"{cell.variant.name} {cell.repeat.name}", manifest=manifest())
        for cell in cells_of(benchmark)
    ]
    results = {
        f"{method} seed {seed}": result(method, seed)
        for method in TEST
        for seed in range(3)
        if f"{method} seed {seed}" not in without
    }
    return summarise(benchmark, cells, results=results, problems=problems or {})


def test_methods_are_sorted_by_validation_and_compared_with_the_baseline_in_pairs() -> None:
    (table,) = summary().tables

    assert [row.name for row in table.rows] == ["linear", "mlp", "gru"]
    linear, mlp, gru = table.rows
    differences = np.subtract(TEST["gru"], TEST["linear"])
    expected = stats.t.interval(0.95, df=2, loc=differences.mean(), scale=stats.sem(differences))
    assert gru.difference is not None
    assert (gru.difference.low, gru.difference.high) == pytest.approx(expected)
    assert (gru.judgement, linear.judgement, mlp.judgement) == ("better", None, "undecided")
    assert linear.difference is None
    assert table.unhelpful == ("mlp",)


def test_what_validation_would_choose_need_not_be_the_best_on_test() -> None:
    report = summary()

    assert report.is_test
    assert report.tables[0].chosen == "linear"
    assert report.tables[0].rows[-1].validation == pytest.approx(0.55)


def test_a_measure_of_validation_brings_no_figure_of_test() -> None:
    report = summary(measure="validation_top1")

    assert not report.is_test
    assert [row.name for row in report.tables[0].rows] == ["linear", "mlp", "gru"]
    assert {row.validation for row in report.tables[0].rows} == {None}
    shown = {value for row in report.tables[0].rows for value in row.values}
    assert shown == set(VALIDATION.values())


def test_pairs_are_of_the_repeats_that_both_have() -> None:
    report = summary(without=("linear seed 1", "gru seed 2"), problems={"gru seed 2": "broke"})

    rows = {row.name: row for row in report.tables[0].rows}
    assert rows["gru"].difference is not None
    assert rows["gru"].difference.n == 1
    assert rows["gru"].difference.mean == pytest.approx(0.1)
    assert rows["gru"].judgement == "too few"
    assert rows["gru"].problems == ("broke",)
    assert (report.n_done, report.n_cells) == (7, 9)


def test_a_method_without_any_result_comes_last() -> None:
    report = summary(without=tuple(f"gru seed {seed}" for seed in range(3)))

    last = report.tables[0].rows[-1]
    assert (last.name, last.figure, last.costs, last.difference) == ("gru", None, None, None)
    assert report.tables[0].chosen is None


def test_costs_are_means_of_what_is_known_and_the_most_of_memory() -> None:
    costs = summary(without=("gru seed 0",)).tables[0].rows[-1].costs

    assert costs is not None
    assert costs.train_s == pytest.approx((20 + 30) / 2)
    assert costs.memory_mib == 102


def test_the_table_says_what_was_trained_on() -> None:
    (table,) = summary().tables

    assert table.repeats == ("seed 0", "seed 1", "seed 2")
    assert table.description == (
        "12 images (6 train, 2 validation, 2 test) of 2 classes in 8 groups, split: stable"
    )
