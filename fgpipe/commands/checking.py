"""``fgpipe data profile | docs``: what the data must be like, and what was found of it."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fgpipe.commands.project import project_root, writable

if TYPE_CHECKING:
    import pandas as pd

DOCS = Path("reports") / "gx"
"""Where Great Expectations' pages go; git passes it over."""


@click.command("profile")
@click.option("--force", is_flag=True, help="Replace the file that is there.")
def profile(*, force: bool) -> None:
    """Write data/expectations.yaml with bounds taken from the data."""
    from fgpipe.intake.profiling import write_expectations
    from fgpipe.pipeline import EXPECTATIONS

    root = project_root()
    table = _table(root)
    n_expectations = write_expectations(root / EXPECTATIONS, table=table, force=force)
    click.echo(f"{EXPECTATIONS} has {n_expectations} expectations of {len(table):,} images;")
    click.echo("look at its bounds, change what you know better, and commit it")


@click.command("docs")
@click.argument("folder", default=DOCS, type=click.Path(path_type=Path))
def docs(folder: Path) -> None:
    """Write Great Expectations' own pages on the data to FOLDER.

    They load scripts, styles and fonts from the internet; data/02_validate/payload/report.html
    does not.
    """
    from fgpipe.adapters.gx_checks import GxChecker
    from fgpipe.errors import InputError
    from fgpipe.images.expectations_file import read_suite
    from fgpipe.images.quarantine_file import read_quarantine
    from fgpipe.pipeline import EXPECTATIONS, RAW, load_record
    from fgpipe.records import Manifest
    from fgpipe.stages.validate import suite_of, tables_of

    root = project_root()
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"{folder} is not empty; choose a folder that does not exist yet")
    manifest = load_record(Manifest, root=root)
    table = _table(root)
    expectations = read_suite(root / EXPECTATIONS)
    tables = tables_of(table, expectations, n_quarantined=len(read_quarantine(root / RAW)))
    suite = suite_of(expectations, manifest=manifest, drift=())
    page = GxChecker().document(tables, suite, writable(folder))
    click.echo(f"open {page} in a browser that is online: it loads files from the internet")


def _table(root: Path) -> "pd.DataFrame":
    """The manifest's.

    Raises:
        NotReadyError: If it is not of the images and labels that ``data/raw`` has.
    """
    from fgpipe.errors import NotReadyError
    from fgpipe.images.labels_file import read_labels
    from fgpipe.images.table import read_table
    from fgpipe.pipeline import RAW, stage_named

    folder = stage_named("manifest").folder
    table = read_table(root / folder / "payload")
    listed = {(image.path, image.label) for image in read_labels(root / RAW)}
    if listed != set(zip(table["path"], table["label"], strict=True)):
        raise NotReadyError(
            f"{folder} is of other images or labels than {RAW} has; `dvc repro manifest` makes it "
            "anew"
        )
    return table
