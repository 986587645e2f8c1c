"""A file that nobody touched is not read again; one that was touched is, however it was."""

import hashlib
import os
import time
from pathlib import Path

import pytest

from fgpipe.images import content, hashed_files, measuring
from fgpipe.images.hashed_files import HashedFiles
from fgpipe.images.measure_cache import MeasureCache

NAMES = ["a/0.png", "a/1.png", "2.png"]


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three files that have not changed for a tick of the clock, which is enough here."""
    monkeypatch.setattr(hashed_files, "UNSURE_NS", 0)
    folder = tmp_path / "images"
    (folder / "a").mkdir(parents=True)
    for number, name in enumerate(NAMES):
        (folder / name).write_bytes(f"content {number}".encode())
    time.sleep(0.02)
    return folder


def hashes(folder: Path) -> dict[str, str]:
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in NAMES}


def remembered(tmp_path: Path, images: Path) -> dict[str, str]:
    return HashedFiles(tmp_path / "memory", images).unchanged(NAMES)


@pytest.fixture
def known(tmp_path: Path, images: Path) -> dict[str, str]:
    """What is remembered of the three."""
    files = HashedFiles(tmp_path / "memory", images)
    assert files.unchanged(NAMES) == {}
    files.remember(hashes(images))
    return hashes(images)


def test_files_that_nobody_touched_are_known(
    tmp_path: Path, images: Path, known: dict[str, str]
) -> None:
    assert remembered(tmp_path, images) == known


def in_place(path: Path) -> None:
    path.write_bytes(b"CONTENT 1")


def by_a_rename(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"CONTENT 1")
    other.replace(path)


def to_another_length(path: Path) -> None:
    path.write_bytes(b"more content")


@pytest.mark.parametrize("change", [in_place, by_a_rename, to_another_length])
def test_a_file_that_changed_is_not_known_though_its_time_was_set_back(
    change: object, tmp_path: Path, images: Path, known: dict[str, str]
) -> None:
    assert callable(change)
    status = (images / NAMES[1]).stat()

    change(images / NAMES[1])
    os.utime(images / NAMES[1], ns=(status.st_atime_ns, status.st_mtime_ns))

    time.sleep(0.02)
    assert set(remembered(tmp_path, images)) == {NAMES[0], NAMES[2]}
    assert known[NAMES[1]] != hashes(images)[NAMES[1]]


def test_a_file_that_changed_just_now_is_not_remembered(
    tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashed_files, "UNSURE_NS", 60_000_000_000)
    files = HashedFiles(tmp_path / "memory", images)
    files.unchanged(NAMES)
    files.remember(hashes(images))

    monkeypatch.setattr(hashed_files, "UNSURE_NS", 0)

    assert remembered(tmp_path, images) == {}


def test_a_file_that_changes_between_look_and_hash_is_read_again(
    tmp_path: Path, images: Path
) -> None:
    files = HashedFiles(tmp_path / "memory", images)
    files.unchanged(NAMES)
    before = hashes(images)
    time.sleep(0.02)  # the kernel's clock for files goes by ticks
    (images / NAMES[0]).write_bytes(b"CONTENT 0")

    files.remember(before)

    time.sleep(0.02)
    assert set(remembered(tmp_path, images)) == set(NAMES[1:])


@pytest.mark.parametrize("damage", [b"", b"PAR1 and no more", None])
def test_a_damaged_memory_knows_nothing(
    damage: bytes | None, tmp_path: Path, images: Path, known: dict[str, str]
) -> None:
    assert known
    (file,) = (tmp_path / "memory").iterdir()
    file.write_bytes(file.read_bytes()[:-40] if damage is None else damage)

    assert remembered(tmp_path, images) == {}


def test_another_folder_has_a_memory_of_its_own(
    tmp_path: Path, images: Path, known: dict[str, str]
) -> None:
    (tmp_path / "other").symlink_to(images)

    assert remembered(tmp_path, tmp_path / "other") == known
    assert HashedFiles(tmp_path / "memory", images / "a").unchanged(["0.png"]) == {}


def test_what_is_remembered_of_other_files_stays(
    tmp_path: Path, images: Path, known: dict[str, str]
) -> None:
    files = HashedFiles(tmp_path / "memory", images)
    files.unchanged(NAMES[:1])

    files.remember({NAMES[0]: known[NAMES[0]]})

    assert remembered(tmp_path, images) == known


def test_measuring_again_reads_only_what_changed(
    tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cv2
    import numpy as np

    for number, name in enumerate(NAMES):
        cv2.imwrite(str(images / name), np.full((9, 9), 20 * number, dtype=np.uint8))
    time.sleep(0.02)
    expected = MeasureCache(tmp_path / "cache").measure_all(images, NAMES, description="x")
    cv2.imwrite(str(images / NAMES[2]), np.full((9, 9), 20, dtype=np.uint8))
    time.sleep(0.02)
    read: list[str] = []

    def noting(folder: Path | str, names: list[str]) -> list[object]:
        read.extend(names)
        return list(content.hash_some(folder, names))

    monkeypatch.setattr(
        measuring,
        "HERE",
        measuring.Lookers(noting, measuring.HERE.measure),  # type: ignore[arg-type]
    )

    results = MeasureCache(tmp_path / "cache").measure_all(images, NAMES, description="x")

    assert read == [NAMES[2]]
    assert results == [expected[0], expected[1], expected[1]]
