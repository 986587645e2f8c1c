"""``fgpipe data add | remove | relabel | status``: what becomes of ``data/raw`` over time."""

from pathlib import Path

import click

from fgpipe.commands.project import intake_tools, project_root, version_raw


@click.command("add")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--as", "kind", metavar="KIND", help="What PATH is; see `fgpipe data sources`.")
@click.option("--new-classes", is_flag=True, help="Let classes in that are not there yet.")
def add(path: Path, kind: str | None, *, new_classes: bool) -> None:
    """Add PATH, a folder, table or archive of labelled images, to data/raw."""
    from fgpipe.intake.bringing import add_path
    from fgpipe.pipeline import RAW

    root = project_root()
    cache, embedder = intake_tools(root)
    report = add_path(
        path,
        kind=kind,
        raw=root / RAW,
        cache=cache,
        embedder=embedder,
        new_classes=new_classes,
    )
    click.echo(str(report))
    click.echo(version_raw(root))


@click.command("remove")
@click.argument("names", metavar="IMAGE...", nargs=-1)
@click.option(
    "--from",
    "file",
    type=click.Path(path_type=Path),
    help="A file that lists images, one a line.",
)
def remove(names: tuple[str, ...], file: Path | None) -> None:
    """Forget images: their bytes and labels go, a mark that they were there stays.

    IMAGE is a path relative to data/raw, or the first digits of a sha256 (8 or more).
    """
    from fgpipe.adapters.mlflow_registry import MlflowRegistry
    from fgpipe.intake.forgetting import names_in, remove_images
    from fgpipe.pipeline import RAW, stage_named
    from fgpipe.serving.seen import SEEN_FILE

    if not names and file is None:
        raise click.UsageError("Name images, or a list of them with --from FILE.")
    root = project_root()
    listed = names_in(file) if file is not None else []
    report = remove_images(
        [*names, *listed],
        raw=root / RAW,
        seen_here=root / stage_named("train").folder / "payload" / SEEN_FILE,
        trained_on=MlflowRegistry(root).trained_on,
    )
    click.echo(str(report))
    click.echo(version_raw(root))


@click.command("relabel")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--new-classes", is_flag=True, help="Let labels be those of no image yet.")
def relabel(file: Path, *, new_classes: bool) -> None:
    """Give images the labels that FILE says, such as a reviewed list of suspects.

    FILE is a CSV with the columns path (or sha256) and label; rows without a label are
    passed over.
    """
    from fgpipe.intake.relabelling import relabel as apply
    from fgpipe.pipeline import RAW

    root = project_root()
    click.echo(str(apply(file, raw=root / RAW, new_classes=new_classes)))
    click.echo(version_raw(root))


@click.command("status")
def status() -> None:
    """Say what data/raw holds and what changed since the last training."""
    from fgpipe.adapters.dvc_runner import DvcRunner
    from fgpipe.intake.standing import standing
    from fgpipe.intake.transaction import exclusive
    from fgpipe.pipeline import RAW, stage_named

    root = project_root()
    with exclusive(root / RAW) as finished:
        trained = root / stage_named("train").folder / "payload"
        click.echo(str(standing(root / RAW, trained=trained)))
    if finished:
        click.echo("a change that was cut short has been completed")
        click.echo(version_raw(root))
    elif not DvcRunner(root).is_version(RAW):
        click.echo(
            f"{RAW} is no version yet: `dvc add {RAW}` makes it one, "
            f"`dvc checkout {RAW}` goes back to the last"
        )
