"""How a flow is run from a shell: exit codes, and a mistake told in one message."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import click

from fgpipe.errors import FgpipeError, told_of_disks
from flows.environment import check_server

INTERRUPTED = 130


def run_as_command(flow: Callable[[Path], object]) -> NoReturn:
    """Run a flow on the project in the current folder, then exit.

    The exit code is 0 for a flow that completed, whatever its verdict, 2 for a user's
    mistake and 1 for a failure, whose traceback is shown.
    """
    run_guarded(lambda: flow(Path.cwd()))


def run_guarded(action: Callable[[], object]) -> NoReturn:
    """Call ``action`` and exit, with an error of ours told in one message."""
    try:
        with told_of_disks():
            check_server()
            action()
    except FgpipeError as error:
        click.echo(f"fgpipe: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        click.echo("fgpipe: interrupted", err=True)
        sys.exit(INTERRUPTED)
    sys.exit(0)
