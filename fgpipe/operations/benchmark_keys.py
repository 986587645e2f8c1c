"""What decides a result, as hashes: the same key is the same training, and never done twice.

::

    stage key    files under data/ (by size and time), the sections of the stage and of
                 those before it, files that they name (by content), code
                                                names what cells share: arrays, manifests
    cell key     the manifest's record (by content), the sections after it, files that
                 they name (by content), code   names a result

A manifest is cheap, a training is not: files that were merely touched make the manifest
again, and find every result where it was.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import fgpipe
from fgpipe.operations.benchmark_file import RUN, VARIED, files_of
from fgpipe.operations.benchmark_plan import Cell, DataSet, changed
from fgpipe.pipeline import BASELINE, EXPECTATIONS, RAW, STAGES
from fgpipe.records import Manifest, file_sha256

CODE = ("images", "metrics", "nn", "pretraining", "serving", "stages", "training")
"""What of the package decides a figure."""

LIBRARIES = (
    "albumentations",
    "lightly",
    "numpy",
    "opencv-python-headless",
    "openvino",
    "pillow",
    "safetensors",
    "scikit-learn",
    "timm",
    "torch",
)
"""Libraries that do."""

FORMAT = 1
"""Of what is kept of a cell."""


def inputs_of(data_set: DataSet) -> list[Path]:
    """What a project's ``data/`` has that no stage made, sorted.

    The baseline is left out: a benchmark compares with its own.
    """
    made = {stage.folder.name for stage in STAGES} | {BASELINE.name}
    folder = data_set.root / RAW.parent
    return sorted(
        path for path in folder.iterdir() if path.name not in made and not path.name.startswith(".")
    )


def stage_key(cell: Cell, stage: str, *, fingerprint: str) -> str:
    """Of what a stage before the training makes.

    Args:
        cell: Any of those that share it.
        stage: Its name.
        fingerprint: Of the data set's inputs.
    """
    sections = _sections(cell, RUN[: RUN.index(stage) + 1])
    return _hash([fingerprint, sections, _code()])


def cell_key(cell: Cell, manifest: Manifest) -> str:
    """Of a result.

    Args:
        cell: The cell.
        manifest: Made of its data and ``manifest`` section.
    """
    sections = _sections(cell, VARIED)
    others = [
        path
        for path in inputs_of(cell.data_set)
        if path.name not in {RAW.name, EXPECTATIONS.name, f"{RAW.name}.dvc"}
    ]
    content = [FORMAT, manifest.sha256(), sections, fingerprint(others), _code(), _libraries()]
    return _hash(content)


def _sections(cell: Cell, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Sections of a cell's parameters, a file by its content."""
    sections = {name: cell.content.get(name, {}) for name in names}
    files = files_of(sections, root=cell.data_set.root)
    return changed(sections, {path: {"sha256": file_sha256(file)} for path, _, file in files})


def fingerprint(paths: list[Path]) -> str:
    """Of files, and all that folders hold: name, size and time of change, not content."""
    entries = [
        [file.relative_to(path.parent).as_posix(), found.st_size, found.st_mtime_ns]
        for path in paths
        for file in _files(path)
        for found in [file.stat()]
    ]
    return _hash(entries)


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from sorted(file for file in path.rglob("*") if file.is_file())
    else:
        yield path


@cache
def _code() -> str:
    package = Path(fgpipe.__file__).parent
    files = sorted(file for part in CODE for file in (package / part).rglob("*.py"))
    return _hash([[file.relative_to(package).as_posix(), file_sha256(file)] for file in files])


@cache
def _libraries() -> dict[str, str]:
    return {name: metadata.version(name) for name in LIBRARIES}


def _hash(content: object) -> str:
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
