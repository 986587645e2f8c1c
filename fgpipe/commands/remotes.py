"""``fgpipe data remote | push | pull``: where versions of the data are shared."""

import click

from fgpipe.commands.project import project_root


@click.command("remote")
@click.argument("url", required=False)
@click.option("--endpoint-url", help="Of an S3 server that is not Amazon's.")
def remote(url: str | None, endpoint_url: str | None) -> None:
    """Share data at URL (a path, ssh://..., s3://...), or show where they are shared.

    Credentials are taken from the environment, never from URL.
    """
    from fgpipe.adapters.dvc_remote import DvcRemote

    shared = DvcRemote(project_root())
    if url is None:
        if endpoint_url is not None:
            raise click.UsageError("--endpoint-url needs a URL.")
        click.echo(shared.describe())
        return
    shared.set(url, endpoint_url=endpoint_url)
    click.echo(f"{shared.describe()}, noted in .dvc/config; `fgpipe data push` shares the data")


@click.command("push")
def push() -> None:
    """Copy data/raw and what stages made to the remote."""
    from fgpipe.adapters.dvc_remote import DvcRemote

    click.echo(DvcRemote(project_root()).push())


@click.command("pull")
def pull() -> None:
    """Bring data/raw and what stages made from the remote."""
    from fgpipe.adapters.dvc_remote import DvcRemote
    from fgpipe.intake.transaction import exclusive
    from fgpipe.pipeline import RAW

    root = project_root()
    with exclusive(root / RAW):
        click.echo(DvcRemote(root).pull())
