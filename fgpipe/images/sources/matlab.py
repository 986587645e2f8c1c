"""Variables of Matlab files, read where a damaged file can do no harm."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fgpipe.errors import DataError

MAX_SECONDS = 120
"""Longest that reading may take; the largest file known takes 2 seconds."""

_READER = Path(__file__).with_name("matlab_reader.py")


def matlab_of(wanted: Mapping[Path, Sequence[str]]) -> list[dict[str, list[Any]]]:
    """Variables of Matlab files: arrays and structures as lists and mappings.

    Args:
        wanted: The variables of each file.

    Returns:
        For each file its variables, each a list, however few values it has.

    Raises:
        DataError: If a file is missing, no Matlab file, or lacks a variable.
    """
    for path in wanted:
        if not path.is_file():
            raise DataError(f"{path} is missing; the set is not whole, unpack it again")
    answers = _answers(wanted)
    found = []
    for path, names in wanted.items():
        answer: dict[str, Any] = next(answers, {"error": "its reader was stopped by it"})
        if "error" in answer:
            raise DataError(f"{path} is no Matlab file ({answer['error']})")
        for name in names:
            if name not in answer["values"]:
                there = ", ".join(answer["there"]) or "none"
                raise DataError(f"{path} has no variable {name!r}; it has {there}")
        values = answer["values"]
        found.append({name: _listed(values[name]) for name in names})
    return found


def _answers(wanted: Mapping[Path, Sequence[str]]) -> Iterator[dict[str, Any]]:
    question = json.dumps([[str(path.absolute()), list(names)] for path, names in wanted.items()])
    try:
        process = subprocess.run(
            [sys.executable, "-I", str(_READER)],
            input=question,
            capture_output=True,
            text=True,
            timeout=MAX_SECONDS,
            check=False,
        )
        lines = [line for line in process.stdout.splitlines(keepends=True) if line[-1] == "\n"]
    except subprocess.TimeoutExpired:
        lines = []
    return map(json.loads, lines)


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else [value]
