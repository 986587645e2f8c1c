"""Run DVC with what DVC itself says in a file: ``python -m fgpipe.adapters.dvc_quietly LOG ...``.

DVC starts a stage with its own standard streams. Only Python's streams are turned aside
here, not the descriptors below them, so a stage's progress bars and messages reach the
terminal while DVC's go to the file. ``--quiet`` would lose DVC's errors.
"""

import runpy
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path


def main() -> None:
    """Run DVC with the arguments after the file's name."""
    _, log, *arguments = sys.argv
    with Path(log).open("w") as file, redirect_stdout(file), redirect_stderr(file):
        sys.argv = ["dvc", *arguments]
        runpy.run_module("dvc", run_name="__main__")


if __name__ == "__main__":
    main()
