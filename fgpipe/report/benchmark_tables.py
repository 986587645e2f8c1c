"""A benchmark's figures as CSV, for programs, and as Markdown, for documents."""

import csv
import io
from collections.abc import Iterator

from fgpipe.metrics.repeats import RepeatedFigure
from fgpipe.report.benchmark_page import JUDGEMENTS, BenchmarkReport, MethodRow, MethodTable

COLUMNS = (
    "data_set",
    "protocol",
    "variant",
    "measure",
    "n",
    "mean",
    "low",
    "high",
    "n_pairs",
    "difference",
    "difference_low",
    "difference_high",
    "judgement",
    "validation_mean",
    "train_s",
    "memory_mib",
    "train_images_per_s",
    "serve_images_per_s",
    "n_parameters",
    "file_mb",
)
"""Of the CSV; measures are shares from 0 to 1, and what there is none of is empty."""

HEADINGS = (
    "method",
    "mean [interval], %",
    "difference [interval], points",
    "",
    "validation, %",
    "train, s",
    "memory, MiB",
    "train, images/s",
    "serve, images/s",
    "parameters, M",
    "file, MB",
)


def benchmark_csv(report: BenchmarkReport) -> str:
    """One line a method, data set and protocol, with every digit."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for table in report.tables:
        writer.writerows(_entries(row, table=table, measure=report.measure) for row in table.rows)
    return buffer.getvalue()


def benchmark_markdown(report: BenchmarkReport) -> str:
    """A table a data set and protocol, rounded as in the page."""
    heading = (
        f"Measure: {report.measure}. Baseline: {report.baseline}. Comparisons with an interval: "
        f"{report.n_comparisons}; of equal methods, {report.n_by_chance:.1f} would look different."
    )
    parts = [heading]
    for table in report.tables:
        parts += [
            f"### {_plain(table.title)}",
            f"{_plain(table.description)}; repeats: {', '.join(table.repeats)}",
            "\n".join(_lines(table, report=report)),
        ]
    return "\n\n".join(parts) + "\n"


def _lines(table: MethodTable, *, report: BenchmarkReport) -> Iterator[str]:
    yield f"| {' | '.join(HEADINGS)} |"
    yield "|" + " --- |" + " ---: |" * 2 + " --- |" + " ---: |" * (len(HEADINGS) - 4)
    for row in table.rows:
        said = "baseline" if row.name == report.baseline else ""
        if row.judgement is not None:
            said = JUDGEMENTS[row.judgement]
        costs = row.costs
        cells = [
            _plain(row.name),
            "" if row.figure is None else _figure(row.figure),
            "" if row.difference is None else _figure(row.difference, sign="+"),
            said,
            "" if row.validation is None else f"{100 * row.validation:.1f}",
            *(
                [
                    _number(costs.train_s, ".0f"),
                    _number(costs.memory_mib, ".0f"),
                    _number(costs.train_images_per_s, ".0f"),
                    _number(costs.serve_images_per_s, ".0f"),
                    f"{costs.n_parameters / 1e6:.2f}",
                    f"{costs.file_mb:.1f}",
                ]
                if costs is not None
                else [""] * 6
            ),
        ]
        yield f"| {' | '.join(cells)} |"


def _entries(row: MethodRow, *, table: MethodTable, measure: str) -> dict[str, object]:
    figure, difference, costs = row.figure, row.difference, row.costs
    entries: dict[str, object] = {
        "data_set": table.data_set,
        "protocol": table.protocol,
        "variant": row.name,
        "measure": measure,
        "n": len(row.values),
        "judgement": row.judgement,
        "validation_mean": row.validation,
    }
    if figure is not None:
        entries |= {"mean": figure.mean, "low": figure.low, "high": figure.high}
    if difference is not None:
        entries |= {
            "n_pairs": difference.n,
            "difference": difference.mean,
            "difference_low": difference.low,
            "difference_high": difference.high,
        }
    if costs is not None:
        entries |= {
            "train_s": costs.train_s,
            "memory_mib": costs.memory_mib,
            "train_images_per_s": costs.train_images_per_s,
            "serve_images_per_s": costs.serve_images_per_s,
            "n_parameters": costs.n_parameters,
            "file_mb": costs.file_mb,
        }
    return entries


def _figure(figure: RepeatedFigure, *, sign: str = "") -> str:
    text = f"{100 * figure.mean:{sign}.1f}"
    if figure.low is None or figure.high is None:
        return text
    return f"{text} [{100 * figure.low:{sign}.1f}, {100 * figure.high:{sign}.1f}]"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else f"{value:{form}}"


def _plain(text: str) -> str:
    """Such that no letter of it parts cells or lines."""
    return " ".join(text.split()).replace("|", "\\|")
