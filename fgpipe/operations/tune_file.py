"""``tune.yaml``: which values of ``params.yaml`` are searched, and how.

Everything in it is held against ``params.yaml``'s own models before anything is trained:
each end of a range and each choice must be a value that could stand there.
"""

from copy import deepcopy
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from fgpipe.config import (
    Count,
    Number,
    Params,
    Section,
    Seed,
    explain,
    parse_params,
    read_params,
)
from fgpipe.errors import ConfigError
from fgpipe.ports import Scalar

TUNE_FILE = Path("tune.yaml")
"""Where it is, relative to the project."""

SEARCHABLE = ("train", "preprocess")
"""Sections whose values can be searched."""

Objective = Literal[
    "validation_loss", "validation_top1", "validation_macro_recall", "validation_coarse_accuracy"
]
MINIMISED: frozenset[Objective] = frozenset({"validation_loss"})
"""Objectives of which less is better."""


class FloatRange(Section):
    """Numbers from ``low`` to ``high``, both included."""

    kind: Literal["float"]
    low: Annotated[float, Number]
    high: Annotated[float, Number]
    log: bool = False
    """Whether each order of magnitude is as likely as any other."""

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        _check_ends(self.low, self.high)
        if self.log and self.low <= 0:
            message = f"low ({self.low:g}) must be above 0 under log"
            raise ValueError(message)
        return self

    @property
    def ends(self) -> tuple[Scalar, ...]:
        """The values to hold against ``params.yaml``."""
        return (self.low, self.high)

    def has(self, value: object) -> bool:
        """Whether the value is one of these."""
        if not isinstance(value, int | float) or isinstance(value, bool):
            return False
        return self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}{', log' if self.log else ''}"


class IntRange(Section):
    """Whole numbers from ``low`` to at most ``high``."""

    kind: Literal["int"]
    low: Annotated[int, Number]
    high: Annotated[int, Number]
    step: Count = 1
    """From one to the next."""

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        _check_ends(self.low, self.high)
        return self

    @property
    def ends(self) -> tuple[Scalar, ...]:
        """The values to hold against ``params.yaml``."""
        return (self.low, self.high - (self.high - self.low) % self.step)

    def has(self, value: object) -> bool:
        """Whether the value is one of these."""
        if not isinstance(value, int) or isinstance(value, bool):
            return False
        return value in range(self.low, self.high + 1, self.step)

    def __str__(self) -> str:
        return f"{self.low} to {self.high} by {self.step}"


class Choice(Section):
    """Values without an order, written as a list."""

    values: tuple[Scalar, ...]

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if len(set(map(repr, self.values))) < max(2, len(self.values)):
            raise ValueError("must be a list of two values or more, each another")
        return self

    @property
    def ends(self) -> tuple[Scalar, ...]:
        """The values to hold against ``params.yaml``."""
        return self.values

    def has(self, value: object) -> bool:
        """Whether the value is one of these."""
        return value in self.values

    def __str__(self) -> str:
        return ", ".join(map(str, self.values))


Range = FloatRange | IntRange | Choice


class TuneFile(Section):
    """The whole of ``tune.yaml``, but for what ``search`` says of each key."""

    objective: Objective
    """What a trial is judged by: the kept epoch's figure on the validation split."""
    n_trials: Count
    """Trials to come to, counting those of earlier searches for the same."""
    sampler: Literal["tpe", "random"]
    """``tpe``: where trials went well; ``random``: anywhere."""
    pruner: Literal["none", "median", "halving"]
    """Which trials are stopped early."""
    seed: Seed
    """Of what is drawn."""
    search: Annotated[dict[str, object], Field(min_length=1)]
    """By the path of a key of ``params.yaml``: what it may be."""


def load_tune_file(path: Path, *, params: Path) -> tuple[TuneFile, dict[str, Range]]:
    """Read ``tune.yaml`` and hold what it says against ``params.yaml``.

    Returns:
        The file, and the range of each key.

    Raises:
        ConfigError: If either file cannot be used, or a value of ``tune.yaml`` is
            impossible; the message names the file, the key's path and the value.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"{path} does not exist; it says what is searched: take the one of a fresh project"
        ) from None
    except (OSError, yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from None
    try:
        file = TuneFile.model_validate(content)
    except ValidationError as error:
        raise ConfigError(explain(path, error)) from None
    text = read_params(params)
    parse_params(text, path=params)
    base = yaml.safe_load(text)
    space = {key: _range(path, key, said, base=base) for key, said in file.search.items()}
    return file, space


def _range(path: Path, key: str, said: object, *, base: dict[str, Any]) -> Range:
    """What one key may be, with every value as ``params.yaml`` would have it."""
    known = [f"{part}.{field}" for part in SEARCHABLE for field in base[part]]
    if key not in known:
        near = get_close_matches(key, known, n=1)
        hint = f"{near[0]} is one" if near else "`train.` and `preprocess.` begin those that can be"
        raise ConfigError(f"{path}: search.{key} is no key of params.yaml to search; {hint}")
    try:
        found = _read_range(said)
    except ValidationError as error:
        raise ConfigError(explain(path, error, under=f"search.{key}")) from None
    if found is None:
        raise ConfigError(
            f"{path}: search.{key} ({said!r}) must be a list of values, "
            "{kind: float, low: LEAST, high: MOST} or {kind: int, low: LEAST, high: MOST}"
        )
    values = tuple(_as_there(path, key, value, base=base) for value in found.ends)
    match found:
        case Choice():
            try:
                return Choice(values=values)
            except ValidationError as error:  # two that are one in params.yaml
                raise ConfigError(explain(path, error, under=f"search.{key}")) from None
        case IntRange() if isinstance(values[0], bool):
            raise ConfigError(f"{path}: search.{key} is true or false; write [true, false]")
        case FloatRange() if not isinstance(values[0], float):
            raise ConfigError(
                f"{path}: search.{key} takes no fractions; write kind: int, not kind: float"
            )
    return found


def _read_range(said: object) -> Range | None:
    match said:
        case list():
            return Choice.model_validate({"values": said})
        case {"kind": "float"}:
            return FloatRange.model_validate(said)
        case {"kind": "int"}:
            return IntRange.model_validate(said)
    return None


def _as_there(path: Path, key: str, value: Scalar, *, base: dict[str, Any]) -> Scalar:
    """A value as ``params.yaml``'s models have it, the rest of the file being as it is."""
    section, _, name = key.partition(".")
    content = deepcopy(base)
    content[section][name] = value
    try:
        params = Params.model_validate(content)
    except ValidationError as error:
        why = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ConfigError(
            f"{path}: search.{key}: params.yaml cannot have {value!r} there: {why}"
        ) from None
    there: Scalar = getattr(params.section(section), name)
    return there


def _check_ends(low: float, high: float) -> None:
    if low >= high:
        message = f"low ({low:g}) must be below high ({high:g})"
        raise ValueError(message)
