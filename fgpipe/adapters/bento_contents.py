"""What goes into a Bento: the modules the service reaches, and exact versions of the rest.

Nothing is resolved when a Bento is built: the versions are those of the environment that
evaluated the model, of the packages that the service's modules import and of all that
these need. Training's libraries are not among them, because no module reached imports them.
"""

import ast
import platform
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

from packaging.requirements import Requirement

import fgpipe
from fgpipe.records import digest_of_files

PACKAGE = Path(fgpipe.__file__).parent

UNSEEN = ("python-multipart",)
"""Needed to read forms, but imported by name only where a form arrives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """A service's code and what it stands on."""

    sources: dict[str, bytes]
    """Each file by its path in the Bento, read once: an editor may save one meanwhile."""
    requirements: tuple[str, ...]
    """``name==version`` of every package, sorted."""
    python_version: str
    """Major and minor version of Python."""

    def version(self, bundle_sha256: str) -> str:
        """What a Bento of these and a bundle is called: another one if either changes."""
        environment = "\n".join([self.python_version, *self.requirements])
        files = {f"src/{name}": sha256(code).hexdigest() for name, code in self.sources.items()}
        files["bundle"] = bundle_sha256
        files["environment"] = sha256(environment.encode()).hexdigest()
        return digest_of_files(files)[:12]


def collect(service: Path) -> Contents:
    """What a Bento of that service file holds."""
    sources: dict[str, bytes] = {}
    third_parties: set[str] = set()
    todo = {service.name: service}
    while todo:
        key, path = todo.popitem()
        sources[key] = path.read_bytes()
        for name in imported_names(sources[key]):
            if name.partition(".")[0] != PACKAGE.name:
                third_parties.add(name.partition(".")[0])
                continue
            reached = {p.relative_to(PACKAGE.parent).as_posix(): p for p in _module_files(name)}
            todo |= {key: path for key, path in reached.items() if key not in sources}
    return Contents(
        sources=dict(sorted(sources.items())),
        requirements=pinned(third_parties - sys.stdlib_module_names),
        python_version=".".join(platform.python_version_tuple()[:2]),
    )


def imported_names(code: bytes) -> set[str]:
    """Every dotted name that a module imports when it runs, wherever in it.

    ``from a import b`` gives ``a.b``, which may be a module or something in one.
    """
    names = set()
    for node in _run_time_nodes(ast.parse(code)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def pinned(modules: Iterable[str]) -> tuple[str, ...]:
    """``name==version`` of what provides these modules and of all that it needs here."""
    providers = packages_distributions()
    todo = [(name, "") for module in modules for name in providers.get(module, ())]
    todo += [(name, "") for name in UNSEEN]
    seen: set[tuple[str, str]] = set()
    pins = {}
    while todo:
        name, extra = todo.pop()
        key = re.sub(r"[-_.]+", "-", name).lower()
        if (key, extra) in seen:
            continue
        seen.add((key, extra))
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue
        pins[key] = f"{key}=={found.version}"
        for needed in map(Requirement, found.requires or ()):
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                todo += [(needed.name, wanted) for wanted in ("", *needed.extras)]
    return tuple(sorted(pins.values()))


def _run_time_nodes(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        yield child
        yield from _run_time_nodes(child)


def _module_files(name: str) -> Iterator[Path]:
    """The files that importing a dotted name of the package runs."""
    parts = name.split(".")
    for length in range(1, len(parts) + 1):
        path = PACKAGE.parent.joinpath(*parts[:length])
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                yield file
