"""``fgpipe benchmark``: methods compared over seeds, on a page."""

from pathlib import Path

import click

from fgpipe.commands.project import project_root, writable

REPORTS = Path("reports") / "benchmark"
"""Where page and tables go; git passes it over."""


@click.command("benchmark")
def benchmark() -> None:
    """Compare the methods that benchmark.yaml names, over seeds.

    Trainings that are done are kept and not done again: stop it, go on, add a line to the
    file and run it again.
    """
    from functools import partial

    from fgpipe import settings
    from fgpipe.adapters.mlflow_speeds import training_speed
    from fgpipe.operations.benchmark import run_benchmark
    from fgpipe.operations.benchmark_cell import Tools
    from fgpipe.operations.benchmark_tools import StageProcess, experiment, locked, serving_speed

    root = project_root()
    out = writable(REPORTS)
    folder = settings.state(root) / "benchmark"
    with locked(folder) as lock:
        page = run_benchmark(
            root,
            folder=folder,
            out=out,
            tools=Tools(
                run=StageProcess(settings.home(root), lock=lock),
                training_speed=partial(training_speed, root=root, experiment=experiment()),
                serving_speed=serving_speed,
            ),
            say=click.echo,
        )
    click.echo(f"open {page} in a browser; the same figures are beside it as .csv and .md")
