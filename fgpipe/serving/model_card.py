"""The model card: what a model is, is for and was made from, for a person."""

from jinja2 import Environment, PackageLoader, StrictUndefined

from fgpipe.records import SPLITS, Manifest, Protocol, TrainedModel
from fgpipe.serving.bundle import Calibration

PROTOCOLS: dict[Protocol, str] = {
    "stable": "Images of one group are in one split only.",
    "given": "The data came with their splits; images of one group are in one split only.",
    "fold": (
        "Images of one group are in one split only; the test split is one fold of a "
        "cross-validation. The model is for comparison, not for use."
    ),
    "random": (
        "The split ignored groups, as some published figures do: images of one group are on "
        "both sides, and the figures are too good. The model is for comparison, not for use."
    ),
}
"""What a protocol means for who reads the figures."""

FIGURES = {
    "top1": "top-1 accuracy",
    "macro_recall": "macro recall",
    "coarse_accuracy": "accuracy at the parents' level",
    "calibration_error": "expected calibration error",
    "log_loss": "log loss (nats)",
}
"""Headline figures in words."""


def render_model_card(
    *,
    name: str,
    description: str,
    license_: str,
    manifest: Manifest,
    trained: TrainedModel,
    calibration: Calibration,
    uses_box: bool,
) -> str:
    """The card as Markdown.

    Args:
        name: What the model is called.
        description: What it is for.
        license_: Its licence.
        manifest: The data.
        trained: The network.
        calibration: Its figures.
        uses_box: Whether it was trained on what boxes hold.
    """
    environment = Environment(
        loader=PackageLoader("fgpipe.serving", "."),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - Markdown; labels in tables go through `cell`
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = _cell
    return environment.get_template("model_card.md.j2").render(
        name=name,
        description=description,
        license=license_,
        manifest=manifest,
        trained=trained,
        calibration=calibration,
        parents=sorted(set(trained.parents.values())),
        uses_box=uses_box,
        protocol=PROTOCOLS[trained.protocol],
        splits=SPLITS,
        figures=[
            (title, calibration.scores[key])
            for key, title in FIGURES.items()
            if key in calibration.scores
        ],
    )


def _cell(text: str | None) -> str:
    """Text that stays within its cell of a Markdown table."""
    return (text or "").replace("|", "\\|").replace("\n", " ")
