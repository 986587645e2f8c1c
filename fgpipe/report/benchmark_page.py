"""The page of a benchmark: a table and a picture a data set, and what of it to believe.

It refers to nothing outside itself and needs no script. Unlike other pages it says how
long things took, since that is half of what methods are chosen by.
"""

from dataclasses import dataclass

from fgpipe.metrics.repeats import CONFIDENCE_LEVEL, MIN_REPEATS, Judgement, RepeatedFigure
from fgpipe.report.data_uris import data_uri
from fgpipe.report.pictures import repeats_picture
from fgpipe.report.templates import render

JUDGEMENTS: dict[Judgement, str] = {
    "better": "better",
    "worse": "worse",
    "undecided": "not told apart",
    "too few": "too few pairs",
}
"""What is said of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanCosts:
    """What a training of a method takes, the mean of its repeats."""

    train_s: float | None
    """The train stage; None where every repeat was killed in between."""
    memory_mib: float
    """Most that a training held."""
    train_images_per_s: float | None
    """Of the median epoch; None where no tracker knows."""
    serve_images_per_s: float
    """Of the exported graph, an image at a time."""
    n_parameters: float
    """Weights of the network."""
    file_mb: float
    """Size of the weights' file, 10**6 bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodRow:
    """One method on one data set."""

    name: str
    """Of the variant."""
    changes: tuple[tuple[str, str], ...]
    """Parameters that it changes, with their values."""
    values: tuple[float, ...]
    """The measure of each repeat that is done."""
    figure: RepeatedFigure | None
    """Of them; None where no repeat is done."""
    difference: RepeatedFigure | None
    """To the baseline, over repeats that both have; None of the baseline itself."""
    judgement: Judgement | None
    """What the difference says."""
    validation: float | None
    """The mean of the same measure on validation, if the measure is of the test split."""
    costs: MeanCosts | None
    """Of the repeats that are done."""
    problems: tuple[str, ...]
    """Of repeats that failed: what was said, each once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodTable:
    """All methods on one data set under one protocol."""

    data_set: str
    """Its name."""
    protocol: str
    """Name of the protocol, if there are several."""
    description: str
    """Images, classes, how they are split."""
    repeats: tuple[str, ...]
    """Their names."""
    rows: tuple[MethodRow, ...]
    """Best on validation first."""

    @property
    def title(self) -> str:
        """Data set and protocol."""
        return ", ".join(part for part in (self.data_set, self.protocol) if part)

    @property
    def chosen(self) -> str | None:
        """The method with the best mean on validation, where that is known of all."""
        known = [(row.validation, row.name) for row in self.rows if row.validation is not None]
        if not known or len(known) < len(self.rows):
            return None
        return max(known, key=lambda pair: pair[0])[1]

    @property
    def unhelpful(self) -> tuple[str, ...]:
        """Methods whose difference's interval includes 0 or lies below it."""
        return tuple(row.name for row in self.rows if row.judgement in {"undecided", "worse"})


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkReport:
    """What a benchmark found."""

    measure: str
    """Name of what methods are compared by."""
    is_test: bool
    """Whether it is of the test split."""
    baseline: str
    """The method the others are compared with."""
    tables: tuple[MethodTable, ...]
    """One a data set and protocol."""
    n_cells: int
    """Trainings there are to be."""
    n_done: int
    """Of them, done."""
    machines: tuple[str, ...]
    """What they ran on."""

    @property
    def n_comparisons(self) -> int:
        """Differences with an interval, over all tables."""
        decided = {"better", "worse", "undecided"}
        return sum(row.judgement in decided for table in self.tables for row in table.rows)

    @property
    def n_by_chance(self) -> float:
        """Of so many comparisons of methods that are equal, how many would not look so."""
        return self.n_comparisons * (1 - CONFIDENCE_LEVEL)


def render_benchmark(report: BenchmarkReport) -> str:
    """The page."""
    return render(
        "benchmark.html.j2",
        report=report,
        tables=[(table, _picture(table, baseline=report.baseline)) for table in report.tables],
        judgements=JUDGEMENTS,
        level=CONFIDENCE_LEVEL,
        min_repeats=MIN_REPEATS,
    )


def _picture(table: MethodTable, *, baseline: str) -> str | None:
    done = [(row.name, row.values, row.figure) for row in table.rows if row.figure is not None]
    if not done:
        return None
    reference = next((figure.mean for name, _, figure in done if name == baseline), None)
    rows = [(name, values, _ends(figure)) for name, values, figure in done]
    return data_uri(repeats_picture(rows, reference=reference), mime_type="image/svg+xml")


def _ends(figure: RepeatedFigure) -> tuple[float, float] | None:
    if figure.low is None or figure.high is None:
        return None
    return figure.low, figure.high
