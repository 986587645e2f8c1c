"""``fgpipe tune``: a search for better values of ``params.yaml``."""

from typing import TYPE_CHECKING

import click

from fgpipe.commands.project import project_root, real_ports

if TYPE_CHECKING:
    from fgpipe.operations.search import Search

BEST = -1
"""``--adopt`` without a number."""

INTERRUPTED = 130


@click.command("tune")
@click.option(
    "--adopt",
    "number",
    metavar="[NUMBER]",
    is_flag=False,
    flag_value=BEST,
    type=click.IntRange(min=BEST),
    help="Write the values of the best trial, or of trial NUMBER, into params.yaml.",
)
def tune(number: int | None) -> None:
    """Search for better values of params.yaml, as tune.yaml says.

    Each trial is a training, judged on the validation split. A search that was broken off
    goes on where it was.
    """
    from fgpipe.adapters.dvc_runner import DvcRunner
    from fgpipe.operations.search import find, prepare

    root = project_root()
    if number is not None:
        _adopt(find(root), number=None if number == BEST else number)
        return
    try:
        _search(prepare(root, reproducer=DvcRunner(root)))
    except KeyboardInterrupt:
        click.echo("fgpipe: interrupted; `fgpipe tune` goes on with the trial it was at", err=True)
        raise click.exceptions.Exit(INTERRUPTED) from None


def _search(search: "Search") -> None:
    from fgpipe.adapters.optuna_search import OptunaSearcher
    from fgpipe.operations.search import alone
    from fgpipe.operations.trial_table import summary
    from fgpipe.operations.tune import run_search

    with alone(search):
        searcher = OptunaSearcher(search)
        results = run_search(
            search, searcher=searcher, ports=real_ports(search.root), say=click.echo
        )
        click.echo(summary(search, results, importances=searcher.importances()))


def _adopt(search: "Search", *, number: int | None) -> None:
    from fgpipe.adapters.optuna_search import OptunaSearcher
    from fgpipe.operations.tune import adopt

    adopted = adopt(search, searcher=OptunaSearcher(search), number=number)
    click.echo(f"params.yaml has trial {adopted.trial.number}'s values:")
    for key, value in adopted.trial.values.items():
        click.echo(f"  {key}: {value} (was {search.base[key]})")
    click.echo("`dvc repro` or `fgpipe run` trains and tests with them")
