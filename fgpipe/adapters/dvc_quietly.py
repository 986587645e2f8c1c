"""Run DVC with what DVC itself says in a file: ``python -m fgpipe.adapters.dvc_quietly LOG ...``.

DVC starts a stage with its own standard streams. Only Python's streams are turned aside
here, not the descriptors below them, so a stage's progress bars and messages reach the
terminal while DVC's go to the file. ``--quiet`` would lose DVC's errors. Where DVC itself
moves data, which can take hours, its progress bars go to the terminal, if there is one.
"""

import re
import runpy
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TextIO

MOVING = ("add", "pull", "push")
"""Commands whose progress bars are shown."""

BAR = re.compile(r"\r|\n*(?:\x1b\[A)+$")
"""How what tqdm writes begins: it redraws a line, or moves up to one."""


class Bars:
    """A stream that sends progress bars to a terminal and all else to a file."""

    def __init__(self, file: TextIO, terminal: TextIO) -> None:
        self._file = file
        self._terminal = terminal

    def write(self, text: str) -> int:
        """Write to the one or the other; a bare line break, which bars use as well, to both."""
        if BAR.match(text) or text.strip("\n") == "":
            self._terminal.write(text)
        if not BAR.match(text):
            self._file.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush both."""
        self._file.flush()
        self._terminal.flush()

    def isatty(self) -> bool:
        """Whether bars are to be drawn."""
        return self._terminal.isatty()

    def fileno(self) -> int:
        """The terminal's, of which the width is asked."""
        return self._terminal.fileno()


def main() -> None:
    """Run DVC with the arguments after the file's name."""
    _, log, *arguments = sys.argv
    with Path(log).open("w") as file:
        shows = arguments[:1] and arguments[0] in MOVING and sys.stderr.isatty()
        errors: object = Bars(file, sys.stderr) if shows else file
        with redirect_stdout(file), redirect_stderr(errors):  # type: ignore[type-var]
            sys.argv = ["dvc", *arguments]
            runpy.run_module("dvc", run_name="__main__")


if __name__ == "__main__":
    main()
