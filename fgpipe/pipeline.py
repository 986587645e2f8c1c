"""Read this first: the stages in order, and how one is run.

Each stage is one function of files, in the module of :mod:`fgpipe.stages` named like it:
the records and payloads it reads come in, its record goes out, and what it writes goes
under the folder it is given. ``dvc.yaml`` runs ``python -m fgpipe NAME`` for each, which
is :func:`run_stage`; a test holds ``dvc.yaml`` to :data:`STAGES`.

::

    data/raw -> manifest -> validate -> preprocess -> pretrain -> train -> evaluate -> gate
                                                                    |         |
                                                                    +---------+----> package
"""

import importlib
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from fgpipe.config import load_params
from fgpipe.errors import ConfigError, NotReadyError
from fgpipe.records import (
    Baseline,
    Bundle,
    Evaluation,
    GateDecision,
    Manifest,
    Preprocessed,
    Pretrained,
    Record,
    Stored,
    TrainedModel,
    Validation,
)

if TYPE_CHECKING:
    from fgpipe.ports import Ports

R = TypeVar("R", bound=Record)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One step from files to files."""

    number: int
    """Position in the design's story; a gap is a step still to come."""
    name: str
    """The verb: name of the module and of its function."""
    record: type[Record]
    """What it gives."""
    reads: tuple[str, ...]
    """Stages whose record and payload it reads, ``raw`` for the images, ``expectations`` for
    what they must be like, ``unlabelled`` for images without labels, ``baseline`` for the
    model to beat: its keyword arguments."""
    folders: tuple[str, ...] = ("payload",)
    """Folders beside its record that it fills."""

    @property
    def folder(self) -> Path:
        """Where its outs are, relative to the project."""
        return Path("data") / f"{self.number:02d}_{self.name}"


STAGES: tuple[Stage, ...] = (
    Stage(number=1, name="manifest", record=Manifest, reads=("raw",)),
    Stage(
        number=2,
        name="validate",
        record=Validation,
        reads=("raw", "expectations", "baseline", "manifest"),
    ),
    Stage(number=3, name="preprocess", record=Preprocessed, reads=("raw", "manifest", "validate")),
    Stage(
        number=4,
        name="pretrain",
        record=Pretrained,
        reads=("unlabelled", "manifest", "preprocess"),
    ),
    Stage(
        number=5, name="train", record=TrainedModel, reads=("manifest", "preprocess", "pretrain")
    ),
    Stage(
        number=6,
        name="evaluate",
        record=Evaluation,
        reads=("raw", "baseline", "manifest", "train"),
        folders=("candidate", "payload"),
    ),
    Stage(number=7, name="gate", record=GateDecision, reads=("evaluate",), folders=()),
    Stage(number=8, name="package", record=Bundle, reads=("raw", "manifest", "train", "candidate")),
)

RAW = Path("data") / "raw"
UNLABELLED = Path("data") / "unlabelled"
BASELINE = Path("data") / "baseline.json"
EXPECTATIONS = Path("data") / "expectations.yaml"


def stage_named(name: str) -> Stage:
    """The stage of that name.

    Raises:
        ConfigError: If there is none.
    """
    for stage in STAGES:
        if stage.name == name:
            return stage
    message = f"no stage is called {name!r}; there are {', '.join(s.name for s in STAGES)}"
    raise ConfigError(message)


def load_record(type_: type[R], *, root: Path) -> R:
    """The record that the stage giving ``type_`` left in the project at ``root``."""
    stage = next(stage for stage in STAGES if stage.record is type_)
    return type_.load(root / stage.folder / "record.json")


def load_stored(type_: type[R], *, root: Path) -> Stored[R]:
    """As :func:`load_record`, with the folder of what the stage made."""
    stage = next(stage for stage in STAGES if stage.record is type_)
    return Stored(record=load_record(type_, root=root), payload=root / stage.folder / "payload")


def run_stage(name: str, *, root: Path, ports: "Ports") -> Record:
    """Run one stage in the project at ``root`` and save its record last.

    What the stage left before is removed first, so that a stage killed at any instant
    and run again gives the same bytes as never having been killed.

    Raises:
        InputError: If parameters, data or an earlier stage's record are not as needed.
    """
    stage = stage_named(name)
    params = load_params(root / "params.yaml")
    for doubt in params.doubts(name):
        sys.stderr.write(f"warning: {doubt}\n")
    inputs = {read: _read(read, root=root) for read in stage.reads}
    module = importlib.import_module(f"fgpipe.stages.{name}")
    function: Callable[..., Record] = getattr(module, name)

    folder = root / stage.folder
    (folder / "record.json").unlink(missing_ok=True)
    for out in stage.folders:
        shutil.rmtree(folder / out, ignore_errors=True)
        (folder / out).mkdir(parents=True)
    record = function(**inputs, config=params.section(name), out=folder, ports=ports)
    assert type(record) is stage.record, (type(record), stage.record)
    record.save(folder / "record.json")
    return record


def _read(name: str, *, root: Path) -> object:
    """What a stage that reads ``name`` is given."""
    if name == "raw":
        from fgpipe.intake.transaction import is_unfinished

        if not (root / RAW).is_dir():
            message = (
                f"{RAW} does not exist; `fgpipe data fetch elpv` brings the demo's images, "
                "`fgpipe data import FOLDER` yours, `dvc pull` those of a remote"
            )
            raise NotReadyError(message)
        if is_unfinished(root / RAW):
            message = f"a change of {RAW} was cut short; `fgpipe data status` completes it"
            raise NotReadyError(message)
        return root / RAW
    if name == "baseline":
        return Baseline.load(root / BASELINE)
    if name == "expectations":
        from fgpipe.images.expectations_file import read_suite  # it imports pandas

        return read_suite(root / EXPECTATIONS)
    if name == "unlabelled":
        return root / UNLABELLED
    if name == "candidate":
        return root / stage_named("evaluate").folder / "candidate"
    return load_stored(stage_named(name).record, root=root)
