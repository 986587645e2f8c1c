import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fgpipe.metrics.calibration import softmax
from fgpipe.metrics.scoring import LabelledImages, Scorer
from fgpipe.records import ColorReliance
from fgpipe.serving.color_reliance import color_reliance
from fgpipe.serving.predictor import Outputs

LABELS = ("bright", "green", "red")


class ByColour:
    """Answers as a person would: red and green by their channel, bright by the light."""

    class labels:  # noqa: N801 - what a predictor calls it
        names = LABELS

    def prepare(
        self, content: bytes, *, name: str, box: object, change: Callable | None
    ) -> np.ndarray:
        image = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
        return change(image) if change else image

    def logits(self, batch: np.ndarray) -> np.ndarray:
        mean = batch.mean(axis=(1, 2)).astype(np.float32)
        light = mean.min(axis=1)
        return np.stack([light - 150, mean[:, 1] - light, mean[:, 0] - light], axis=1)

    def outputs(self, batch: np.ndarray) -> Outputs:
        logits = self.logits(batch)
        return Outputs(logits, logits)

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        return softmax(logits)


@pytest.fixture
def found(tmp_path: Path) -> ColorReliance:
    colours = {"bright": (220, 220, 220), "green": (60, 160, 60), "red": (180, 60, 60)}
    names = [f"{label}{n}.png" for label in LABELS for n in range(4)]
    for name in names:
        Image.new("RGB", (8, 8), colours[name[:-5]]).save(tmp_path / name)
    predictor = ByColour()
    as_they_are = np.stack([np.asarray(Image.open(tmp_path / name)) for name in names])
    return color_reliance(
        predictor,
        names,
        folder=tmp_path,
        boxes=[None] * 12,
        images=LabelledImages(
            targets=np.repeat(np.arange(3), 4), groups=np.arange(12), attributes={}
        ),
        probabilities=predictor.probabilities(predictor.logits(as_they_are)),
        scorer=Scorer(
            labels=LABELS, parents=None, n_bins=5, n_bootstrap=100, confidence_level=0.9, seed=0
        ),
    )


def test_classes_told_by_colour_fall_and_one_told_by_light_does_not(found: ColorReliance) -> None:
    recalls = {each.label: each for each in found.per_class}

    assert [recalls[label].recall for label in LABELS] == [1.0, 1.0, 1.0]
    assert recalls["bright"].recall_grey == recalls["bright"].recall_turned == 1.0
    assert recalls["red"].recall_grey == recalls["red"].recall_turned == 0.0


def test_the_difference_is_that_of_the_shares_that_are_right(found: ColorReliance) -> None:
    for score, name in ((found.grey, "recall_grey"), (found.turned, "recall_turned")):
        change = np.mean([getattr(each, name) - each.recall for each in found.per_class])
        assert score.value == pytest.approx(change)
        assert score.low <= score.value <= score.high < 0
