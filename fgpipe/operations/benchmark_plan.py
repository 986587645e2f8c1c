"""What a benchmark runs, as data: variants, repeats, and the cells they make.

::

    data set x protocol     one table of the page
      x variant             one row of it
        x repeat            one cell: one training, one look at the test split
"""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fgpipe.records import Protocol

Measure = Literal[
    "test_top1",
    "test_macro_recall",
    "test_coarse_accuracy",
    "validation_top1",
    "validation_macro_recall",
    "validation_coarse_accuracy",
]
"""What variants are compared by: of the evaluate stage, or of the epoch that was kept."""

Content = Mapping[str, Any]
"""``params.yaml`` as plain data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One method."""

    name: str
    """What it is called in the page."""
    changes: Mapping[str, Any]
    """Values by their path in ``params.yaml``, such as ``train.head``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """One time that every variant is trained: equal repeats are compared with each other."""

    name: str
    """Such as ``seed 0`` or ``fold 3``."""
    changes: Mapping[str, Any]
    """As of a variant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """A project whose images are trained on."""

    name: str
    """What it is called in the page."""
    root: Path
    """The project's folder."""
    content: Content
    """Its ``params.yaml``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """What ``benchmark.yaml`` comes to."""

    data_sets: tuple[DataSet, ...]
    """At least one."""
    protocols: Mapping[str, Mapping[str, Any]]
    """Values of the ``manifest`` section by name; one without any where none is named."""
    variants: tuple[Variant, ...]
    """No two with the same name."""
    baseline: str
    """The variant that the others are compared with."""
    n_seeds: int
    """Repeats, but under ``fold``."""
    measure: Measure
    """What they are compared by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One training of the benchmark."""

    data_set: DataSet
    protocol: str
    """Name among the benchmark's protocols."""
    variant: Variant
    repeat: Repeat
    content: Content
    """Its whole ``params.yaml``."""

    @property
    def name(self) -> str:
        """For a progress line."""
        parts = (self.data_set.name, self.protocol, self.variant.name, self.repeat.name)
        return ", ".join(part for part in parts if part)


def grid_variants(grid: Mapping[str, Sequence[Any]]) -> Iterator[Variant]:
    """Every combination of the grid's values, the last key's changing fastest.

    They are named by their values; a key goes by its last part where that is unambiguous.
    """
    last_parts = [path.rpartition(".")[2] for path in grid]
    short = {
        path: last if last_parts.count(last) == 1 else path
        for path, last in zip(grid, last_parts, strict=True)
    }
    if not grid:
        return
    for values in itertools.product(*grid.values()):
        changes = dict(zip(grid, values, strict=True))
        parts = [f"{short[path]}={written(value)}" for path, value in changes.items()]
        yield Variant(name=", ".join(parts), changes=changes)


def written(value: object) -> str:
    """A value as one writes it in ``params.yaml``."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def changed(content: Content, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters with some values replaced; what they were is left alone.

    Args:
        content: Sections by name.
        changes: Values by ``SECTION.KEY``.
    """
    result = {name: dict(section) for name, section in content.items()}
    for path, value in changes.items():
        section, _, key = path.partition(".")
        result.setdefault(section, {})[key] = value
    return result


def repeats_of(protocol: Protocol, *, n_seeds: int, n_folds: int) -> tuple[Repeat, ...]:
    """What changes from one repeat to the next.

    The seed of the training does, under ``random`` that of the split too; under ``fold``
    every fold is the test split once, and the seed stays.
    """
    if protocol == "fold":
        return tuple(
            Repeat(name=f"fold {fold}", changes={"manifest.fold": fold}) for fold in range(n_folds)
        )
    seeded = ("train.seed", "manifest.seed") if protocol == "random" else ("train.seed",)
    return tuple(
        Repeat(name=f"seed {seed}", changes=dict.fromkeys(seeded, seed)) for seed in range(n_seeds)
    )


def cells_of(benchmark: Benchmark) -> Iterator[Cell]:
    """Every cell, all variants of a repeat before the next repeat: pairs are whole early."""
    for data_set in benchmark.data_sets:
        for protocol, values in benchmark.protocols.items():
            changes = {f"manifest.{key}": value for key, value in values.items()}
            content = changed(data_set.content, changes)
            repeats = repeats_of(
                content["manifest"]["protocol"],
                n_seeds=benchmark.n_seeds,
                n_folds=content["manifest"]["n_folds"],
            )
            for repeat, variant in itertools.product(repeats, benchmark.variants):
                yield Cell(
                    data_set=data_set,
                    protocol=protocol,
                    variant=variant,
                    repeat=repeat,
                    content=changed(content, {**variant.changes, **repeat.changes}),
                )
