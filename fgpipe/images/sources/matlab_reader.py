"""Reads variables of Matlab files as JSON, run by its path as a process of its own.

scipy's reader is C that a damaged file makes crash, and a crash takes its process with it;
:mod:`fgpipe.images.sources.matlab` runs this and outlives it. Nothing of fgpipe is imported.
"""

import contextlib
import json
import os
import resource
import sys
from typing import Any

MAX_MEMORY_BYTES = 4 << 30
"""Most address space, as a Matlab file is packed and may be a bomb; those known need 1 GiB."""


def read(path: str, names: list[str]) -> dict[str, Any]:
    """The variables of one file, and the names of those it has.

    Raises:
        Exception: Whatever scipy raises for a file that is broken.
    """
    from scipy.io import loadmat

    with open(path, "rb") as file:  # noqa: PTH123 - given a name, scipy tries others
        content = loadmat(file, squeeze_me=True)
    there = [name for name in content if not name.startswith("__")]
    return {
        "there": there,
        "values": {name: plain(content[name]) for name in names if name in there},
    }


def plain(value: Any) -> Any:  # noqa: ANN401 - whatever Matlab can say
    """An array as a list, a structure as a mapping."""
    fields = getattr(getattr(value, "dtype", None), "names", None)
    has_shape = bool(getattr(value, "shape", None))
    if fields and not has_shape:
        return {name: plain(value[name]) for name in fields}
    if has_shape:
        return [plain(each) for each in value.reshape(-1)]
    return plain(value.item()) if hasattr(value, "item") else value


def main() -> None:
    """Answer ``[[path, [name, ...]], ...]`` from standard input, file by file."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # each would reserve address space
    with contextlib.suppress(ValueError, OSError):  # not every system has such a limit
        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    for path, names in json.load(sys.stdin):
        try:
            answer = read(path, names)
        except Exception as error:  # noqa: BLE001 - scipy raises whatever a broken file leads to
            answer = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
