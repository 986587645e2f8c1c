"""Expectations of Great Expectations that ``data/expectations.yaml`` may name.

Its others need several columns, another table, or (those on distinct values) fail with an
unrelated ``KeyError`` where they should report.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from fgpipe.images.data_tables import COLUMNS, TEXTS
from fgpipe.images.table import ATTRIBUTE_PREFIX
from fgpipe.ports import TableName

LARGE = 1e300
"""No bound is as large."""

N_SHOWN = 60
"""Most characters of a wrong value in a message."""

_RANGE = frozenset({"min_value", "max_value", "strict_min", "strict_max"})

ROW_KINDS: dict[str, frozenset[str]] = {
    "expect_column_values_to_be_between": _RANGE,
    "expect_column_values_to_be_in_set": frozenset({"value_set"}),
    "expect_column_values_to_not_be_in_set": frozenset({"value_set"}),
    "expect_column_values_to_be_null": frozenset(),
    "expect_column_values_to_not_be_null": frozenset(),
    "expect_column_values_to_be_unique": frozenset(),
    "expect_column_values_to_match_regex": frozenset({"regex"}),
    "expect_column_values_to_not_match_regex": frozenset({"regex"}),
    "expect_column_values_to_match_regex_list": frozenset({"regex_list", "match_on"}),
    "expect_column_values_to_not_match_regex_list": frozenset({"regex_list"}),
    "expect_column_value_lengths_to_be_between": _RANGE,
    "expect_column_value_lengths_to_equal": frozenset({"value"}),
    "expect_column_value_z_scores_to_be_less_than": frozenset({"threshold", "double_sided"}),
}
"""On every row: they also take ``mostly``, the share of rows that must do."""

WHOLE_KINDS: dict[str, frozenset[str]] = {
    "expect_column_max_to_be_between": _RANGE,
    "expect_column_mean_to_be_between": _RANGE,
    "expect_column_median_to_be_between": _RANGE,
    "expect_column_min_to_be_between": _RANGE,
    "expect_column_stdev_to_be_between": _RANGE,
    "expect_column_sum_to_be_between": _RANGE,
    "expect_column_unique_value_count_to_be_between": _RANGE,
    "expect_column_proportion_of_unique_values_to_be_between": _RANGE,
}
"""On a column as a whole."""

KINDS = {**ROW_KINDS, **WHOLE_KINDS}

_NEEDED = ("value_set", "regex", "regex_list", "value", "threshold", "double_sided")
_OF_ANY_COLUMN = re.compile("in_set|null|unique")
_OF_TEXT = re.compile("regex|value_lengths")


def problem_of_expectation(
    kind: str, *, table: TableName, column: str | None, arguments: Mapping[str, Any]
) -> str | None:
    """What is wrong with an entry that names an expectation, if anything."""
    if kind not in KINDS:
        return f"expect {kind!r} is none that fits; there are {', '.join(sorted(KINDS))}"
    known = COLUMNS[table]
    is_attribute = table == "images" and str(column).startswith(ATTRIBUTE_PREFIX)
    if column is None or (column not in known and not is_attribute):
        return f"column {column!r} is not in the table of {table}; it has {', '.join(known)}"
    is_text = is_attribute or column in TEXTS
    if not _OF_ANY_COLUMN.search(kind) and is_text != bool(_OF_TEXT.search(kind)):
        return f"column {column} holds {'text' if is_text else 'numbers'}, which {kind} is not for"
    allowed = KINDS[kind] | ({"mostly"} if kind in ROW_KINDS else frozenset())
    for key in arguments:
        if key not in allowed:
            takes = ", ".join(sorted(allowed)) or "none"
            return f"arguments.{key}: unknown key; {kind} takes {takes}"
    return _problem_of_values(kind, arguments) or _problem_of_set(
        arguments.get("value_set", ()), column=column, is_text=is_text
    )


def _problem_of_values(kind: str, arguments: Mapping[str, Any]) -> str | None:
    needed = [key for key in _NEEDED if key in KINDS[kind]]
    missing = [key for key in needed if key not in arguments]
    if missing:
        return f"arguments.{missing[0]}: missing; add it"
    for key, value in arguments.items():
        if problem := _problem_of_value(key, value):
            return f"arguments.{key} {problem} (it is {shortened(value)})"
    if KINDS[kind] == _RANGE:
        low, high = arguments.get("min_value"), arguments.get("max_value")
        if low is None and high is None:
            return "arguments must have min_value, max_value or both"
        if low is not None and high is not None and low > high:
            return f"arguments.min_value ({low:g}) must not be above max_value ({high:g})"
    return None


def _problem_of_set(values: Sequence[object], *, column: str, is_text: bool) -> str | None:
    """A value of the other sort is equal to none of the column's."""
    for value in values:
        if isinstance(value, str) != is_text:
            what = "text, so put them in quotes" if is_text else "numbers"
            return f"arguments.value_set: column {column} holds {what} ({shortened(value)})"
    return None


def _problem_of_value(key: str, value: object) -> str | None:  # noqa: PLR0911 - one line a key
    match key:
        case "min_value" | "max_value" | "threshold" | "value":
            return None if is_number(value) else "must be a number"
        case "mostly":
            return None if is_number(value) and 0 < value <= 1 else "must be above 0 and at most 1"
        case "strict_min" | "strict_max" | "double_sided":
            return None if isinstance(value, bool) else "must be true or false"
        case "value_set":
            is_set = isinstance(value, list) and value and all(map(_is_cell, value))
            return None if is_set else "must be a list of texts or numbers"
        case "match_on":
            return (
                None if isinstance(value, str) and value in {"any", "all"} else "must be any or all"
            )
        case "regex_list":
            is_list = isinstance(value, list) and value and all(map(_is_regex, value))
            return None if is_list else "must be a list of regular expressions"
        case _:
            return None if _is_regex(value) else "must be a regular expression"


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether it is a finite one, and not true or false."""
    return isinstance(value, int | float) and type(value) is not bool and abs(value) < LARGE


def _is_cell(value: object) -> bool:
    return isinstance(value, str) or is_number(value)


def shortened(value: object) -> str:
    """How a value stands in a message, whatever its size."""
    return repr(value)[:N_SHOWN]


def _is_regex(value: object) -> bool:
    try:
        return isinstance(value, str) and re.compile(value) is not None
    except re.error:
        return False
