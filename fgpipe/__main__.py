"""``python -m fgpipe``: the command line, with a user's mistake told in one message."""

import os
import sys
from pathlib import Path

from fgpipe import settings
from fgpipe.errors import FgpipeError, told_of_disks

INTERRUPTED = 130


def main() -> None:
    """Run the command line; exit 2 for a user's mistake, 1 for a failure."""
    python = settings.other_python(Path.cwd())
    if python is not None:
        os.execv(python, [str(python), "-m", "fgpipe", *sys.argv[1:]])  # noqa: S606 - ours

    import click

    from fgpipe.cli import cli, hand_over

    try:
        with told_of_disks():
            code = cli.main(standalone_mode=False)
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
