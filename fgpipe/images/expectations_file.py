"""``data/expectations.yaml``: what a data set must be like, in its owner's words.

Each entry has a name, a meaning for people, a severity, and either a check of ours
(:mod:`fgpipe.images.checks`) with its bounds or an expectation of Great Expectations
(``expect``) on a column of one of the tables of :mod:`fgpipe.images.data_tables`. What
always holds (:mod:`fgpipe.images.structure`) is not in the file and cannot be taken back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fgpipe.errors import ConfigError, NotReadyError
from fgpipe.images.checks import CHECKS, Bounds, problem_of_bounds
from fgpipe.images.gx_kinds import is_number, problem_of_expectation, shortened
from fgpipe.images.structure import expected_columns, expected_structure
from fgpipe.ports import Expectation, TableName
from fgpipe.records import Severity

STRUCTURE_NAMES = frozenset(
    {expected_columns().name, *(e.name for e in expected_structure(by_group=True))}
)
"""Names that entries cannot have, since what always holds has them."""

NAMED_BY: dict[TableName, str] = {
    "images": "path",
    "classes": "label",
    "groups": "group",
    "data": "name",
    "drift": "feature",
}
"""Column that names a row of each table."""

N_PROBLEMS = 5
"""Most mistakes that one message names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """What the file says."""

    expectations: tuple[Expectation, ...]
    """In its order."""
    labels: tuple[str, ...] | None
    """The classes there should be; None where no entry names them."""

    @property
    def asks_for_embeddings(self) -> bool:
        """Whether an entry is about the drift of embeddings."""
        return any(
            e.table == "drift" and e.arguments["column"] == "embeddings" for e in self.expectations
        )


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class _Entry(_Closed):
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
    meaning: Annotated[str, Field(min_length=1, max_length=300)]
    severity: Severity
    check: str | None = None
    min: float | None = None
    max: float | None = None
    values: list[Any] | None = None
    split: str | None = None
    column: str | None = None
    feature: str | None = None
    expect: str | None = None
    table: Literal["images", "classes", "groups", "data"] | None = None
    arguments: dict[str, Any] | None = None


class _File(_Closed):
    schema_version: Literal[1]
    expectations: list[dict[Any, Any]]


def read_suite(path: Path) -> Suite:
    """Read and check the file.

    Raises:
        NotReadyError: If it is not there.
        ConfigError: If it is no YAML, or an entry has a key, column, kind or bound that
            cannot be; the message says which entry, on which line, at most five.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotReadyError(
            f"{path} does not exist; `fgpipe data profile` writes it from the data"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    return parse_suite(text, name=str(path))


def parse_suite(text: str, *, name: str) -> Suite:
    """As :func:`read_suite`, of the file's text.

    Args:
        text: YAML.
        name: What messages call the file.

    Raises:
        ConfigError: As there.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # such as of the day 2020-13-45
        raise ConfigError(f"{name} is not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise _refusal(name, ["has to say schema_version: 1 and expectations: with a list"])
    if repeated := _repeated_keys(node):
        raise _refusal(name, [f"line {line}: {key!r} stands twice" for line, key in repeated])
    try:
        file = _File.model_validate(content)
    except ValidationError as error:
        raise _refusal(name, [_explain(problem) for problem in error.errors()]) from None
    lines = _lines(node)
    if len(lines) != len(file.expectations):
        raise _refusal(name, ["expectations: has to stand as a list in the file, not behind <<"])
    entries: list[_Entry] = []
    problems: list[str] = []
    for number, (line, raw) in enumerate(zip(lines, file.expectations, strict=True), start=1):
        where = f"line {line}, expectation {number} ({raw.get('name', 'without a name')})"
        try:
            entry = _Entry.model_validate(raw)
        except ValidationError as error:
            problems += [f"{where}: {_explain(problem)}" for problem in error.errors()]
            continue
        if problem := _problem(entry, raw=raw, before=entries):
            problems.append(f"{where}: {problem}")
        entries.append(entry)
    if problems:
        raise _refusal(name, problems)
    return Suite(
        expectations=tuple(_expectation(entry) for entry in entries),
        labels=next(
            (tuple(map(str, e.values or ())) for e in entries if e.check == "labels"), None
        ),
    )


def _problem(  # noqa: PLR0911 - one line a mistake
    entry: _Entry, *, raw: Mapping[str, Any], before: Sequence[_Entry]
) -> str | None:
    if entry.name in STRUCTURE_NAMES:
        return f"{entry.name} always holds, and is no name for another; choose one"
    if any(other.name == entry.name for other in before):
        return "another one has this name; choose one"
    if (entry.check is None) == (entry.expect is None):
        return "must have either check (one of ours) or expect (one of Great Expectations)"
    if entry.expect is not None:
        allowed = {"expect", "table", "column", "arguments"}
        if problem := _of_other_keys(raw, allowed):
            return problem
        return problem_of_expectation(
            entry.expect,
            table=entry.table or "images",
            column=entry.column,
            arguments=entry.arguments or {},
        )
    assert entry.check is not None
    if entry.check not in CHECKS:
        return f"check {entry.check!r} is none; there are {', '.join(CHECKS)}"
    if problem := _of_other_keys(raw, {"check", *CHECKS[entry.check].keys}):
        return problem
    if entry.check == "labels" and any(other.check == "labels" for other in before):
        return "the classes are named by another one already; keep one of the two"
    return problem_of_bounds(entry.check, _bounds(entry))


def _of_other_keys(raw: Mapping[str, Any], allowed: set[str]) -> str | None:
    other = sorted(set(raw) - allowed - {"name", "meaning", "severity"})
    if other:
        return f"{other[0]} does not go with it; it takes {', '.join(sorted(allowed))}"
    return None


def _bounds(entry: _Entry) -> Bounds:
    return Bounds(
        low=entry.min,
        high=entry.max,
        values=None if entry.values is None else tuple(entry.values),
        split=entry.split,
        column=entry.column,
        feature=entry.feature,
    )


def _expectation(entry: _Entry) -> Expectation:
    if entry.expect is not None:
        table: TableName = entry.table or "images"
        arguments = {"column": entry.column, **(entry.arguments or {})}
        kind = entry.expect
    else:
        assert entry.check is not None
        table, kind, arguments = CHECKS[entry.check].compiled(_bounds(entry))
    return Expectation(
        name=entry.name,
        description=entry.meaning + _in_numbers(entry),
        kind=kind,
        arguments=arguments,
        named_by=NAMED_BY[table],
        table=table,
        severity=entry.severity,
    )


def _in_numbers(entry: _Entry) -> str:
    """The bounds, so that a meaning that does not say them is as good, and none is outdated."""
    said = {"min": entry.min, "max": entry.max, **(entry.arguments or {})}
    found = [f"{key} {value:.10g}" for key, value in said.items() if is_number(value)]
    if entry.check == "channels":
        found.append(f"values {', '.join(map(str, entry.values or ()))}")
    return f" ({', '.join(found)})" if found else ""


def _refusal(name: str, problems: Sequence[str]) -> ConfigError:
    more = [f"  and {len(problems) - N_PROBLEMS} more"] if len(problems) > N_PROBLEMS else []
    lines = [f"  {problem}" for problem in problems[:N_PROBLEMS]]
    return ConfigError("\n".join([f"{name} has {len(problems)} mistake(s):", *lines, *more]))


def _explain(problem: Mapping[str, Any]) -> str:
    key = ".".join(str(part) for part in problem["loc"]) or "file"
    match problem["type"]:
        case "missing":
            return f"{key}: missing; add it"
        case "invalid_key":
            return f"{key}: is no name of a key; remove it or mend its spelling"
        case "extra_forbidden":
            return f"{key}: unknown key; remove it or mend its spelling"
        case _:
            return f"{key}: {problem['msg']} (it is {shortened(problem['input'])})"


def _lines(node: yaml.Node | None) -> list[int]:
    """The line each entry begins on."""
    assert isinstance(node, yaml.MappingNode)
    for key, value in node.value:
        if key.value == "expectations":
            return [entry.start_mark.line + 1 for entry in value.value]
    return []


def _repeated_keys(root: yaml.Node | None) -> list[tuple[int, str]]:
    """Keys that stand twice in one mapping: YAML would silently take the last."""
    found: list[tuple[int, str]] = []
    waiting, seen = [root], set[int]()
    while waiting:
        node = waiting.pop()
        if not isinstance(node, yaml.CollectionNode) or id(node) in seen:
            continue
        seen.add(id(node))  # an alias may name what it stands in
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
            continue
        keys: set[str] = set()
        for key, value in node.value:
            if str(key.value) in keys:
                found.append((key.start_mark.line + 1, str(key.value)))
            keys.add(str(key.value))
            waiting.append(value)
    return sorted(found)
