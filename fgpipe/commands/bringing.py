"""``fgpipe data sources | fetch | import``: a source becomes ``data/raw``."""

from pathlib import Path

import click

from fgpipe.commands.project import intake_tools, project_root, version_raw


@click.command("sources")
def sources() -> None:
    """List the kinds of sources that images can come from."""
    from fgpipe.images.sources.registry import SOURCES

    width = max(map(len, SOURCES))
    for kind in SOURCES.values():
        click.echo(f"{kind.name:<{width}}  {kind.what}{' (fetch)' if kind.fetch else ''}")
        click.echo(f"{'':<{width}}  layout: {kind.layout}")
        if kind.licence:
            click.echo(f"{'':<{width}}  licence: {kind.licence}")
    click.echo("\n`fgpipe data fetch NAME` brings those marked (fetch) by itself;")
    click.echo("`fgpipe data import PATH` brings any, and sees of which kind it is")


@click.command("fetch")
@click.argument("name")
def fetch(name: str) -> None:
    """Bring the images of NAME (elpv, or see `sources`) into data/raw."""
    from fgpipe import settings
    from fgpipe.intake.bringing import import_fetched
    from fgpipe.pipeline import RAW

    root = project_root()
    downloads = settings.state(root) / "downloads"
    cache, embedder = intake_tools(root)
    report = import_fetched(
        name, raw=root / RAW, downloads=downloads, cache=cache, embedder=embedder
    )
    click.echo(str(report))
    click.echo(version_raw(root))


@click.command("import")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--as", "kind", metavar="KIND", help="What PATH is; see `fgpipe data sources`.")
def import_(path: Path, kind: str | None) -> None:
    """Bring PATH, a folder, table or archive of labelled images, into data/raw."""
    from fgpipe.intake.bringing import import_path
    from fgpipe.pipeline import RAW

    root = project_root()
    cache, embedder = intake_tools(root)
    click.echo(str(import_path(path, kind=kind, raw=root / RAW, cache=cache, embedder=embedder)))
    click.echo(version_raw(root))
