"""``fgpipe data fetch | import``: a source becomes ``data/raw``."""

from pathlib import Path

import click

from fgpipe.commands.project import project_root, version_raw


@click.command("fetch")
@click.argument("name")
def fetch(name: str) -> None:
    """Bring the demo's images NAME (elpv) from their package into data/raw."""
    from fgpipe.intake.importing import fetch as fetch_source
    from fgpipe.pipeline import RAW

    root = project_root()
    click.echo(str(fetch_source(name, raw=root / RAW)))
    click.echo(version_raw(root))


@click.command("import")
@click.argument("folder", type=click.Path(path_type=Path))
def import_(folder: Path) -> None:
    """Bring FOLDER, one folder a class, into data/raw."""
    from fgpipe.intake.importing import import_folder
    from fgpipe.pipeline import RAW

    root = project_root()
    click.echo(str(import_folder(folder, raw=root / RAW)))
    click.echo(version_raw(root))
