"""From the cells that are done to what the page shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fgpipe.metrics.repeats import judge, over_repeats, paired_difference
from fgpipe.operations.benchmark_plan import Benchmark, Cell, Variant, written
from fgpipe.operations.benchmark_results import CellResult, Costs, validation_twin
from fgpipe.records import Manifest
from fgpipe.report.benchmark_page import BenchmarkReport, MeanCosts, MethodRow, MethodTable


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyedCell:
    """A cell, with what its result goes by."""

    cell: Cell
    key: str
    """Of its result."""
    manifest: Manifest
    """Its data and splits."""


def summarise(
    benchmark: Benchmark,
    cells: Sequence[KeyedCell],
    *,
    results: Mapping[str, CellResult],
    problems: Mapping[str, str],
) -> BenchmarkReport:
    """Tables of all there is so far.

    Args:
        benchmark: What was asked for.
        cells: All of its cells.
        results: Of those done, by key.
        problems: What was said of those that failed, by key.
    """
    tables: dict[tuple[str, str], list[KeyedCell]] = {}
    for entry in cells:
        tables.setdefault((entry.cell.data_set.name, entry.cell.protocol), []).append(entry)
    return BenchmarkReport(
        measure=benchmark.measure.replace("_", " "),
        is_test=benchmark.measure.startswith("test_"),
        baseline=benchmark.baseline,
        tables=tuple(
            _table(benchmark, entries, results=results, problems=problems)
            for entries in tables.values()
        ),
        n_cells=len(cells),
        n_done=sum(entry.key in results for entry in cells),
        machines=tuple(sorted({results[e.key].machine for e in cells if e.key in results})),
    )


def _table(
    benchmark: Benchmark,
    entries: Sequence[KeyedCell],
    *,
    results: Mapping[str, CellResult],
    problems: Mapping[str, str],
) -> MethodTable:
    of_variant = {
        variant.name: [e for e in entries if e.cell.variant.name == variant.name]
        for variant in benchmark.variants
    }
    done = {
        name: {e.cell.repeat.name: results[e.key] for e in own if e.key in results}
        for name, own in of_variant.items()
    }
    rows = [
        _row(
            variant,
            done=done[variant.name],
            baseline=None if variant.name == benchmark.baseline else done[benchmark.baseline],
            benchmark=benchmark,
            problems=[problems[e.key] for e in of_variant[variant.name] if e.key in problems],
        )
        for variant in benchmark.variants
    ]
    first = entries[0]
    return MethodTable(
        data_set=first.cell.data_set.name,
        protocol=first.cell.protocol,
        description=_description(first.manifest),
        repeats=tuple(dict.fromkeys(entry.cell.repeat.name for entry in entries)),
        rows=tuple(sorted(rows, key=_rank)),
    )


def _rank(row: MethodRow) -> float:
    """By validation, also where the measure is of the test split: nothing is chosen by that."""
    if row.figure is None:
        return np.inf
    return -(row.figure.mean if row.validation is None else row.validation)


def _row(
    variant: Variant,
    *,
    done: Mapping[str, CellResult],
    baseline: Mapping[str, CellResult] | None,
    benchmark: Benchmark,
    problems: Sequence[str],
) -> MethodRow:
    measure = benchmark.measure
    values = {repeat: result.measures[measure] for repeat, result in done.items()}
    difference = None
    if baseline is not None:
        others = {repeat: result.measures[measure] for repeat, result in baseline.items()}
        difference = paired_difference(values, others)
    twin = validation_twin(measure)
    chosen_by = [result.measures[twin] for result in done.values()]
    return MethodRow(
        name=variant.name,
        changes=tuple((path, written(value)) for path, value in variant.changes.items()),
        values=tuple(values.values()),
        figure=over_repeats(np.array(list(values.values()))) if values else None,
        difference=difference,
        judgement=None if difference is None else judge(difference),
        validation=float(np.mean(chosen_by)) if twin != measure and chosen_by else None,
        costs=_mean_costs([result.costs for result in done.values()]),
        problems=tuple(dict.fromkeys(problems)),
    )


def _mean_costs(costs: Sequence[Costs]) -> MeanCosts | None:
    if not costs:
        return None
    return MeanCosts(
        train_s=_mean([each.train_s for each in costs]),
        memory_mib=max(each.memory_mib for each in costs),
        train_images_per_s=_mean([each.train_images_per_s for each in costs]),
        serve_images_per_s=float(np.mean([each.serve_images_per_s for each in costs])),
        n_parameters=float(np.mean([each.n_parameters for each in costs])),
        file_mb=float(np.mean([each.file_mb for each in costs])),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _description(manifest: Manifest) -> str:
    counts = {
        split: sum(entry.n_images[split] for entry in manifest.labels)
        for split in ("train", "validation", "test")
    }
    splits = ", ".join(f"{n:,} {split}" for split, n in counts.items())
    return (
        f"{manifest.n_images:,} images ({splits}) of {len(manifest.labels):,} classes in "
        f"{manifest.n_groups:,} groups, split: {manifest.protocol}"
    )
