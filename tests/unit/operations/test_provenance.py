import subprocess
from pathlib import Path

import pytest

from fgpipe.errors import DataError
from fgpipe.operations.provenance import provenance

LOCK = """
schema: '2.0'
stages:
  train:
    cmd: python -m fgpipe train
    outs:
    - path: data/05_train/payload
      hash: md5
      md5: 0123.dir
    - path: data/05_train/record.json
      hash: md5
      md5: '4567'
"""


def test_it_names_data_training_output_and_commit(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "raw.dvc").write_text("outs:\n- md5: abcd.dir\n  path: raw\n")
    (tmp_path / "dvc.lock").write_text(LOCK)
    for arguments in (
        ["init", "--quiet"],
        ["add", "dvc.lock"],
        ["-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "--quiet", "-m", "first"],
    ):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True)
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=tmp_path, check=True, capture_output=True, text=True
    ).stdout.strip()

    known = provenance(tmp_path)

    assert known == {"data_hash": "abcd.dir", "train_hash": "0123.dir", "git_commit": head}


def test_what_is_not_there_is_left_out(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)

    assert provenance(tmp_path) == {}


def test_a_lock_file_with_conflict_marks_is_named(tmp_path: Path) -> None:
    (tmp_path / "dvc.lock").write_text("<<<<<<< mine\nstages: {\n")

    with pytest.raises(DataError, match=r"dvc\.lock is not valid YAML"):
        provenance(tmp_path)
