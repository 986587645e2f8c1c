"""``benchmark.yaml``: which methods are compared, on which data, how often.

Every value is tried on the parameters of every data set before anything runs, so that a
benchmark of a night does not stop at a misspelt head in the morning.
"""

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from math import prod
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fgpipe.config import Params, load_params
from fgpipe.errors import ConfigError, NotReadyError
from fgpipe.intake.transaction import is_unfinished
from fgpipe.operations.benchmark_plan import (
    Benchmark,
    Cell,
    Content,
    DataSet,
    Measure,
    Variant,
    cells_of,
    changed,
    grid_variants,
    written,
)
from fgpipe.pipeline import RAW, STAGES

BENCHMARK = Path("benchmark.yaml")

RUN = tuple(stage.name for stage in STAGES[: [s.name for s in STAGES].index("evaluate") + 1])
"""The stages of a cell, in order."""

VARIED = tuple(name for name in RUN if name not in {"manifest", "validate"})
"""Sections that variants can change: data and split are what they are compared on."""

SEEDS = ("train.seed",)
"""What repeats change, and variants cannot."""

_WEIGHTS = (".safetensors", ".pth")

POLICY = "train.augment"

FILES = {"pretrain.weights": _WEIGHTS, "train.weights": _WEIGHTS, POLICY: (".json",)}
"""Parameters that may be a path, with what such a path ends in."""

MAX_CELLS = 10_000
"""More are taken for a mistake; at a minute each they are a week."""

N_PROBLEMS = 12
"""Most mistakes that one message names."""


class NamedFile(NamedTuple):
    """A file that a parameter names."""

    path: str
    """Of the parameter, such as ``train.weights``."""
    value: str
    """The parameter's."""
    file: Path
    """Where that is, from the project's folder."""


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    measure: Measure
    seeds: Annotated[int, Field(ge=1, le=1000)]
    baseline: str | None = None
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] | None = None
    variants: dict[str, dict[str, Any]] | None = None
    protocols: dict[str, dict[str, Any]] | None = None
    projects: Annotated[list[str], Field(min_length=1)] | None = None


def read_benchmark(root: Path) -> Benchmark:
    """Read and check the file of the project at ``root``.

    Raises:
        ConfigError: If it is missing or no YAML, or a key or value cannot be; one message
            names them all (at most twelve), each with its key, its value and the way out.
        NotReadyError: If a project has no images yet.
    """
    path = root / BENCHMARK
    file = _read(path)
    if (n_cells := prod(map(len, (file.grid or {}).values()))) > MAX_CELLS:
        raise _refusal(path, [f"grid: makes {n_cells:,} methods; name some under variants instead"])
    variants = [
        *grid_variants(file.grid or {}),
        *(Variant(name=name, changes=changes) for name, changes in (file.variants or {}).items()),
    ]
    problems = [*_problems_of_keys(file), *_problems_of_names(file, variants)]
    roots = [(text, (root / text).resolve()) for text in file.projects or ["."]]
    problems += _problems_of_projects(roots)
    if problems:
        raise _refusal(path, problems)
    names = Counter(project.name for _, project in roots)
    benchmark = Benchmark(
        data_sets=tuple(
            DataSet(
                name=project.name if names[project.name] == 1 else text,
                root=project,
                content=_content(project),
            )
            for text, project in roots
        ),
        protocols=file.protocols or {"": {}},
        variants=tuple(variants),
        baseline=file.baseline or variants[0].name,
        n_seeds=file.seeds,
        measure=file.measure,
    )
    if problems := _problems_of_values(benchmark):
        raise _refusal(path, problems)
    return benchmark


def files_of(content: Mapping[str, Mapping[str, Any]], *, root: Path) -> Iterator[NamedFile]:
    """The files that parameters name, whether they are there or not.

    Args:
        content: Of ``params.yaml``, or sections of it.
        root: The project.
    """
    for path, endings in FILES.items():
        section, _, key = path.partition(".")
        value = content.get(section, {}).get(key)
        if isinstance(value, str) and value.endswith(endings):
            yield NamedFile(path, value, (root / value).resolve())


def _content(root: Path) -> Content:
    load_params(root / "params.yaml")
    content: Content = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    return content


def _read(path: Path) -> _File:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{path} does not exist; write it, with at least measure: test_top1, seeds: 3 and "
            "grid: {train.head: [linear, gru]}"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    try:
        content = yaml.load(text, Loader=_UniqueKeys)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path} has to be a mapping with measure, seeds and grid or variants")
    try:
        return _File.model_validate(content)
    except ValidationError as error:
        raise _refusal(path, [_explain(problem) for problem in error.errors()]) from None


class _UniqueKeys(yaml.SafeLoader):
    """YAML takes the last of two equal keys without a word."""

    def construct_mapping(
        self,
        node: yaml.MappingNode,
        deep: bool = False,  # noqa: FBT001, FBT002 - theirs
    ) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        twice = [key for key, n in Counter(map(str, keys)).items() if n > 1]
        if twice:
            message = f"line {node.start_mark.line + 1}: {twice[0]!r} stands twice; keep one"
            raise yaml.YAMLError(message)
        return super().construct_mapping(node, deep=deep)


def _problems_of_keys(file: _File) -> Iterator[str]:
    """Of the parameters that are to be changed: those that cannot be."""
    places = [
        *((f"grid: {path}", path, values) for path, values in (file.grid or {}).items()),
        *(
            (f"variants.{name}: {path}", path, value)
            for name, changes in (file.variants or {}).items()
            for path, value in changes.items()
        ),
    ]
    for where, path, value in places:
        section, _, key = path.partition(".")
        shown = written(value)
        if section in {"manifest", "validate"}:
            yield (
                f"{where} (to be {shown}): variants are compared on the same data and splits; "
                "put values of the manifest section under protocols, and take others out"
            )
        elif section not in VARIED or not key:
            yield (
                f"{where} (to be {shown}): is no SECTION.KEY of params.yaml that a benchmark "
                f"runs; the sections are {', '.join(VARIED)}"
            )
        elif path in SEEDS:
            yield f"{where} (to be {shown}): seeds says how many there are; take it out"


def _problems_of_names(file: _File, variants: Sequence[Variant]) -> Iterator[str]:
    names = Counter(variant.name for variant in variants)
    if not variants:
        yield "grid, variants: neither names anything to compare; add grid: {train.head: [linear]}"
    for name, n in names.items():
        if n > 1:
            yield f"variants.{name}: {n} variants have this name; rename one, or take it out"
    if file.baseline is not None and variants and file.baseline not in names:
        near = get_close_matches(file.baseline, names, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}" if near else f"there are {', '.join(list(names)[:8])}"
        yield f"baseline ({file.baseline}): no variant is called that; {hint}"
    if file.protocols == {}:
        yield "protocols ({}): names none; take it out for the split that params.yaml says"


def _problems_of_projects(roots: Sequence[tuple[str, Path]]) -> Iterator[str]:
    for text, n in Counter(str(root) for _, root in roots).items():
        if n > 1:
            yield f"projects: {text} stands {n} times; keep one"
    for text, root in roots:
        if not (root / "params.yaml").is_file():
            yield f"projects ({text}): {root} has no params.yaml; name folders of projects"
        elif not (root / RAW).is_dir():
            raise NotReadyError(
                f"{root / RAW} does not exist; `fgpipe data import FOLDER` in that project brings "
                "images in"
            )
        elif is_unfinished(root / RAW):
            raise NotReadyError(
                f"a change of {root / RAW} was cut short; `fgpipe data status` in that project "
                "completes it"
            )


def _problems_of_values(benchmark: Benchmark) -> list[str]:
    """Of every cell's parameters; what several have in common is named once."""
    found: dict[str, str] = {}
    for data_set in benchmark.data_sets:
        for name, values in benchmark.protocols.items():
            changes = {f"manifest.{key}": value for key, value in values.items()}
            for problem in _problems_of_params(changed(data_set.content, changes)):
                found.setdefault(problem, f"protocols.{name}: {problem}")
    if found:
        return list(found.values())
    variants: dict[tuple[Path, str, str, str], str] = {}
    for number, cell in enumerate(cells_of(benchmark)):
        if number == MAX_CELLS:
            more = f"all in all there are more than {MAX_CELLS:,} trainings; take fewer"
            return [f"seeds ({benchmark.n_seeds}): {more}"]
        for problem in _problems_of_cell(cell):
            found.setdefault(problem, f"{cell.variant.name}: {problem}")
        where = (cell.data_set.root, cell.protocol, cell.repeat.name, written(cell.content))
        other = variants.setdefault(where, cell.variant.name)
        if other != cell.variant.name:
            problem = f"{cell.variant.name}: is the same as {other}; take one of the two out"
            found.setdefault(problem, problem)
    return list(found.values())


def _problems_of_cell(cell: Cell) -> Iterator[str]:
    yield from _problems_of_params(cell.content)
    for path, value, file in files_of(cell.content, root=cell.data_set.root):
        if not file.is_file():
            yield f"{path} ({value}): {file} is no file; mend the path"


def _problems_of_params(content: Content) -> Iterator[str]:
    try:
        Params.model_validate(content)
    except ValidationError as error:
        for problem in error.errors():
            yield _explain(problem)


def _explain(problem: Mapping[str, Any]) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    text = str(problem["msg"]).removeprefix("Value error, ")
    value = problem["input"]
    match problem["type"]:
        case "missing":
            return f"{key}: missing; add it"
        case "extra_forbidden":
            return (
                f"{key} ({written(value)}): unknown key; remove it or mend its spelling{_near(key)}"
            )
        case _:
            is_whole = isinstance(value, Mapping)
            return f"{key or 'together'}{'' if is_whole else f' ({written(value)})'}: {text}"


def _near(key: str) -> str:
    """The parameter that a key was probably meant to be."""
    known = [
        f"{field.alias or section}.{name}"
        for section, field in Params.model_fields.items()
        for name in getattr(field.annotation, "model_fields", ())
    ] + list(_File.model_fields)
    near = get_close_matches(key, known, n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def _refusal(path: Path, problems: Sequence[str]) -> ConfigError:
    more = [f"  and {len(problems) - N_PROBLEMS} more"] if len(problems) > N_PROBLEMS else []
    lines = [f"  {problem}" for problem in problems[:N_PROBLEMS]]
    return ConfigError("\n".join([f"{path} has {len(problems)} mistake(s):", *lines, *more]))
