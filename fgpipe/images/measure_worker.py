"""Measuring in processes of their own: ``python -m fgpipe.images.measure_worker`` is one.

Threads of one process would do if they did not wait for the interpreter's lock: an image
costs a thread on two busy cores 420 microseconds of computing and a process 250, which is
what decoding it in colour costs. A process takes 0.4 s to start.

A worker says that it is ready and then answers each line, a JSON array of a folder and names
of files below it, with a line: for every file an array of its measures, or a text that says
why it cannot be used. It ends when no more can come, so that none outlives who started it.
"""

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from queue import SimpleQueue

from fgpipe.errors import DataError, PipelineError
from fgpipe.images.files import ImageMeasures, measure_some

Results = list[ImageMeasures | DataError]

_COMMAND = (sys.executable, "-m", "fgpipe.images.measure_worker")
_READY = "ready\n"
_FIELDS = tuple(ImageMeasures.__dataclass_fields__)
_VALUES = attrgetter(*_FIELDS)  # dataclasses.astuple copies: a twentieth of all the time


class MeasureWorker:
    """A worker and the pipes to it."""

    def __init__(self) -> None:
        self._is_ready = False
        self._process = _started()

    def ask(self, folder: Path, names: Sequence[str]) -> str | None:
        """The worker's answer; None if it died over it, and another one was started.

        Raises:
            PipelineError: If workers do not start.
        """
        question, answer = self._process.stdin, self._process.stdout
        assert question is not None
        assert answer is not None
        if not self._is_ready:
            if answer.readline() != _READY:
                raise PipelineError(f"`{' '.join(_COMMAND)}` does not start; run it to see why")
            self._is_ready = True
        try:
            question.write(json.dumps([str(folder), *names]) + "\n")
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
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # what decoders print of damaged files is in the reasons
        text=True,
        encoding="utf-8",
    )


@contextlib.contextmanager
def in_processes(n_processes: int) -> Iterator[Callable[[Path, Sequence[str]], Results]]:
    """What measures as :func:`fgpipe.images.files.measure_some` does, in so many processes.

    It is meant to be called from twice as many threads: one waits for a worker while another
    reads the former answer. A file over which a worker dies is a damaged one.
    """
    workers = [MeasureWorker() for _ in range(n_processes)]
    idle: SimpleQueue[MeasureWorker] = SimpleQueue()
    for worker in workers:
        idle.put(worker)

    def some(folder: Path, names: Sequence[str]) -> Results:
        worker = idle.get()
        try:
            line = worker.ask(folder, names)
        finally:
            idle.put(worker)
        if line is not None:
            return _parsed(line)
        if len(names) == 1:
            return [DataError(f"{names[0]}: damaged (its decoder crashes)")]
        return [result for name in names for result in some(folder, [name])]

    try:
        yield some
    finally:
        for worker in workers:
            worker.close()


def _parsed(line: str) -> Results:
    return [
        DataError(each) if isinstance(each, str) else ImageMeasures(**dict(zip(_FIELDS, each)))  # noqa: B905 - as many as fields
        for each in json.loads(line)
    ]


def main() -> None:
    """Answer until the questions end."""
    sys.stdout.write(_READY)
    sys.stdout.flush()
    for line in sys.stdin:
        folder, *names = json.loads(line)
        results = measure_some(Path(folder), names, known={})
        answer = [str(r) if isinstance(r, DataError) else _VALUES(r) for r in results]
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
