"""The command line: every door that is not a flow.

Nothing heavy is imported before a command needs it: ``fgpipe --help`` answers at once.
No option here changes a number; those are in ``params.yaml``.
"""

import subprocess
import sys
from pathlib import Path

import click

from fgpipe import __version__
from fgpipe.commands.backbones import backbones
from fgpipe.commands.benchmarking import benchmark
from fgpipe.commands.bringing import fetch, import_, sources
from fgpipe.commands.changing import add, relabel, remove
from fgpipe.commands.changing import status as data_status
from fgpipe.commands.checking import docs, profile
from fgpipe.commands.looking import label_errors, show
from fgpipe.commands.planning import find_lr, plan
from fgpipe.commands.project import project_root, real_ports
from fgpipe.commands.remotes import pull, push, remote
from fgpipe.commands.tuning import tune
from fgpipe.errors import FgpipeError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """From a folder of labelled images to a served fine-grained classifier.

    `fgpipe run` does it all; `dvc repro` does all but promote, at a desk.
    """


def hand_over(error: FgpipeError) -> bool:
    """Leave an error to the DVC runner that started this stage, if one did."""
    from fgpipe.adapters.dvc_runner import hand_over as leave

    return leave(error)


def _stage_command(name: str, help_text: str) -> click.Command:
    def run() -> None:
        from fgpipe.pipeline import run_stage

        root = project_root()
        run_stage(name, root=root, ports=real_ports(root))

    return click.Command(name, callback=run, help=help_text, short_help=help_text)


STAGE_HELP = {
    "manifest": "01 Write one row an image, with its split.",
    "validate": "02 Hold the manifest against expectations.",
    "preprocess": "03 Decode and resize every image once.",
    "pretrain": "04 Let the backbone learn without labels, if params.yaml says so.",
    "train": "05 Train backbone and head.",
    "evaluate": "06 Measure the exported graph on the test split.",
    "gate": "07 Decide whether the model may be promoted.",
    "package": "08 Make the bundle that serves.",
}
for _name, _help in STAGE_HELP.items():
    cli.add_command(_stage_command(_name, _help))


cli.add_command(tune)


@cli.group()
def data() -> None:
    """Bring images and labels in."""


for _command in (
    add,
    data_status,
    pull,
    push,
    relabel,
    remote,
    remove,
    fetch,
    import_,
    label_errors,
    show,
    profile,
    docs,
    sources,
):
    data.add_command(_command)


cli.add_command(benchmark)
cli.add_command(find_lr)
cli.add_command(plan)
cli.add_command(backbones)


@cli.command()
def run() -> None:
    """Bring every stage up to date and promote what passes the gate."""
    _flow("flows.retrain")


@cli.command()
@click.option(
    "--despite-hold",
    metavar="WHY",
    help="Promote a model that the gate could not compare with the champion; WHY is kept.",
)
def promote(despite_hold: str | None) -> None:
    """Make the packaged model champion, if the gate passed it."""
    _flow("flows.promote", *([] if despite_hold is None else ["--despite-hold", despite_hold]))


@cli.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def schedule(arguments: tuple[str, ...]) -> None:
    """Serve the retraining flow, e.g. with --cron "0 3 * * *"."""
    _flow("flows.serve", *arguments)


def _flow(module: str, *arguments: str) -> None:
    root = project_root()
    code = subprocess.run([sys.executable, "-m", module, *arguments], cwd=root, check=False)
    if code.returncode:
        raise click.exceptions.Exit(code.returncode)


@cli.command()
@click.option("--port", default=3000, show_default=True, type=click.IntRange(1, 65535))
@click.option("--host", default="127.0.0.1", show_default=True)
def serve(port: int, host: str) -> None:
    """Serve the promoted model over HTTP."""
    from fgpipe.adapters.bento_builder import BentoBuilder
    from fgpipe.adapters.mlflow_registry import MlflowRegistry
    from fgpipe.operations.serve import champion_service

    root = project_root()
    builder = BentoBuilder(root)
    tag = champion_service(root=root, registry=MlflowRegistry(root), builder=builder)

    def ready(url: str) -> None:
        click.echo(f"{tag} answers; stop it with Ctrl+C, try it with")
        click.echo(f"  curl -F image=@IMAGE.png {url}/v1/predict")

    builder.serve(tag, port=port, host=host, ready=ready)


@cli.command()
@click.option("--port", default=5000, show_default=True, type=click.IntRange(1, 65535))
def ui(port: int) -> None:
    """Open MLflow's pages on the project's runs and models."""
    from fgpipe.adapters.mlflow_ui import serve_pages

    serve_pages(project_root(), port=port)


@cli.command()
def status() -> None:
    """Say what was trained on what, how well it does, and what serves."""
    from fgpipe.operations.status import describe

    click.echo(describe(project_root()))


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
def init(folder: Path) -> None:
    """Start a project for your own images in FOLDER, without the demo's history."""
    from fgpipe.adapters.dvc_runner import initialise
    from fgpipe.operations.new_project import create_project

    create_project(folder, template=project_root(), initialise_dvc=initialise)
    click.echo(f"{folder} is a project; next:")
    click.echo(f"  cd {folder} && make env && .venv/bin/fgpipe data import YOUR_FOLDER && make run")
