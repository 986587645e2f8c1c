"""Every exception fgpipe raises on purpose, drawn as a tree.

::

    FgpipeError
    |-- InputError            somebody's mistake: one clear message, exit code 2
    |   |-- ConfigError       params.yaml or a setting is wrong
    |   |-- DataError         images, labels or groups are wrong
    |   |-- NotReadyError     something must be made first; the message names the command
    |   `-- UnavailableError  a network, port, tool or package is not there
    `-- PipelineError         fgpipe itself or a tool below it failed: exit code 1
        |-- ParityError       two ways of computing one thing disagree
        `-- NotFiniteError    a loss, gradient or answer is infinite or no number

A message names the thing, the value it has and the way out. A failed ``assert`` is a
bug in fgpipe and keeps its traceback.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

NOT_WRITTEN = {
    errno.ENOSPC: "the disk is full; make room",
    errno.EDQUOT: "the quota of the disk is used up; make room",
    errno.EROFS: "it is on a disk that may only be read; take another folder",
}
"""Errors of any file, with the way out."""


class FgpipeError(Exception):
    """Anything that fgpipe raises on purpose."""

    exit_code = 1


class InputError(FgpipeError):
    """A mistake that whoever runs fgpipe can mend."""

    exit_code = 2


class ConfigError(InputError):
    """A value in ``params.yaml`` or in the environment is missing or wrong."""


class DataError(InputError):
    """Images, labels or groups cannot be used as they are."""


class NotReadyError(InputError):
    """Something that must exist first does not; the message names what makes it."""


class UnavailableError(InputError):
    """A network, port, tool or package that is needed is not there."""


class PipelineError(FgpipeError):
    """A tool below fgpipe failed, or fgpipe did."""


class ParityError(PipelineError):
    """Two ways of computing the same thing disagree by more than is allowed."""


class NotFiniteError(PipelineError):
    """A loss, a gradient or what a network answers is infinite or no number."""


@contextmanager
def told_of_disks() -> Iterator[None]:
    """Tell of a disk that is full or may only be read as of any other mistake.

    Raises:
        UnavailableError: Where a file could not be written for that.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in NOT_WRITTEN:
            raise
        where = f"{error.filename} cannot be written: " if error.filename else ""
        raise UnavailableError(
            f"{where}{NOT_WRITTEN[error.errno]}, and run the same command again"
        ) from None
