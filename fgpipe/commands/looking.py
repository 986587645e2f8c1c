"""``fgpipe data show | label-errors``: a person looks at the data."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fgpipe.commands.project import project_root, writable

if TYPE_CHECKING:
    from fgpipe.report.augmented_page import AugmentedLook

REPORTS = Path("reports")
"""Where pages go; git passes it over."""


@click.command("show")
@click.option("--per-class", default=60, show_default=True, type=click.IntRange(1, 1000))
@click.option(
    "--to",
    "folder",
    default=REPORTS,
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
)
@click.option(
    "--augmented", is_flag=True, help="Also what params.yaml makes of some images in training."
)
def show(per_class: int, folder: Path, *, augmented: bool) -> None:
    """Write pages to look at: a sheet a class, the closest pairs."""
    from fgpipe import settings
    from fgpipe.images.measure_cache import MeasureCache
    from fgpipe.intake.showing import show_data
    from fgpipe.nn.embedder import create_embedder
    from fgpipe.pipeline import RAW

    root = project_root()
    measures = settings.state(root) / "measures"
    page = show_data(
        root / RAW,
        out=writable(folder),
        n_per_class=per_class,
        embedder=create_embedder(measures),
        cache=MeasureCache(measures),
        augmented=_augmented(root) if augmented else None,
    )
    click.echo(f"open {page} in a browser")


def _augmented(root: Path) -> "AugmentedLook":
    from fgpipe.config import load_params
    from fgpipe.intake.augmenting import look_at_augmented
    from fgpipe.pipeline import RAW

    params = load_params(root / "params.yaml")
    return look_at_augmented(root / RAW, preprocess=params.preprocess, train=params.train)


@click.command("label-errors")
@click.option("--top", default=100, show_default=True, type=click.IntRange(1, 1000))
def label_errors(top: int) -> None:
    """List the labels that are probably wrong, for a person to decide."""
    from fgpipe import settings
    from fgpipe.intake.label_errors import REPORT_NAME, find_and_write
    from fgpipe.nn.embedder import create_embedder
    from fgpipe.pipeline import RAW

    root = project_root()
    review, path = find_and_write(
        root / RAW,
        out=writable(REPORTS / "label-errors"),
        n_top=top,
        embedder=create_embedder(settings.state(root) / "measures"),
    )
    click.echo(
        f"{review.n_suspects:,} of {review.n_images:,} labels are probably wrong or doubtful; "
        f"the {len(review.suspects):,} most suspicious are in {path}"
    )
    click.echo(f"look at {path.with_name(REPORT_NAME)}, fill in its column `label`, then run")
    click.echo(f"  fgpipe data relabel {path}")
