"""What was measured is not decoded again, whatever happened to the cache."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from fgpipe.errors import DataError
from fgpipe.images import files, measure_cache
from fgpipe.images.files import ImageMeasures
from fgpipe.images.measure_cache import MAX_FILES, MeasureCache, version
from fgpipe.images.measuring import measure_all


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were decoded, as they are."""
    names: list[str] = []
    original = files._look_at

    def noting(data: bytes, *, name: str, sha256: str) -> files._Look:
        names.append(name)
        return original(data, name=name, sha256=sha256)

    monkeypatch.setattr(files, "_look_at", noting)
    return names


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of five images, 0.png to 4.png."""
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(5):
        Image.new("L", (20, 20 + i), 40 * i).save(folder / f"{i}.png")
    return folder


NAMES = [f"{i}.png" for i in range(5)]


def saved_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.parquet") if path.parent.name != "hashed")


def measured(folder: Path | None, images: Path, names: list[str] = NAMES) -> list[object]:
    return list(MeasureCache(folder).measure_all(images, names, description="x"))


def test_measures_are_those_without_a_cache(tmp_path: Path, images: Path) -> None:
    expected = measure_all(images, NAMES, description="x")

    for folder in (None, tmp_path / "cache", tmp_path / "cache"):
        assert measured(folder, images) == expected
    assert len(saved_in(tmp_path)) == 1


def test_only_what_is_new_is_decoded_whatever_it_is_called(
    tmp_path: Path, images: Path, decoded: list[str]
) -> None:
    measured(tmp_path / "cache", images, NAMES[:3])
    (images / "0.png").rename(images / "moved.png")
    decoded.clear()

    measured(tmp_path / "cache", images, ["moved.png", *NAMES[1:]])

    assert sorted(decoded) == ["3.png", "4.png"]


def test_other_bytes_under_a_known_name_are_decoded(
    tmp_path: Path, images: Path, decoded: list[str]
) -> None:
    measured(tmp_path / "cache", images)
    status = (images / "0.png").stat()
    Image.new("L", (20, 20), 77).save(images / "0.png")
    os.utime(images / "0.png", ns=(status.st_atime_ns, status.st_mtime_ns))
    decoded.clear()

    (first, *_) = measured(tmp_path / "cache", images)

    assert decoded == ["0.png"]
    assert isinstance(first, ImageMeasures)
    assert first.brightness == pytest.approx(77 / 255, abs=1e-5)


def test_what_cannot_be_used_is_named_each_time(tmp_path: Path, images: Path) -> None:
    (images / "1.png").write_bytes(b"no")

    for _ in range(2):
        results = measured(tmp_path / "cache", images)
        assert isinstance(results[1], DataError)
        assert sum(isinstance(result, ImageMeasures) for result in results) == 4


@pytest.mark.parametrize("content", [b"", b"PAR1 no", None])
def test_a_damaged_cache_is_ignored_and_made_anew(
    content: bytes | None, tmp_path: Path, images: Path, decoded: list[str]
) -> None:
    expected = measured(tmp_path / "cache", images)
    (file,) = saved_in(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(
        whole[:80] + bytes([whole[80] ^ 1]) + whole[81:] if content is None else content
    )
    decoded.clear()

    assert measured(tmp_path / "cache", images) == expected

    assert len(decoded) == 5
    assert [path.read_bytes() for path in saved_in(tmp_path)] == [whole]


def test_measures_of_another_version_of_the_code_do_not_count(
    tmp_path: Path, images: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    measured(tmp_path / "cache", images)
    decoded.clear()
    monkeypatch.setattr(measure_cache, "MEASURES_VERSION", 0)
    assert version().startswith("0-")

    measured(tmp_path / "cache", images)

    assert len(decoded) == 5


def test_many_files_become_one_and_nothing_is_lost(
    tmp_path: Path, images: Path, decoded: list[str]
) -> None:
    cache = MeasureCache(tmp_path / "cache")
    (first, *_) = measure_all(images, NAMES, description="x")
    assert isinstance(first, ImageMeasures)
    for i in range(MAX_FILES + 1):
        cache._save({f"{i:064x}": first._replace(sha256=f"{i:064x}")})
    measured(tmp_path / "cache", images)
    assert len(saved_in(tmp_path)) == 2
    decoded.clear()

    measured(tmp_path / "cache", images)

    assert decoded == []
    assert len(cache._load()) == MAX_FILES + 1 + 5


def test_files_that_cannot_be_merged_are_kept(
    tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = MeasureCache(tmp_path / "cache")
    (first, *_) = measure_all(images, NAMES, description="x")
    assert isinstance(first, ImageMeasures)
    for i in range(MAX_FILES + 1):
        cache._save({f"{i:064x}": first._replace(sha256=f"{i:064x}")})

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(measure_cache, "write_atomically", full)

    assert len(cache._load()) == MAX_FILES + 1
    assert len(saved_in(tmp_path)) == MAX_FILES + 1


def test_a_folder_that_cannot_be_written_to_costs_time_alone(tmp_path: Path, images: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")

    assert measured(tmp_path / "cache", images) == measure_all(images, NAMES, description="x")


MEASURED = """
import sys
from pathlib import Path
from fgpipe.images.measure_cache import MeasureCache

MeasureCache(Path(sys.argv[1])).measure_all(Path(sys.argv[2]), sys.argv[3:], description="x")
"""


def test_processes_at_a_time_keep_each_others_measures(
    tmp_path: Path, images: Path, decoded: list[str]
) -> None:
    command = [sys.executable, "-c", MEASURED, str(tmp_path / "cache"), str(images)]
    some = (NAMES[:2], NAMES[2:4], NAMES[1:])
    processes = [subprocess.Popen([*command, *names]) for names in some]
    codes = [process.wait() for process in processes]

    measured(tmp_path / "cache", images)

    assert codes == [0, 0, 0]
    assert decoded == []


KILLED = """
import os, signal, sys
from pathlib import Path
from fgpipe.images import measure_cache

measure_cache.SAVED_AT_ONCE = 2
seen = 0
original = measure_cache.write_atomically

def dying(path, content):
    global seen
    seen += 1
    if seen == 2:
        path.with_name(f".{path.name}.1.partial").write_bytes(content[:9])
        os.kill(os.getpid(), signal.SIGKILL)
    original(path, content)

measure_cache.write_atomically = dying
names = [f"{i}.png" for i in range(5)]
cache = measure_cache.MeasureCache(Path(sys.argv[1]))
cache.measure_all(Path(sys.argv[2]), names, description="x")
"""


def test_a_kill_loses_what_was_not_saved_and_nothing_else(
    tmp_path: Path, images: Path, decoded: list[str]
) -> None:
    expected = measure_all(images, NAMES, description="x")
    command = [sys.executable, "-c", KILLED, str(tmp_path / "cache"), str(images)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    decoded.clear()

    assert measured(tmp_path / "cache", images) == expected

    assert sorted(decoded) == ["2.png", "3.png", "4.png"]
