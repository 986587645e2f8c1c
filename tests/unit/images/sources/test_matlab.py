"""Matlab files, and what becomes of those that stop their reader."""

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from fgpipe.errors import DataError
from fgpipe.images.sources import matlab
from fgpipe.images.sources.matlab import matlab_of
from fgpipe.images.sources.matlab_reader import plain, read


def test_values_come_as_lists_file_by_file(tmp_path: Path) -> None:
    savemat(tmp_path / "one.mat", {"a": np.array([[3, 1]], np.uint8), "b": 7, "more": 1})
    rows = np.array([[(1, "x.jpg")]], dtype=[("class", object), ("fname", object)])
    savemat(tmp_path / "other.mat", {"rows": rows, "names": np.array(["p", "q"], object)})

    found = matlab_of({tmp_path / "one.mat": "ab", tmp_path / "other.mat": ["rows", "names"]})

    assert found == [
        {"a": [3, 1], "b": [7]},
        {"rows": [{"class": 1, "fname": "x.jpg"}], "names": ["p", "q"]},
    ]


def test_a_variable_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    savemat(tmp_path / "one.mat", {"a": 1, "b": 2})

    with pytest.raises(DataError, match=r"one.mat has no variable 'c'; it has a, b"):
        matlab_of({tmp_path / "one.mat": ["c"]})


def test_structures_in_arrays_in_structures_are_plain(tmp_path: Path) -> None:
    inner = np.array([(1.5,), (2.5,)], dtype=[("x", float)])
    savemat(tmp_path / "deep.mat", {"outer": {"inner": inner, "text": "t"}})

    answer = read(str(tmp_path / "deep.mat"), ["outer", "gone"])

    assert answer["there"] == ["outer"]
    assert answer["values"] == {"outer": {"inner": [{"x": 1.5}, {"x": 2.5}], "text": "t"}}


def test_numbers_become_pythons() -> None:
    assert plain(np.uint16(7)) == 7
    assert plain(np.array(7.0)) == 7
    assert plain(np.array([])) == []


@pytest.mark.parametrize(
    "program",
    ["import os; os.abort()", "import sys; sys.stdout.write('{')", "import time; time.sleep(60)"],
)
def test_a_file_that_stops_its_reader_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    (tmp_path / "reader.py").write_text(program)
    (tmp_path / "bad.mat").write_bytes(b"MATLAB 5.0")
    monkeypatch.setattr(matlab, "_READER", tmp_path / "reader.py")
    monkeypatch.setattr(matlab, "MAX_SECONDS", 0.2)

    with pytest.raises(DataError, match=r"bad.mat is no Matlab file \(its reader was stopped"):
        matlab_of({tmp_path / "bad.mat": ["a"]})
