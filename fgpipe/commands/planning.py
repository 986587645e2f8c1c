"""``fgpipe find-lr | plan``: values for ``params.yaml`` that a rehearsal finds."""

import click

from fgpipe.commands.project import project_root


@click.command("find-lr")
def find_lr() -> None:
    """Find a learning rate and write it into params.yaml."""
    from fgpipe.adapters.dvc_runner import DvcRunner
    from fgpipe.operations.planning import find_rate

    root = project_root()
    found = find_rate(root=root, reproducer=DvcRunner(root))
    every = max(1, len(found.rates) // 15)
    for rate, loss in zip(found.rates[::every], found.losses[::every], strict=True):
        click.echo(f"  {rate:8.1e}  loss {loss:.3f}")
    click.echo(
        f"the loss falls most steeply at {found.suggested:.1e}; train.learning_rate in "
        "params.yaml is that now"
    )


@click.command("plan")
@click.option("--minutes", required=True, type=click.FloatRange(0.1, 100_000))
def plan(minutes: float) -> None:
    """Fit the training's epochs into MINUTES and write them into params.yaml."""
    from fgpipe.adapters.dvc_runner import DvcRunner
    from fgpipe.operations.planning import plan as find_plan

    root = project_root()
    found = find_plan(minutes, root=root, reproducer=DvcRunner(root))
    how = (
        f", all but the last {found.finish_epochs} at {found.low_size_px} px"
        if found.low_size_px
        else ""
    )
    click.echo(
        f"{found.epochs} epochs{how}: about {found.seconds / 60:.1f} minutes on this machine; "
        "params.yaml says so now"
    )
