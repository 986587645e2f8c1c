"""``python -m fgpipe``: the command line, with a user's mistake told in one message."""

import errno
import os
import sys
from pathlib import Path

from fgpipe import settings
from fgpipe.errors import FgpipeError, UnavailableError

INTERRUPTED = 130

NOT_WRITTEN = {
    errno.ENOSPC: "the disk is full; make room",
    errno.EDQUOT: "the quota of the disk is used up; make room",
    errno.EROFS: "it is on a disk that may only be read; take another folder",
}
"""Errors of any file, with the way out."""


def main() -> None:
    """Run the command line; exit 2 for a user's mistake, 1 for a failure."""
    python = settings.other_python(Path.cwd())
    if python is not None:
        os.execv(python, [str(python), "-m", "fgpipe", *sys.argv[1:]])  # noqa: S606 - ours

    import click

    from fgpipe.cli import cli, hand_over

    try:
        try:
            code = cli.main(standalone_mode=False)
        except OSError as error:
            if error.errno not in NOT_WRITTEN:
                raise
            where = f"{error.filename} cannot be written: " if error.filename else ""
            raise UnavailableError(
                f"{where}{NOT_WRITTEN[error.errno]}, and run the same command again"
            ) from None
    except FgpipeError as error:
        if not hand_over(error):
            click.echo(f"fgpipe: {error}", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("fgpipe: interrupted", err=True)
        sys.exit(INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
