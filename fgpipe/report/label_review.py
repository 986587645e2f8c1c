"""The page that shows labels in doubt, for a person to decide on."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fgpipe.images.known_images import KnownImage
from fgpipe.report.contact_sheet import SHEET_PX, thumbnails_of
from fgpipe.report.templates import render


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """An image whose label is probably wrong."""

    image: KnownImage
    """It, with the label given."""
    suggested_label: str
    """The likeliest other label."""
    given_probability: float
    """Of the label given, by a model that saw no image of its group."""
    suggested_probability: float
    """Of the label suggested."""
    like_given: tuple[KnownImage, ...]
    """The images most like it that carry the label given, of other groups."""
    like_suggested: tuple[KnownImage, ...]
    """The images most like it that carry the label suggested, of other groups."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelReview:
    """What there is to look at."""

    n_images: int
    """Images judged."""
    n_suspects: int
    """Images whose label is probably wrong."""
    suspects: tuple[Suspect, ...]
    """The most suspicious of them, the worst first."""
    confused: tuple[tuple[str, str, int], ...]
    """Given and suggested label of all suspects with their number, the most frequent first."""
    unjudged: tuple[str, ...]
    """Labels with too few groups: the model must know a label without an image's own group."""


def render_label_review(review: LabelReview, *, raw: Path, way_out: str) -> str:
    """One self-contained page: each suspect beside images of either label.

    Args:
        review: What there is to look at.
        raw: Where the images are.
        way_out: The command that applies what was decided.

    Raises:
        DataError: If an image does not decode.
    """
    pictures = thumbnails_of(_shown(review), raw=raw, side_px=SHEET_PX)
    return render("label_review.html.j2", review=review, pictures=pictures, way_out=way_out)


def _shown(review: LabelReview) -> Iterable[str]:
    for suspect in review.suspects:
        for image in (suspect.image, *suspect.like_given, *suspect.like_suggested):
            yield image.path
