"""``fgpipe benchmark``: methods compared as they should be, from a file to a page.

Every method is trained on the same data, splits and seeds; epochs are chosen on
validation; the test split is looked at by the evaluate stage alone, once a training. What
is done is kept by a hash of all that decides it and never done again, whether a benchmark
was killed or its file was given another line.
"""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

from fgpipe.errors import FgpipeError, InputError, NotReadyError, PipelineError
from fgpipe.operations.benchmark_cell import RESULT, SHARED, Place, Tools
from fgpipe.operations.benchmark_file import VARIED, read_benchmark
from fgpipe.operations.benchmark_keys import cell_key, fingerprint, inputs_of
from fgpipe.operations.benchmark_plan import Benchmark, cells_of
from fgpipe.operations.benchmark_results import CellResult, refuse_without_parents
from fgpipe.operations.benchmark_summary import KeyedCell, summarise
from fgpipe.records import write_atomically
from fgpipe.report.benchmark_page import render_benchmark
from fgpipe.report.benchmark_tables import benchmark_csv, benchmark_markdown

PAGE = "benchmark.html"

REFRESH_S = 20.0
"""Seconds after which the page is written anew while there is more to come."""

ARRAYS = tuple(stage for stage in SHARED if stage in VARIED)
"""Stages that cells share and that make what is large: removed as soon as no cell waits."""


@dataclass(slots=True, kw_only=True)
class Standing:
    """How far a benchmark is."""

    benchmark: Benchmark
    cells: Sequence[KeyedCell]
    places: Mapping[Path, Place]
    """By the data set's folder."""
    results: dict[str, CellResult]
    """By key."""
    problems: dict[str, str] = field(default_factory=dict)
    """By key."""

    @property
    def waiting(self) -> list[KeyedCell]:
        """Cells to run, those that need the same arrays beside each other."""
        by_arrays: dict[tuple[Path, ...], dict[str, KeyedCell]] = {}
        for entry in self.cells:
            by_arrays.setdefault(self.arrays(entry), {}).setdefault(entry.key, entry)
        known = self.results.keys() | self.problems.keys()
        return [e for each in by_arrays.values() for e in each.values() if e.key not in known]

    def arrays(self, entry: KeyedCell) -> tuple[Path, ...]:
        """What is large of what a cell shares."""
        place = self.places[entry.cell.data_set.root]
        return tuple(place.shared(entry.cell, stage) for stage in ARRAYS)

    def seconds_left(self) -> float | None:
        """As long as the same methods took so far, or all of them on average."""
        taken: dict[str, list[float]] = {}
        for entry in self.cells:
            if entry.key in self.results:
                name = entry.cell.variant.name
                taken.setdefault(name, []).append(self.results[entry.key].seconds)
        if not taken:
            return None
        overall = mean(seconds for each in taken.values() for seconds in each)
        return sum(mean(taken.get(e.cell.variant.name, [overall])) for e in self.waiting)


def run_benchmark(
    root: Path, *, folder: Path, out: Path, tools: Tools, say: Callable[[str], None]
) -> Path:
    """Run what ``benchmark.yaml`` asks for and is not done yet; write the page.

    Args:
        root: The project.
        folder: Where results are kept from one benchmark to the next.
        out: Where page and tables go, brought up to date now and then and at the end.
        tools: What a benchmark needs of the world.
        say: Told how far it is, a line a cell.

    Returns:
        The page.

    Raises:
        InputError: If the file, or data, are not as needed; or if cells refused.
        PipelineError: If cells failed. The others are done, and the page is written.
    """
    benchmark = read_benchmark(root)
    standing = _stand(benchmark, folder=folder, tools=tools)
    n_cells = len({entry.key for entry in standing.cells})
    n_known = len(standing.results)
    say(
        f"{_counted(len(benchmark.variants), 'method')} on "
        f"{_counted(len(benchmark.data_sets), 'data set')}: {_counted(n_cells, 'training')}, "
        f"{n_known} of them done before"
    )
    written = time.monotonic()
    errors: list[FgpipeError] = []
    while waiting := standing.waiting:
        entry, number = waiting[0], n_cells - len(waiting) + 1
        _free(folder, keep={path for each in waiting for path in standing.arrays(each)})
        place = standing.places[entry.cell.data_set.root]
        try:
            result = place.run(entry.cell, key=entry.key)
        except FgpipeError as error:
            errors.append(error)
            standing.problems[entry.key] = str(error)
            shutil.rmtree(folder / "cells" / entry.key / "project", ignore_errors=True)
            said = f"failed: {error}"
        else:
            standing.results[entry.key] = result
            measure = benchmark.measure
            said = f"{measure} {result.measures[measure]:.3f}, {_duration(result.seconds)}"
        left = standing.seconds_left() if standing.waiting else None
        more = "" if left is None else f"; about {_duration(left)} left"
        say(f"[{number}/{n_cells}] {entry.cell.name}: {said}{more}")
        if time.monotonic() - written > REFRESH_S:
            _write(standing, out=out)
            written = time.monotonic()
    _free(folder, keep=set())
    for remains in (folder / "cells").glob("*/project"):  # killed, and done or not asked for since
        shutil.rmtree(remains)
    page = _write(standing, out=out)
    if errors:
        refused = all(isinstance(error, InputError) for error in errors)
        kind = InputError if refused else PipelineError
        raise kind(
            f"{len(errors)} of {n_cells} trainings failed, the first with: {errors[0]}\n"
            f"{page} has the others; `fgpipe benchmark` tries the failed ones again"
        )
    return page


def _stand(benchmark: Benchmark, *, folder: Path, tools: Tools) -> Standing:
    """Every cell with its key, and the results there are; data are checked on the way."""
    places = {
        data_set.root: Place(
            folder=folder, fingerprint=fingerprint(inputs_of(data_set)), tools=tools
        )
        for data_set in benchmark.data_sets
    }
    cells = []
    for cell in cells_of(benchmark):
        manifest = places[cell.data_set.root].manifest(cell)
        refuse_without_parents(
            benchmark.measure, has_parents=bool(manifest.parents), data_set=cell.data_set.name
        )
        cells.append(KeyedCell(cell=cell, key=cell_key(cell, manifest), manifest=manifest))
    results = {}
    for key in dict.fromkeys(entry.key for entry in cells):
        try:
            results[key] = CellResult.load(folder / "cells" / key / RESULT)
        except NotReadyError:  # to be run, also where another version of fgpipe wrote it
            continue
    return Standing(benchmark=benchmark, cells=cells, places=places, results=results)


def _write(standing: Standing, *, out: Path) -> Path:
    report = summarise(
        standing.benchmark, standing.cells, results=standing.results, problems=standing.problems
    )
    page = out / PAGE
    write_atomically(page, render_benchmark(report).encode())
    write_atomically(page.with_suffix(".csv"), benchmark_csv(report).encode())
    write_atomically(page.with_suffix(".md"), benchmark_markdown(report).encode())
    return page


def _free(folder: Path, *, keep: set[Path]) -> None:
    """Remove arrays that no cell waits for."""
    for stage in ARRAYS:
        for path in (folder / "shared").glob(f"{stage}-*"):
            if path not in keep:
                shutil.rmtree(path)


def _counted(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
