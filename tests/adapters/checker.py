"""The checker without Great Expectations."""

from collections.abc import Sequence

import pandas as pd

from fgpipe.ports import Expectation
from fgpipe.records import ExpectationResult


class FakeChecker:
    """Checks in plain pandas, and keeps the tables it was shown."""

    def __init__(self) -> None:
        self.tables: list[pd.DataFrame] = []

    def check(
        self, table: pd.DataFrame, expectations: Sequence[Expectation]
    ) -> tuple[ExpectationResult, ...]:
        self.tables.append(table)
        return tuple(_result(table, expectation) for expectation in expectations)


def _result(table: pd.DataFrame, expectation: Expectation) -> ExpectationResult:
    n_unexpected, examples, offenders = _unexpected(table, expectation)
    return ExpectationResult(
        name=expectation.name,
        description=expectation.description,
        table=expectation.table,
        verdict="pass" if n_unexpected == 0 else expectation.severity,
        n_unexpected=n_unexpected,
        examples=tuple(dict.fromkeys(examples))[:5],
        offenders=tuple(dict.fromkeys(offenders))[:12],
    )


def _unexpected(table: pd.DataFrame, expectation: Expectation) -> tuple[int, list[str], list[str]]:
    arguments = dict(expectation.arguments)
    if expectation.kind == "expect_table_columns_to_match_set":
        missing = [name for name in arguments["column_set"] if name not in table.columns]
        return (1, [f"missing {', '.join(missing)}"], []) if missing else (0, [], [])
    column = table[arguments["column"]].dropna()
    match expectation.kind:
        case "expect_column_unique_value_count_to_be_between":
            n_values = column.nunique()
            is_few = n_values < arguments["min_value"]
            return (1, [f"found {n_values}"], []) if is_few else (0, [], [])
        case "expect_column_values_to_be_unique":
            wrong = column.duplicated(keep=False)
        case "expect_column_values_to_be_in_set":
            wrong = ~column.isin(arguments["value_set"])
        case "expect_column_values_to_match_regex":
            wrong = ~column.str.contains(arguments["regex"], regex=True)
        case "expect_column_values_to_be_between":
            low = arguments.get("min_value", float("-inf"))
            high = arguments.get("max_value", float("inf"))
            wrong = ~column.between(low, high)
        case kind:
            raise NotImplementedError(kind)
    values = column[wrong.astype(bool)]
    texts = [f"{value:.4g}" if isinstance(value, float) else str(value) for value in values]
    if arguments["column"] == expectation.named_by:
        return len(values), texts, texts
    names = table.loc[values.index, expectation.named_by].tolist()
    return len(values), [f"{n}: {text}" for n, text in zip(names, texts, strict=True)], names
