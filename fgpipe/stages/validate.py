"""02 validate: refuses data that a good model cannot be made from, with the reasons named.

What always holds (:mod:`fgpipe.images.structure`) and what ``data/expectations.yaml`` adds
are expectations on tables made of the manifest's. Each comes to ``pass``, ``warn`` or
``refuse``; the report is written before anything is refused. The images added since the
champion's version of the data are compared with that version: that is drift.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from fgpipe.config import ValidateConfig
from fgpipe.errors import ConfigError, DataError
from fgpipe.images.data_tables import classes_table, data_table, groups_table, images_table
from fgpipe.images.expectations_file import Suite
from fgpipe.images.quarantine_file import read_quarantine
from fgpipe.images.structure import expected_columns, expected_structure
from fgpipe.images.table import read_table
from fgpipe.nn.embedder import create_embedder
from fgpipe.ports import TABLE_NAMES, Checker, Expectation, Ports, TableName
from fgpipe.records import (
    Baseline,
    DriftFigure,
    ExpectationResult,
    Manifest,
    Stored,
    Validation,
    write_atomically,
)
from fgpipe.report.data_page import DataReport, render_data_report
from fgpipe.serving.bundle import open_bundle
from fgpipe.serving.data_profile import (
    PROFILE_FILE,
    DataProfile,
    drift_figures,
    drift_table,
    embedding_drift,
)

REPORT_NAME = "report.html"

N_CHARACTERS = 120
"""Longest example in a refusal, so that its text stays short whatever the data."""

Results = tuple[ExpectationResult, ...]


def validate(
    *,
    raw: Path,
    expectations: Suite,
    baseline: Baseline | None,
    manifest: Stored[Manifest],
    config: ValidateConfig,
    out: Path,
    ports: Ports,
) -> Validation:
    """Hold the manifest against what the data must be like.

    Raises:
        ConfigError: If an expectation is about an attribute that the data do not have.
        DataError: If an expectation whose severity says so is not met; the message names
            each with examples, and the report with all of them.
        NotReadyError: If the champion's bundle cannot be had.
    """
    table = read_table(manifest.payload)
    columns = expected_columns()
    results = ports.checker.check(table.head(0), [columns])  # no cell matters
    drift = Drift(note="not looked at, since a column is missing", figures=())
    suite: tuple[Expectation, ...] = (columns,)
    quarantined = read_quarantine(raw)
    if all(result.passed for result in results):
        tables = tables_of(table, expectations, n_quarantined=len(quarantined))
        drift = _drift(
            tables["images"],
            suite=expectations,
            baseline=baseline,
            raw=raw,
            config=config,
            ports=ports,
        )
        if drift.figures:
            tables["drift"] = drift_table(drift.figures)
        suite = suite_of(expectations, manifest=manifest.record, drift=drift.figures)
        results += _check_all(ports.checker, tables, suite)
        suite = (columns, *suite)
    refused = [r for r in results if not r.passed and config.refuse_on in {"warn", r.verdict}]
    warned = [result for result in results if not result.passed and result not in refused]
    report = DataReport(
        verdict="refuse" if refused else "warn" if warned else "pass",
        results=results,
        drift=drift.figures,
        drift_note=drift.note,
        quarantined=tuple(quarantined),
    )
    page = render_data_report(report, table=table, raw=raw)
    write_atomically(out / "payload" / REPORT_NAME, page.encode())
    if refused:
        raise DataError(_refusal(refused, report=out / "payload" / REPORT_NAME))
    write_atomically(out / "payload" / "results.json", _in_full(suite, results))
    for result in warned:
        sys.stderr.write(f"warning: {_line(result)}\n")
    return Validation(
        manifest_sha256=manifest.record.sha256(),
        verdict="warn" if warned else "pass",
        expectations=results,
        drift_note=drift.note,
        drift=drift.figures,
    )


def tables_of(
    table: pd.DataFrame, expectations: Suite, *, n_quarantined: int
) -> dict[TableName, pd.DataFrame]:
    """The tables that expectations are about, but that of drift.

    Args:
        table: The manifest's, with all its columns.
        expectations: What names the classes there should be.
        n_quarantined: Images that came in and cannot be used.

    Raises:
        ConfigError: If an expectation is about an attribute that the data do not have.
    """
    _all_columns_there(table, expectations)
    return {
        "images": images_table(table),
        "classes": classes_table(table, expected=expectations.labels),
        "groups": groups_table(table),
        "data": data_table(table, n_quarantined=n_quarantined),
    }


def suite_of(
    expectations: Suite, *, manifest: Manifest, drift: tuple[DriftFigure, ...]
) -> tuple[Expectation, ...]:
    """All that is expected, but for the columns: what always holds, then what the file adds.

    Args:
        expectations: The file.
        manifest: Says whether groups count.
        drift: The figures there are; expectations about others are left out.
    """
    features = {figure.feature for figure in drift}
    # Groups are on both sides of a random split on purpose.
    structure = expected_structure(by_group=manifest.protocol != "random")
    return structure + tuple(
        e
        for e in expectations.expectations
        if e.table != "drift" or e.arguments["column"] in features
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """What was found, or why nothing was."""

    note: str
    figures: tuple[DriftFigure, ...]


def _drift(
    images: pd.DataFrame,
    *,
    suite: Suite,
    baseline: Baseline | None,
    raw: Path,
    config: ValidateConfig,
    ports: Ports,
) -> Drift:
    """Compare the images added since the champion's version with that version."""
    if baseline is None:
        return Drift(
            note="there is no champion whose data these could be compared with", figures=()
        )
    champion = f"champion version {baseline.version}"
    bundle = ports.registry.fetch_bundle(baseline)
    if PROFILE_FILE not in open_bundle(bundle).files:
        note = f"the bundle of {champion} has no profile of its data; the next one will"
        return Drift(note=note, figures=())
    then = DataProfile.load(bundle / PROFILE_FILE)
    added = images[images["batch"] > then.last_batch]
    since = added if len(added) else images
    figures = drift_figures(since, then=then)
    note = f"{len(added):,} images were added since the {then.n_images:,} of {champion}"
    if not len(added):
        return Drift(note=f"{note}; all of today's are compared with them", figures=figures)
    if suite.asks_for_embeddings and config.drift_sample:
        embedder = create_embedder(None)
        if then.sample is None or embedder is None or embedder.name != then.sample.embedder:
            return Drift(
                note=f"{note}; their looks are not compared, since not both are embedded alike",
                figures=figures,
            )
        figure = embedding_drift(
            added,
            then=then.sample,
            raw=raw,
            embedder=embedder,
            n_sample=config.drift_sample,
            seed=config.seed,
        )
        if figure is None:
            return Drift(note=f"{note}; too few to compare their looks", figures=figures)
        figures += (figure,)
    return Drift(note=note, figures=figures)


def _check_all(
    checker: Checker, tables: dict[TableName, pd.DataFrame], suite: tuple[Expectation, ...]
) -> Results:
    """What each expectation found, in the suite's order, one look at each table."""
    found: dict[str, ExpectationResult] = {}
    for name in TABLE_NAMES:
        about = [expectation for expectation in suite if expectation.table == name]
        if about:
            results = checker.check(tables[name], about)
            found |= {result.name: result for result in results}
    return tuple(found[expectation.name] for expectation in suite)


def _all_columns_there(table: pd.DataFrame, expectations: Suite) -> None:
    """Attributes are known only with the data."""
    for expectation in expectations.expectations:
        column = str(expectation.arguments["column"])
        if column.startswith("attribute_") and column not in table.columns:
            there = [str(name) for name in table.columns if str(name).startswith("attribute_")]
            raise ConfigError(
                f"data/expectations.yaml: {expectation.name} is about column {column}, which "
                f"labels.csv does not give; it gives {', '.join(there) or 'no attribute'}"
            )


def _refusal(refused: list[ExpectationResult], *, report: Path) -> str:
    folder = Path(*report.parts[-4:])
    return "\n".join(
        [
            f"the data in data/raw do not meet {len(refused)} expectation(s):",
            *(f"  {_line(result)}" for result in refused),
            f"look at {folder}; mend the images or their labels with `fgpipe data`,",
            "or the bounds in data/expectations.yaml; then run the same command again",
        ]
    )


def _line(result: ExpectationResult) -> str:
    examples = "; ".join(_shortened(example) for example in result.examples)
    rows = {"images": "image(s)", "classes": "class(es)", "groups": "group(s)"}
    is_of_rows = result.offenders and result.table in rows  # not of a column as a whole
    what = f" for {result.n_unexpected:,} {rows[result.table]}" if is_of_rows else ""
    return f"{result.name}: {result.description}; not so{what} ({examples})"


def _shortened(text: str) -> str:
    return text if len(text) <= N_CHARACTERS else text[: N_CHARACTERS - 3] + "..."


def _in_full(suite: tuple[Expectation, ...], results: Results) -> bytes:
    content = [
        {**result.model_dump(), "kind": expectation.kind, "arguments": expectation.arguments}
        for expectation, result in zip(suite, results, strict=True)
    ]
    return (json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()
