"""Changes of ``data/raw`` that happen wholly or not at all, whenever they are killed.

::

    data/.raw.PID.partial    being written; thrown away once its process is no more
      |  one rename, when it is complete
    data/.raw.ready          what is still to be moved; whoever comes next moves the rest
      |  one rename a file, labels.csv last
    data/raw

No file of ``data/raw`` is written to in place: it may be a link into DVC's cache.
"""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from fgpipe.errors import NotReadyError, UnavailableError
from fgpipe.images.groups_file import GROUPS_NAME
from fgpipe.images.labels_file import LABELS_NAME
from fgpipe.images.quarantine_file import QUARANTINE_NAME
from fgpipe.records import file_sha256, write_atomically

PLAN_NAME = "plan.json"
_FILES = "files"
_LAST = (GROUPS_NAME, QUARANTINE_NAME, LABELS_NAME)


class Staging:
    """A change that is being written."""

    def __init__(self, folder: Path) -> None:
        self.files = folder / _FILES
        """Holds new and changed files under their paths in ``data/raw``."""
        self._removed: list[str] = []

    def place(self, path: str) -> Path:
        """Where to write the file that is to be at ``path``."""
        place = self.files / path
        place.parent.mkdir(parents=True, exist_ok=True)
        return place

    def write(self, path: str, text: str) -> None:
        """Write a text file."""
        write_atomically(self.files / path, text.encode())

    def remove(self, path: str) -> None:
        """Remove the file that is at ``path``, if there is one."""
        self._removed.append(path)

    def plan(self, raw: Path) -> dict[str, object]:
        """What is to be done to ``raw``, in this order."""
        found = (path.relative_to(self.files) for path in self.files.rglob("*") if path.is_file())
        moved = sorted(path.as_posix() for path in found)
        last = [name for name in _LAST if name in moved]
        return {
            "was": _labels_hash(raw),
            "becomes": _labels_hash(self.files) or _labels_hash(raw),
            "move": [path for path in moved if path not in last] + last,
            "remove": sorted(self._removed),
        }


@contextlib.contextmanager
def exclusive(raw: Path) -> Iterator[bool]:
    """Keep other commands off ``data/raw``, and finish what one that was killed began.

    The lock is on the folder above, so that it leaves no file and ends with the process.

    Args:
        raw: The folder ``data/raw``.

    Yields:
        Whether there was something to finish.

    Raises:
        UnavailableError: If another command is at work.
        NotReadyError: If what was begun does not fit what is there; it is dropped.
    """
    raw.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(raw.parent, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UnavailableError(
                f"another `fgpipe data` command is at work on {raw}; wait for it to end"
            ) from None
        except OSError:  # a file system without locks
            pass
        yield finish(raw)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def staged(raw: Path) -> Iterator[Staging]:
    """A change of ``data/raw`` that takes effect at the end of the block.

    Args:
        raw: The folder ``data/raw``, kept off others by :func:`exclusive`.

    Yields:
        What to write the change into; an exception drops it.
    """
    with own_folder(raw, kind="partial") as folder:
        staging = Staging(folder)
        staging.files.mkdir()
        yield staging
        plan = json.dumps(staging.plan(raw), ensure_ascii=False)
        write_atomically(folder / PLAN_NAME, plan.encode())
        folder.replace(_ready(raw))
    finish(raw)


def finish(raw: Path) -> bool:
    """Carry out a change that is complete but was not, or not wholly, carried out.

    Args:
        raw: The folder ``data/raw``.

    Returns:
        Whether there was one.

    Raises:
        NotReadyError: If ``raw`` has become another since; then it is dropped.
    """
    ready = _ready(raw)
    if not ready.exists():
        return False
    plan_path = ready / PLAN_NAME
    if not plan_path.exists() or not raw.is_dir():
        shutil.rmtree(ready)
        return False
    plan = json.loads(plan_path.read_bytes())
    there = _labels_hash(raw) in {plan["was"], plan["becomes"]} and all(
        (ready / _FILES / path).exists() or (raw / path).exists() for path in plan["move"]
    )
    if there:
        _carry_out(plan["move"], plan["remove"], files=ready / _FILES, raw=raw)
    plan_path.unlink()
    shutil.rmtree(ready)
    if not there:
        raise NotReadyError(
            f"{raw} was changed by other means after a `fgpipe data` command was killed; what "
            "that command had prepared is dropped: run it again (`dvc checkout data/raw` "
            "brings the last version back)"
        )
    return True


def is_unfinished(raw: Path) -> bool:
    """Whether a change waits to be carried out."""
    return (_ready(raw) / PLAN_NAME).exists()


def _carry_out(moved: Sequence[str], removed: Sequence[str], *, files: Path, raw: Path) -> None:
    """Move and remove; what is done already is passed over."""
    for path in moved:
        (raw / path).parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            (files / path).replace(raw / path)
    for path in removed:
        (raw / path).unlink(missing_ok=True)
        for folder in (raw / path).parents:
            if folder == raw:
                break
            with contextlib.suppress(OSError):  # not empty, or gone
                folder.rmdir()


@contextlib.contextmanager
def own_folder(raw: Path, *, kind: Literal["partial", "work"]) -> Iterator[Path]:
    """A folder beside ``raw`` that vanishes unless it was renamed; so do those of the killed.

    Args:
        raw: The folder ``data/raw``.
        kind: What is in it: a change being written, or what a source was unpacked to.
    """
    raw.parent.mkdir(parents=True, exist_ok=True)
    for stale in raw.parent.glob(f".{raw.name}.*.{kind}"):
        if not _is_running(stale.suffixes[-2].removeprefix(".")):
            shutil.rmtree(stale, ignore_errors=True)
    own = raw.with_name(f".{raw.name}.{os.getpid()}.{kind}")
    shutil.rmtree(own, ignore_errors=True)
    own.mkdir()
    try:
        yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)


def _ready(raw: Path) -> Path:
    return raw.with_name(f".{raw.name}.ready")


def _labels_hash(folder: Path) -> str | None:
    path = folder / LABELS_NAME
    return file_sha256(path) if path.is_file() else None


def _is_running(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        return True
    return True
