"""Great Expectations as the checker of tables.

Everything is in memory: an ephemeral context, one pandas data frame, one suite. Great
Expectations sees a table, so whatever is looked at in pixels must be a column of it.
It may be given any expectation on rows; of those on distinct values of a whole column,
``ExpectColumnDistinctValuesTo...`` fails with an unrelated ``KeyError`` where it should
report, so whoever writes a suite states these row by row.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from fgpipe.errors import PipelineError
from fgpipe.ports import Expectation, TableName
from fgpipe.records import ExpectationResult

N_EXAMPLES = 5
"""Most examples that a result keeps."""


N_OFFENDERS = 12
"""Most names of failing rows that a result keeps."""


class GxChecker:
    """Holds a table against expectations with Great Expectations."""

    def check(
        self, table: pd.DataFrame, expectations: Sequence[Expectation]
    ) -> tuple[ExpectationResult, ...]:
        """What each expectation found, in their order; examples read ``NAME: value``.

        Which rows fail is asked of those alone that are not met.

        Raises:
            PipelineError: If Great Expectations cannot evaluate an expectation, for
                instance since its column is not in the table.

        Cost: Importing Great Expectations takes about 5 s.
        """
        if not expectations:
            return ()
        batch = _batch(_needed(table, expectations))
        found = _validate(batch, expectations, how={"result_format": "BOOLEAN_ONLY"})
        failed = [e for e in expectations if not found[e.name]["success"]]
        if failed:
            named_by = sorted({e.named_by for e in failed})
            how = {"result_format": "COMPLETE", "unexpected_index_column_names": named_by}
            found |= _validate(batch, failed, how=how)
        return tuple(_result(expectation, found[expectation.name]) for expectation in expectations)

    def document(
        self,
        tables: Mapping[TableName, pd.DataFrame],
        expectations: Sequence[Expectation],
        out: Path,
    ) -> Path:
        """Write Great Expectations' own pages on all expectations; the first page.

        Args:
            tables: Every table that an expectation is about.
            expectations: What is looked at.
            out: The folder it goes to, with other files of its own beside the page.
        """
        import great_expectations as gx

        context = _context()
        backend = {
            "class_name": "TupleFilesystemStoreBackend",
            "base_directory": str(out.resolve()),
        }
        site = {
            "class_name": "SiteBuilder",
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
            "store_backend": backend,
        }
        for name in list(context.get_site_names()):
            context.delete_data_docs_site(site_name=name)
        context.add_data_docs_site(site_name="local", site_config=site)
        source = context.data_sources.add_pandas("tables")
        for name, table in tables.items():
            about = [e for e in expectations if e.table == name]
            if not about:
                continue
            suite = context.suites.add(
                gx.ExpectationSuite(name=name, expectations=[_of_gx(e) for e in about])
            )
            whole = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("whole")
            definition = context.validation_definitions.add(
                gx.ValidationDefinition(name=name, data=whole, suite=suite)
            )
            checkpoint = gx.Checkpoint(name=name, validation_definitions=[definition])
            context.checkpoints.add(checkpoint).run(batch_parameters={"dataframe": table})
        context.build_data_docs()
        return out / "index.html"


def _context() -> Any:  # noqa: ANN401 - Great Expectations has no types
    import great_expectations as gx

    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    return context


def _needed(table: pd.DataFrame, expectations: Sequence[Expectation]) -> pd.DataFrame:
    """The columns that expectations are about: a batch's identity is a hash of all its cells."""
    if not all("column" in e.arguments for e in expectations):
        return table
    needed = {str(e.arguments["column"]) for e in expectations} | {e.named_by for e in expectations}
    return table[[name for name in table.columns if name in needed]]


def _batch(table: pd.DataFrame) -> Any:  # noqa: ANN401 - Great Expectations has no types
    asset = _context().data_sources.add_pandas("tables").add_dataframe_asset("table")
    whole = asset.add_batch_definition_whole_dataframe("whole")
    return whole.get_batch(batch_parameters={"dataframe": table})


def _of_gx(expectation: Expectation) -> Any:  # noqa: ANN401 - Great Expectations has no types
    import great_expectations as gx

    kind = getattr(gx.expectations, _class_name(expectation.kind))
    return kind(
        **expectation.arguments,
        description=expectation.description,
        meta={"name": expectation.name},
    )


def _validate(
    batch: Any,  # noqa: ANN401 - Great Expectations has no types
    expectations: Sequence[Expectation],
    *,
    how: Mapping[str, object],
) -> dict[str, Mapping[str, Any]]:
    """Each expectation's outcome by its name: they come grouped by column, not in order."""
    import great_expectations as gx

    suite = gx.ExpectationSuite(name="suite", expectations=[_of_gx(e) for e in expectations])
    outcome = batch.validate(suite, result_format=how)
    return {
        result.expectation_config.meta["name"]: result.to_json_dict() for result in outcome.results
    }


def _class_name(kind: str) -> str:
    return "".join(word.capitalize() for word in kind.split("_"))


def _result(expectation: Expectation, outcome: Mapping[str, Any]) -> ExpectationResult:
    result: Mapping[str, Any] = outcome["result"]
    is_met = bool(outcome["success"])
    if not is_met and not result:
        raise PipelineError(
            f"Great Expectations could not evaluate {expectation.name} "
            f"({expectation.kind}): {_first_message(outcome['exception_info'])}"
        )
    n_unexpected, examples, offenders = (0, (), ()) if is_met else _unexpected(expectation, result)
    return ExpectationResult(
        name=expectation.name,
        description=expectation.description,
        table=expectation.table,
        verdict="pass" if is_met else expectation.severity,
        n_unexpected=n_unexpected,
        examples=examples,
        offenders=offenders,
    )


def _unexpected(
    expectation: Expectation, result: Mapping[str, Any]
) -> tuple[int, tuple[str, ...], tuple[str, ...]]:
    """How many rows fail, and some of them; of a whole column, what was seen instead."""
    if "unexpected_index_list" not in result:
        details = result.get("details")
        seen = _plain(details) if details else f"found {_plain(result['observed_value'])}"
        return 1, (seen,), ()
    # Of the values alone (unexpected_list) only the first 200 are given, of the rows all.
    rows: Sequence[Mapping[str, object]] = result["unexpected_index_list"]
    column, name = str(expectation.arguments["column"]), expectation.named_by
    offenders = tuple(dict.fromkeys(str(row[name]) for row in rows))[:N_OFFENDERS]
    examples = dict.fromkeys(
        _plain(row[column]) if column == name else f"{row[name]}: {_plain(row[column])}"
        for row in rows
    )
    return len(rows), tuple(examples)[:N_EXAMPLES], offenders


def _plain(value: object) -> str:
    """A value as a person writes it."""
    match value:
        case float():
            return f"{value:.4g}"
        case {"mismatched": {"missing": list(names)}}:
            return f"missing {', '.join(names)}"
        case _:
            return str(value)


def _first_message(exception_info: Mapping[str, object]) -> str:
    """The message in either of the two shapes that Great Expectations gives."""
    for value in (exception_info, *exception_info.values()):
        if isinstance(value, Mapping) and value.get("exception_message"):
            return str(value["exception_message"])
    return "no reason given"
