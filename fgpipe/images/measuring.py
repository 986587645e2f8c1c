"""Many files measured or hashed over all cores, in processes where it is worth it."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

from tqdm import tqdm

from fgpipe.errors import DataError, PipelineError
from fgpipe.images.content import hash_some
from fgpipe.images.files import ImageMeasures, measure_some
from fgpipe.images.measure_worker import READY

T = TypeVar("T")
Results = list[ImageMeasures | DataError]
Hashes = list[str | DataError]

FILES_FOR_PROCESSES = 5_000
"""So many files and more are looked at in processes, which take time to start."""

FILES_A_TASK = 32
"""Looked at in one go by a thread: one by one, handing over takes a tenth of the time."""

MEASURED_A_TASK = 512
"""Measured in one go by a process, which waits milliseconds for the next where this one's
interpreter is busy."""

HASHED_A_TASK = 4096
"""Hashed in one go by a process."""

_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1"}
"""NumPy's threads wait by spinning, on cores that other processes need."""

_COMMAND = (sys.executable, "-m", "fgpipe.images.measure_worker")


class Lookers(NamedTuple):
    """Who looks at a few files below a folder, one after the other."""

    hash: Callable[[Path, Sequence[str]], Hashes]
    measure: Callable[[Path, Sequence[str]], Results]


HERE = Lookers(hash_some, measure_some)


def measured(
    folder: Path,
    names: Sequence[str],
    *,
    known: Callable[[], Mapping[str, ImageMeasures]] | None = None,
) -> Generator[ImageMeasures | DataError, None, None]:
    """Measure files over all cores, in the order of ``names``.

    Args:
        folder: Where the files are.
        names: Their paths below it.
        known: Gives measures of contents by sha256, which are read but not decoded; asked
            when the first files are hashed. None if there are none.

    Yields:
        What each file measures, or why it cannot be used.
    """
    if known is None:
        return _over_all_cores(
            lambda lookers, names: lookers.measure(folder, names), names, n_files=MEASURED_A_TASK
        )

    def some(lookers: Lookers, names: Sequence[str]) -> Results:
        return _measured_unless_known(lookers, folder, names, known=known)

    return _over_all_cores(some, names, n_files=HASHED_A_TASK)


def measure_all(folder: Path, names: Sequence[str], *, description: str) -> Results:
    """Measure files over all cores, with a progress bar, in the order of ``names``.

    Args:
        folder: Where the files are.
        names: Their paths below it.
        description: What the progress bar says.

    Returns:
        What each file measures, or why it cannot be used.
    """
    results = measured(folder, names)
    return list(tqdm(results, total=len(names), desc=description, unit="image", disable=None))


def hash_all(folder: Path, names: Sequence[str], *, description: str) -> Hashes:
    """Hash files over all cores, with a progress bar, in the order of ``names``.

    Args:
        folder: Where the files are.
        names: Their paths below it.
        description: What the progress bar says.

    Returns:
        SHA-256 of each file in hexadecimal, or why it cannot be read.
    """
    results = _over_all_cores(
        lambda lookers, names: lookers.hash(folder, names), names, n_files=HASHED_A_TASK
    )
    return list(tqdm(results, total=len(names), desc=description, unit="image", disable=None))


def _measured_unless_known(
    lookers: Lookers,
    folder: Path,
    names: Sequence[str],
    *,
    known: Callable[[], Mapping[str, ImageMeasures]],
) -> Results:
    hashes = lookers.hash(folder, names)
    measures = known()
    unknown = [
        name
        for name, sha256 in zip(names, hashes, strict=True)
        if isinstance(sha256, str) and sha256 not in measures
    ]
    if len(unknown) < len(names) / 8:
        lookers = HERE  # for a few no process need load its decoders
    # By name, since by now more may be known: whoever takes the results adds to it.
    looks = dict(zip(unknown, lookers.measure(folder, unknown), strict=True))
    return [
        sha256 if isinstance(sha256, DataError) else looks.get(name) or measures[sha256]
        for name, sha256 in zip(names, hashes, strict=True)
    ]


def _over_all_cores(
    some: Callable[[Lookers, Sequence[str]], Sequence[T]], names: Sequence[str], *, n_files: int
) -> Generator[T, None, None]:
    """What ``some`` finds of names, in their order; ``n_files`` at a time, if in processes."""
    n_threads = n_cores = os.cpu_count() or 1
    lookers = HERE
    with contextlib.ExitStack() as stack:
        if len(names) >= FILES_FOR_PROCESSES:
            lookers = stack.enter_context(in_processes(n_cores))
            # Twice as many threads: one waits for a process, another reads the former answer.
            n_threads, n_files = 2 * n_cores, min(n_files, len(names) // (4 * n_cores) + 1)
        else:
            n_files = FILES_A_TASK
        pool = ThreadPoolExecutor(n_threads)
        stack.callback(pool.shutdown, cancel_futures=True)
        tasks = [names[i : i + n_files] for i in range(0, len(names), n_files)]
        yield from chain.from_iterable(pool.map(partial(some, lookers), tasks))


class MeasureWorker:
    """A process that looks at files (:mod:`fgpipe.images.measure_worker`), and pipes to it."""

    def __init__(self) -> None:
        self._is_ready = False
        self._process = _started()

    def ask(self, what: str, folder: Path, names: Sequence[str]) -> str | None:
        """The worker's answer; None if it died over it, and another one was started.

        Raises:
            PipelineError: If workers do not start.
        """
        question, answer = self._process.stdin, self._process.stdout
        assert question is not None
        assert answer is not None
        if not self._is_ready:
            if answer.readline() != READY:
                raise PipelineError(f"`{' '.join(_COMMAND)}` does not start; run it to see why")
            self._is_ready = True
        try:
            question.write(json.dumps([what, str(folder), *names]) + "\n")
            question.flush()
            line = answer.readline()
        except OSError:
            line = ""
        if line.endswith("\n"):
            return line
        self.close()
        self._is_ready = False
        self._process = _started()
        return None

    def close(self) -> None:
        """Let it end."""
        with contextlib.suppress(OSError):
            self._process.communicate()


def _started() -> "subprocess.Popen[str]":
    return subprocess.Popen(
        _COMMAND,
        env={**os.environ, **_ONE_THREAD},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # what decoders print of damaged files is in the reasons
        text=True,
        encoding="utf-8",
    )


@contextlib.contextmanager
def in_processes(n_processes: int) -> Iterator[Lookers]:
    """So many processes that look at files; a file over which one dies is a damaged one."""
    workers = [MeasureWorker() for _ in range(n_processes)]
    idle: SimpleQueue[MeasureWorker] = SimpleQueue()
    for worker in workers:
        idle.put(worker)

    def look(
        what: str, make: Callable[[list[Any]], T], folder: Path, names: Sequence[str]
    ) -> list[T | DataError]:
        worker = idle.get()
        try:
            line = worker.ask(what, folder, names)
        finally:
            idle.put(worker)
        if line is not None:
            return [
                DataError(each) if isinstance(each, str) else make(each)
                for each in json.loads(line)
            ]
        if len(names) == 1:
            return [DataError(f"{names[0]}: damaged (its decoder crashes)")]
        return [found for name in names for found in look(what, make, folder, [name])]

    try:
        yield Lookers(
            partial(look, "hash", lambda values: str(values[0])),
            partial(look, "measure", ImageMeasures._make),
        )
    finally:
        for worker in workers:
            worker.close()
