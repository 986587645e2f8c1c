"""What a training should be told, found by rehearsing it: its rate, and how many epochs.

Both write values into ``params.yaml`` and train nothing that is kept.
"""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from fgpipe.config import load_params
from fgpipe.errors import ConfigError
from fgpipe.images.augmentations import augmentation
from fgpipe.images.batches import steps_per_epoch
from fgpipe.images.table import read_table
from fgpipe.nn.backbones import check_low_size
from fgpipe.nn.recogniser import check_cells
from fgpipe.operations.params_file import write_values
from fgpipe.pipeline import BASELINE, load_stored
from fgpipe.ports import Reproducer, Scalar
from fgpipe.records import (
    Baseline,
    Manifest,
    Preprocessed,
    Pretrained,
    RecogniserSpec,
    TestTimeViews,
)
from fgpipe.serving.color_reliance import CHANGES
from fgpipe.serving.views import VIEWS
from fgpipe.stages.train import LEARNT_FROM, Start, prepare
from fgpipe.training.rehearsal import RateRange, measure_pace, range_test

STAGES_BEFORE = ("manifest", "validate", "preprocess", "pretrain")

FEWEST_EPOCHS, MOST_EPOCHS = 6, 40
"""Fewer than these at the full size are too few to learn well, so most are at a low one; more
bring nothing that was seen."""

LOW_SIZE_FRACTION = 0.7
"""Side of the low size: half the pixels, half the time."""

FINISHING_FRACTION = 0.25
"""Share of the epochs that are at the full size then."""

OVERHEAD_S = 30.0
"""Two starts of Python, export, parity and report, on two cores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A schedule that fits the time there is."""

    epochs: int
    low_size_px: int
    finish_epochs: int
    seconds: float
    """What it is expected to take, all of :data:`OVERHEAD_S` included."""

    def values(self) -> dict[str, Scalar]:
        """For ``params.yaml``."""
        return {
            "train.epochs": self.epochs,
            "train.low_size_px": self.low_size_px,
            "train.finish_epochs": self.finish_epochs,
        }


def find_rate(*, root: Path, reproducer: Reproducer) -> RateRange:
    """Run a range test and write the rate that it suggests into ``params.yaml``.

    Raises:
        InputError: If data or parameters are not as needed.
        PipelineError: If the loss falls at no rate.
    """
    start = _started(root, reproducer=reproducer)
    found = range_test(start.network, start.course)
    write_values(root / "params.yaml", {"train.learning_rate": float(f"{found.suggested:.2g}")})
    return found


def plan(minutes: float, *, root: Path, reproducer: Reproducer) -> Plan:
    """Measure how long steps take here and write a schedule into ``params.yaml``.

    Args:
        minutes: That training may take, from start to evaluation.
        root: The project.
        reproducer: Brings the stages before up to date.

    Raises:
        ConfigError: If the time does not do for one epoch.
        InputError: If data or parameters are not as needed.
    """
    start = _started(root, reproducer=reproducer)
    recipe = start.course.recipe
    low_px = _low_size(start.spec, augment=load_params(root / "params.yaml").train.augment)
    course = start.course.with_recipe(low_size_px=low_px, finish_epochs=1, epochs=2)
    pace = measure_pace(start.network, course)
    looks = looks_of_evaluation(
        read_table(load_stored(Manifest, root=root).payload, columns=["split", "channels"]),
        views=load_params(root / "params.yaml").evaluate.views,
        is_compared=Baseline.load(root / BASELINE) is not None,
    )
    examples = course.examples
    n_steps = steps_per_epoch(len(examples.train), batch_size=recipe.batch_size)
    n_mapped = len(examples.train) if recipe.head_epochs else 0
    validation = pace.image * len(examples.validation)
    found = schedule(
        60 * minutes,
        fixed=OVERHEAD_S + pace.image * (n_mapped + looks),
        full=n_steps * pace.step + validation,
        low=n_steps * pace.low_step + validation,
        low_size_px=low_px,
    )
    write_values(root / "params.yaml", found.values())
    return found


def schedule(seconds: float, *, fixed: float, full: float, low: float, low_size_px: int) -> Plan:
    """The longest schedule that fits.

    At the full size throughout where that gives :data:`FEWEST_EPOCHS` epochs, else most of
    them at the low size.

    Args:
        seconds: There are.
        fixed: Of them, those that are not for epochs.
        full: Those of an epoch at the full size.
        low: Those of an epoch at the low size.
        low_size_px: The low size, if it comes to that.

    Raises:
        ConfigError: If there is no time for one epoch.
    """
    at_full = int((seconds - fixed) // full)
    if at_full >= FEWEST_EPOCHS or low >= full:
        epochs = min(at_full, MOST_EPOCHS)
        if epochs < 1:
            raise ConfigError(_too_short(seconds, fixed + full))
        return Plan(epochs=epochs, low_size_px=0, finish_epochs=0, seconds=fixed + epochs * full)
    for epochs in range(MOST_EPOCHS, 1, -1):
        finishing = max(1, round(FINISHING_FRACTION * epochs))
        needed = fixed + finishing * full + (epochs - finishing) * low
        if needed <= seconds:
            return Plan(
                epochs=epochs, low_size_px=low_size_px, finish_epochs=finishing, seconds=needed
            )
    if at_full < 1:
        raise ConfigError(_too_short(seconds, fixed + full))
    return Plan(epochs=1, low_size_px=0, finish_epochs=0, seconds=fixed + full)


def _too_short(seconds: float, needed: float) -> str:
    return (
        f"--minutes {seconds / 60:g} is too little: one epoch takes {needed / 60:.1f} minutes, "
        "start and evaluation included. More time, a higher train.frozen_stages, a lower "
        "preprocess.image_size_px or a smaller train.backbone do"
    )


def _low_size(spec: RecogniserSpec, *, augment: str) -> int:
    """A multiple of 32 near :data:`LOW_SIZE_FRACTION` of the size, and below it.

    0 where there is none that backbone, head and augmentation take: the schedule is at the
    full size then.
    """
    size_px = spec.image_size_px
    low_px = max(32, min(round(LOW_SIZE_FRACTION * size_px / 32) * 32, size_px - 1))
    if low_px >= size_px:
        return 0
    try:
        check_low_size(spec.backbone, image_size_px=size_px, low_size_px=low_px)
        check_cells(spec, low_size_px=low_px)
        augmentation(augment, sizes_px=[low_px])
    except ConfigError:
        return 0
    return low_px


def looks_of_evaluation(images: pd.DataFrame, *, views: TestTimeViews, is_compared: bool) -> int:
    """How many images evaluation shows a network, each as often as it does.

    Args:
        images: The manifest's ``split`` and ``channels``.
        views: Of each image.
        is_compared: Whether a champion sees the test images too; it is counted as if it had
            the same views, and all of them to answer.
    """
    test = images[images["split"] == "test"]
    n_passes = 1 + is_compared + (len(CHANGES) if (test["channels"] >= 3).any() else 0)
    n_calibration = int((images["split"] == "calibration").sum())
    return len(VIEWS[views]) * (n_calibration + n_passes * len(test))


def _started(root: Path, *, reproducer: Reproducer) -> Start:
    for stage in STAGES_BEFORE:
        reproducer.reproduce(stage)
    config = load_params(root / "params.yaml").train
    manifest = load_stored(Manifest, root=root)
    return prepare(
        read_table(manifest.payload, columns=LEARNT_FROM),
        manifest=manifest.record,
        preprocess=load_stored(Preprocessed, root=root),
        pretrain=load_stored(Pretrained, root=root),
        config=config,
    )
