"""How much a model goes by colour: what it answers where colours are taken away or turned.

Colour that goes with the class in the data at hand need not do so elsewhere: another
camera, another light. A class that falls when hues are turned is told by its colour.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from fgpipe.images.labels_file import Box
from fgpipe.images.recolouring import with_turned_hues, without_color
from fgpipe.metrics.confusion import confusion_matrix, per_class
from fgpipe.metrics.scoring import LabelledImages, Scorer
from fgpipe.records import ColorOfClass, ColorReliance
from fgpipe.serving.inference import logits_of_files
from fgpipe.serving.predictor import Predictor

CHANGES = {"grey": without_color, "hues turned": with_turned_hues}
"""Made to the images, each by itself; by what the progress bar calls it."""

Probabilities = Float64[np.ndarray, "images classes"]


def color_reliance(
    predictor: Predictor,
    names: Sequence[str],
    *,
    folder: Path,
    boxes: Sequence[Box | None],
    images: LabelledImages,
    probabilities: Probabilities,
    scorer: Scorer,
) -> ColorReliance:
    """Ask a predictor about images in grey and with their hues turned.

    Args:
        predictor: What to ask.
        names: Paths of the images below ``folder``.
        folder: Where they are.
        boxes: Where in each image the object is.
        images: What is known of them.
        probabilities: What the predictor makes of them as they are.
        scorer: Compares.

    Cost: That of two passes over the images.
    """
    grey, turned = (
        predictor.probabilities(
            logits_of_files(
                predictor,
                names,
                folder=folder,
                description=f"evaluate: test, {name}",
                boxes=boxes,
                change=change,
            )
        )
        for name, change in CHANGES.items()
    )
    recalls = [
        per_class(
            confusion_matrix(each.argmax(axis=1), images.targets, n_classes=len(scorer.labels)),
            labels=scorer.labels,
        )
        for each in (probabilities, grey, turned)
    ]
    return ColorReliance(
        grey=scorer.difference(grey, probabilities, images).top1,
        turned=scorer.difference(turned, probabilities, images).top1,
        per_class=tuple(
            ColorOfClass(
                label=as_is.label,
                n_images=as_is.n_images,
                recall=as_is.recall,
                recall_grey=in_grey.recall,
                recall_turned=in_turned.recall,
            )
            for as_is, in_grey, in_turned in zip(*recalls, strict=True)
        ),
    )
