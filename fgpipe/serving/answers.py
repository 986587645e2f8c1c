"""What the endpoint answers, as documented models."""

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from fgpipe.serving.bundle import BundleDescription

if TYPE_CHECKING:
    from fgpipe.serving.predictor import Prediction


class Answer(BaseModel):
    """Something the endpoint answers."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class LabelProbability(Answer):
    """A class and how probable it is."""

    label: str
    """The class's name."""
    probability: float
    """Calibrated probability, 0 to 1; those of all classes sum to 1."""


class BundleName(Answer):
    """Which model answered."""

    name: str
    """What the model is called."""
    sha256: str
    """Hash of the bundle, which the registry and ``deploy/champion.json`` know."""


class BundleCard(BundleName):
    """What the served model is."""

    labels: tuple[str, ...]
    """Every class it can answer."""
    parents: dict[str, str]
    """Each class's coarser class; empty if there are none."""
    precision: str
    """Precision it computes in, which is the one it was evaluated in."""
    uses_box: bool
    """Whether it was trained on what boxes hold: then the form's field ``box`` says where
    in an image to look, and without it the whole image is taken. Else it changes nothing."""


class Recognition(LabelProbability):
    """What an image shows."""

    alternatives: tuple[LabelProbability, ...]
    """The next classes, the most probable first."""
    parent: str | None
    """The most probable coarser class, whose probability is its classes' sum; it need not
    be the label's own. None if the classes have no parents."""
    parent_probability: float | None
    """Its calibrated probability."""
    bundle: BundleName
    """Which model answered."""


class Problem(Answer):
    """Why there is no answer."""

    detail: str
    """The reason, for a person."""


def card_of(description: BundleDescription, *, uses_box: bool) -> BundleCard:
    """What the endpoint tells about a bundle.

    Args:
        description: What ``bundle.json`` says.
        uses_box: What the predictor that was loaded from it says.
    """
    return BundleCard(
        name=description.name,
        sha256=description.bundle_sha256,
        labels=description.labels,
        parents=description.parents,
        precision=description.precision,
        uses_box=uses_box,
    )


def recognition(prediction: "Prediction", *, card: BundleCard, n_alternatives: int) -> Recognition:
    """Put a prediction into the endpoint's words.

    Args:
        prediction: What the predictor says about one image.
        card: The model it comes from.
        n_alternatives: Most further classes to name.
    """
    others = prediction.alternatives[1 : n_alternatives + 1]
    return Recognition(
        label=prediction.label,
        probability=prediction.probability,
        alternatives=tuple(
            LabelProbability(label=label, probability=probability) for label, probability in others
        ),
        parent=prediction.parent,
        parent_probability=prediction.parent_probability,
        bundle=BundleName(name=card.name, sha256=card.sha256),
    )
