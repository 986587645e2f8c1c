"""Measuring in processes gives what measuring here gives, also of files that kill a decoder."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from fgpipe.errors import DataError, PipelineError
from fgpipe.images import measuring
from fgpipe.images.content import hash_some
from fgpipe.images.files import ImageMeasures, measure_some
from fgpipe.images.measuring import (
    Lookers,
    MeasureWorker,
    hash_all,
    in_processes,
    measure_all,
    measured,
)


def test_processes_give_what_threads_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{i} ünï\n.png" for i in range(70)]
    for i, name in enumerate(names):
        Image.new("L", (10 + i, 20), 3 * i).save(tmp_path / name)
    (tmp_path / names[40]).write_bytes(b"no")
    in_threads = measure_all(tmp_path, names, description="x")
    monkeypatch.setattr(measuring, "FILES_FOR_PROCESSES", 70)

    in_processes = measure_all(tmp_path, names, description="x")

    assert [str(result) for result in in_processes] == [str(result) for result in in_threads]
    assert isinstance(in_processes[40], DataError)


@pytest.mark.parametrize("n_new", [0, 1, 69, 70])
def test_processes_decode_only_what_is_not_known(
    n_new: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{i}.png" for i in range(70)]
    for i, name in enumerate(names):
        Image.new("L", (10 + i, 20), 3 * i).save(tmp_path / name)
    fresh = measure_all(tmp_path, names, description="x")
    marked = [each._replace(contrast=0.4) for each in fresh if isinstance(each, ImageMeasures)]
    expected = fresh[:n_new] + marked[n_new:]
    known = {each.sha256: each for each in marked[n_new:]}
    (tmp_path / "not.png").write_bytes(b"no")
    monkeypatch.setattr(measuring, "FILES_FOR_PROCESSES", 70)

    found = list(measured(tmp_path, [*names, "not.png", "gone.png"], known=lambda: known))

    assert found[:-2] == expected
    assert str(found[-2]).startswith("not.png: not an image")
    assert str(found[-1]).startswith("gone.png: cannot be read")


def test_what_becomes_known_meanwhile_mixes_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{i}.png" for i in range(9)]
    for i, name in enumerate(names):
        Image.new("L", (10 + i, 20), 3 * i).save(tmp_path / name)
    fresh = measure_all(tmp_path, names, description="x")
    known: dict[str, ImageMeasures] = {}

    def measured_elsewhere(folder: Path, names: Sequence[str]) -> list[ImageMeasures | DataError]:
        known.update({each.sha256: each for each in fresh[::2] if not isinstance(each, DataError)})
        return measure_some(folder, names)

    monkeypatch.setattr(measuring, "HERE", Lookers(hash_some, measured_elsewhere))

    assert list(measured(tmp_path, names, known=lambda: known)) == fresh


def test_processes_hash_what_threads_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{i} ünï.png" for i in range(300)]
    for i, name in enumerate(names):
        (tmp_path / name).write_bytes(b"x" * (1000 * i))
    (tmp_path / "a").mkdir()
    expected = [hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in names]

    here = hash_all(tmp_path, [*names, "a"], description="x")
    monkeypatch.setattr(measuring, "FILES_FOR_PROCESSES", 70)
    there = hash_all(tmp_path, [*names, "a"], description="x")

    assert here[:-1] == there[:-1] == expected
    assert str(here[-1]) == str(there[-1]) == "a: cannot be read (a folder, not a file)"


def test_a_file_that_kills_its_decoder_is_named_and_the_others_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.png", "b.png"):
        Image.new("L", (20, 20), 9).save(tmp_path / name)
    ask = MeasureWorker.ask

    def dying(self: MeasureWorker, what: str, folder: Path, names: list[str]) -> str | None:
        if "killer.png" in names:
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._is_ready = True
        return ask(self, what, folder, names)

    monkeypatch.setattr(MeasureWorker, "ask", dying)

    with in_processes(1) as lookers:
        results = lookers.measure(tmp_path, ["a.png", "killer.png", "b.png"])

    assert str(results[1]) == "killer.png: damaged (its decoder crashes)"
    assert [results[0], results[2]] == measure_some(tmp_path, ["a.png", "b.png"])


def test_workers_that_do_not_start_are_no_images_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "_COMMAND", (sys.executable, "-c", "import no_such"))

    with pytest.raises(PipelineError, match="does not start"), in_processes(1) as lookers:
        lookers.hash(tmp_path, ["a.png"])


def test_a_worker_ends_with_who_started_it() -> None:
    script = (
        "from fgpipe.images.measuring import MeasureWorker\n"
        "import os, signal\n"
        "print(MeasureWorker()._process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)
    pid = int(done.stdout)

    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}/cmdline").exists() and _is_worker(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _is_worker(pid: int) -> bool:
    """Whether it runs; what has ended and was not waited for has no command line."""
    try:
        return b"measure_worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
