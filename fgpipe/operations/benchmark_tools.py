"""How stages are run, and how fast a graph serves: a benchmark's hands.

A stage is a process of its own, ``python -m fgpipe STAGE``, so that its time and its
memory are measured from outside and nothing of one cell is left for the next. Runs go to
an MLflow experiment of their own in the project's store: they can be looked at there and
do not bury the project's.
"""

import fcntl
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

import fgpipe
from fgpipe import settings
from fgpipe.errors import FgpipeError, InputError, PipelineError, UnavailableError
from fgpipe.operations.benchmark_cell import Usage
from fgpipe.records import Evaluation
from fgpipe.serving.predictor import Predictor

N_SAID = 12
"""Most lines of a stage's log that are said where it broke off."""

N_WARM_UP, MIN_TIMED, TIMED_S = 5, 20, 1.5
"""Images before the clock runs, fewest timed, and seconds they are timed for."""


def experiment() -> str:
    """The MLflow experiment of a benchmark's runs."""
    return f"{settings.model_name()}-benchmark"


@contextmanager
def locked(folder: Path) -> Iterator[int]:
    """Keep other benchmarks off a folder; the file descriptor that holds the lock.

    The lock ends with the last process that has the descriptor: a stage that outlives a
    benchmark that was killed keeps the next one from measuring beside it.

    Raises:
        UnavailableError: If another process has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UnavailableError(
                f"another benchmark, or a stage that one left running, is at work in {folder}; "
                "wait for it to end, or end it, then try again"
            ) from None
        yield file.fileno()


class StageProcess:
    """Runs stages as processes; fulfils ``benchmark_cell.StageRunner``."""

    def __init__(self, home: Path, *, lock: int) -> None:
        """Where stages keep their state.

        Args:
            home: Where the store, caches of measures and checkpoints are.
            lock: File descriptor that stages inherit: a lock on it lasts as long as they.
        """
        self._home = home
        self._lock = lock

    def __call__(self, stage: str, *, root: Path, log: Path) -> Usage:
        """Run a stage; see ``benchmark_cell.StageRunner``."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            began = file.tell()
            start = time.monotonic()
            process = subprocess.Popen(
                [sys.executable, "-m", "fgpipe", stage],
                cwd=root,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                pass_fds=[self._lock],
            )
            try:
                _, status, used = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
            finally:
                if process.returncode is None:
                    process.terminate()
                    process.wait()
        seconds = time.monotonic() - start
        if process.returncode:
            said = log.read_bytes()[began:].decode(errors="replace")
            raise _explain(said, stage=stage, code=process.returncode, log=log)
        return Usage(seconds=seconds, memory_mib=used.ru_maxrss / 1024)

    def _environment(self) -> dict[str, str]:
        """This process's, such that the same code runs and keeps its state in the same place."""
        code = str(Path(fgpipe.__file__).parents[1])
        path = os.pathsep.join(filter(None, [code, os.environ.get("PYTHONPATH")]))
        return {
            **os.environ,
            "FGPIPE_HOME": str(self._home),
            "FGPIPE_MODEL_NAME": experiment(),
            "PYTHONPATH": path,
        }


def _explain(said: str, *, stage: str, code: int, log: Path) -> FgpipeError:
    """A stage's own message, or the end of what it printed."""
    _, mark, message = said.rpartition("fgpipe: ")
    if mark:
        kind = InputError if code == InputError.exit_code else PipelineError
        return kind(message.strip())
    last = "\n".join(said.strip().splitlines()[-N_SAID:])
    return PipelineError(f"{stage} broke off with exit code {code}; {log} has all of:\n{last}")


def serving_speed(folder: Path, evaluation: Evaluation) -> float:
    """Images a second, one at a time, from the median: what else a machine does matters less.

    Args:
        folder: With what a predictor reads.
        evaluation: Says the precision.
    """
    predictor = Predictor.load(folder, precision=evaluation.precision)
    side = predictor.image_size_px
    image = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), dtype=np.uint8)
    for _ in range(N_WARM_UP):
        predictor.logits(image)
    seconds: list[float] = []
    start = time.perf_counter()
    while len(seconds) < MIN_TIMED or time.perf_counter() - start < TIMED_S:
        asked = time.perf_counter()
        predictor.logits(image)
        seconds.append(time.perf_counter() - asked)
    return 1 / statistics.median(seconds)
