"""What ``fgpipe tune`` searches in a project, and the key under which it is found again.

The key is a hash of all that decides a trial's outcome but the values that are searched:
the data, the ranges, the objective, the rest of ``params.yaml``'s sections ``preprocess``
and ``train``, and the code that trains; where trials pretrain, what that depends on too.
The same search goes on where it ended; another begins anew. Sampler, pruner, seed and
number of trials may change on the way.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from fgpipe import settings
from fgpipe.config import Params, load_params
from fgpipe.errors import ConfigError, UnavailableError
from fgpipe.operations.benchmark_file import files_of
from fgpipe.operations.benchmark_keys import fingerprint
from fgpipe.operations.tune_file import (
    MINIMISED,
    SEARCHABLE,
    TUNE_FILE,
    Range,
    TuneFile,
    load_tune_file,
)
from fgpipe.pipeline import UNLABELLED, load_record
from fgpipe.ports import Reproducer, Scalar
from fgpipe.pretraining.checkpoint import CODE as PRETRAINING_CODE
from fgpipe.records import Manifest, Preprocessed, Pretrained, file_sha256
from fgpipe.training.checkpoint import CODE
from fgpipe.training.input_key import input_key

LEARNING = ("preprocess", "pretrain")
"""Stages between the data and the training, which each trial runs if it has images of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What is searched in a project."""

    root: Path
    """The project."""
    file: TuneFile
    """How."""
    space: Mapping[str, Range]
    """What each key of ``params.yaml`` may be."""
    key: str
    """Hash of all that decides a trial's outcome but its values."""
    base: Mapping[str, Scalar]
    """The keys' values in ``params.yaml``."""

    @property
    def folder(self) -> Path:
        """Where what was tried is kept, and trials run."""
        return settings.state(self.root) / "tune"

    @property
    def is_minimised(self) -> bool:
        """Whether less of the objective is better."""
        return self.file.objective in MINIMISED

    @property
    def stages(self) -> tuple[str, ...]:
        """What a trial runs."""
        return (*LEARNING, "train") if _own_images(self.space) else ("train",)

    @property
    def before(self) -> tuple[str, ...]:
        """Stages whose results all trials share."""
        return _before(self.space)

    @property
    def n_epochs(self) -> int:
        """Of the longest trial."""
        epochs = self.space.get("train.epochs")
        if epochs is None:
            return load_params(self.root / "params.yaml").train.epochs
        return max(int(end) for end in epochs.ends)


def prepare(root: Path, *, reproducer: Reproducer) -> Search:
    """Bring up to date what trials start from, and say what is searched.

    Args:
        root: The project.
        reproducer: Brings stages up to date.

    Raises:
        ConfigError: If ``tune.yaml`` or ``params.yaml`` cannot be used.
        InputError: If an earlier stage refuses the data.
    """
    _, space = load_tune_file(root / TUNE_FILE, params=root / "params.yaml")
    for stage in _before(space):
        reproducer.reproduce(stage)
    return find(root)


def find(root: Path) -> Search:
    """What is searched, of the data as earlier stages left them.

    Raises:
        ConfigError: If ``tune.yaml`` or ``params.yaml`` cannot be used.
        NotReadyError: If an earlier stage has not run.
    """
    file, space = load_tune_file(root / TUNE_FILE, params=root / "params.yaml")
    manifest = load_record(Manifest, root=root)
    if file.objective == "validation_coarse_accuracy" and not manifest.parents:
        raise ConfigError(
            f"{root / TUNE_FILE}: objective: validation_coarse_accuracy needs parents of labels, "
            "and the data name none; take validation_top1 or validation_macro_recall"
        )
    params = load_params(root / "params.yaml")
    there = {
        f"{section}.{name}": value
        for section in SEARCHABLE
        for name, value in params.section(section).model_dump().items()
    }
    inputs = {"manifest": manifest.sha256()}
    code: tuple[str, ...] = CODE
    if _own_images(space):
        there |= _pretraining(root, params)
        code += PRETRAINING_CODE
    else:
        inputs["preprocess"] = load_record(Preprocessed, root=root).sha256()
        inputs["pretrain"] = load_record(Pretrained, root=root).sha256()
    key = input_key(
        inputs=inputs,
        parameters={
            "objective": file.objective,
            "space": {key: range_.model_dump() for key, range_ in space.items()},
            "fixed": {key: value for key, value in there.items() if key not in space},
            "files": _files(params, space, root=root),
        },
        code=code,
    )
    base = {key: there[key] for key in space}
    return Search(root=root, file=file, space=space, key=key, base=base)


def _pretraining(root: Path, params: Params) -> dict[str, object]:
    """What a trial's own pretraining depends on, by names as those in ``params.yaml``."""
    if params.pretrain.method == "none":
        return {"pretrain.method": "none"}
    fixed = {f"pretrain.{name}": value for name, value in params.pretrain.model_dump().items()}
    folders = [root / UNLABELLED] if (root / UNLABELLED).is_dir() else []
    return {**fixed, UNLABELLED.as_posix(): fingerprint(folders)}


def _files(params: Params, space: Mapping[str, Range], *, root: Path) -> dict[str, str]:
    """Hash of each file that the parameters, or what they may be, name."""
    contents: list[dict[str, dict[str, object]]] = [params.model_dump()]
    for key, range_ in space.items():
        section, _, name = key.partition(".")
        contents += [{section: {name: value}} for value in range_.ends]
    named = [each for content in contents for each in files_of(content, root=root)]
    return {each.value: file_sha256(each.file) for each in named if each.file.is_file()}


def _before(space: Mapping[str, Range]) -> tuple[str, ...]:
    """Stages whose results all trials share."""
    data = ("manifest", "validate")
    return data if _own_images(space) else (*data, *LEARNING)


def _own_images(space: Mapping[str, Range]) -> bool:
    """Whether each trial preprocesses its images itself."""
    return any(key.startswith("preprocess.") for key in space)


@contextmanager
def alone(search: Search) -> Iterator[None]:
    """Keep other searches off what this one takes up.

    Raises:
        UnavailableError: If there is another.
    """
    search.folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(search.folder / "lock", timeout=0):
            yield
    except Timeout:
        raise UnavailableError(
            "another `fgpipe tune` is at work on this project; wait for it to end"
        ) from None
