"""Images come in through the real intake, without caches and weights."""

from pathlib import Path
from typing import TypedDict

from fgpipe.images.measure_cache import MeasureCache
from fgpipe.images.sources.folder import class_folders
from fgpipe.intake.adding import add_source
from fgpipe.intake.bringing import import_fetched
from fgpipe.intake.importing import import_source
from fgpipe.intake.reporting import AddReport, ImportReport
from fgpipe.records import file_sha256


class Tools(TypedDict):
    """What images are looked at with."""

    cache: MeasureCache
    embedder: None


TOOLS: Tools = {"cache": MeasureCache(None), "embedder": None}


def import_folder(folder: Path, *, raw: Path) -> ImportReport:
    """Class folders become ``raw``."""
    return import_source(class_folders(folder), raw=raw, **TOOLS)


def add_folder(folder: Path, *, raw: Path, new_classes: bool = False) -> AddReport:
    """Class folders are added to ``raw``."""
    return add_source(class_folders(folder), raw=raw, new_classes=new_classes, **TOOLS)


def import_demo(raw: Path) -> ImportReport:
    """The demo's solar cells become ``raw``."""
    return import_fetched("elpv", raw=raw, downloads=raw.parent, **TOOLS)


def content(folder: Path) -> dict[str, str]:
    """Every file below a folder, by its hash."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}
