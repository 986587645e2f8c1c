"""What is kept of a cell: its figures and what it cost, a JSON file each."""

from typing import get_args

from fgpipe.errors import ConfigError
from fgpipe.operations.benchmark_plan import Measure
from fgpipe.records import Evaluation, Part, Record, TrainedModel


class Costs(Part):
    """What a cell took, on the machine it ran on."""

    train_s: float | None
    """The train stage from start to end, start of Python and export included; None where it
    was killed in between."""
    memory_mib: float
    """Most that the training's process held, on a GPU most that its tensors did."""
    train_images_per_s: float | None
    """Of the median epoch, without validation; None where the tracker does not know."""
    serve_images_per_s: float
    """Of the exported graph, an image at a time, with all of its views."""
    n_parameters: int
    """Weights of the network."""
    file_mb: float
    """Size of ``model.safetensors``, 10**6 bytes."""


class CellResult(Record):
    """A cell that is done."""

    name: str
    """What it was called when it ran."""
    manifest_sha256: str
    """Its data and splits."""
    train_sha256: str
    """Its training record."""
    measures: dict[Measure, float]
    """Every measure there is; no coarse ones where the data name no parents."""
    costs: Costs
    """What it took."""
    machine: str
    """Device, precision and threads of its training, precision of its graph."""
    seconds: float
    """From start to end: what the estimate of the time left is made of."""


def measures_of(trained: TrainedModel, evaluation: Evaluation) -> dict[Measure, float]:
    """Every measure of a trained and tested network.

    The test's are those of the evaluate stage, validation's of the epoch that was kept
    (of the best of those whose mean was).
    """
    kept = trained.curves[trained.best_epoch - 1]
    scores = evaluation.candidate
    coarse = scores.coarse_accuracy
    found: dict[Measure, float | None] = {
        "test_top1": scores.top1.value,
        "test_macro_recall": scores.macro_recall.value,
        "test_coarse_accuracy": None if coarse is None else coarse.value,
        "validation_top1": kept.validation_top1,
        "validation_macro_recall": kept.validation_macro_recall,
        "validation_coarse_accuracy": kept.validation_coarse_accuracy,
    }
    assert tuple(found) == get_args(Measure)
    return {name: value for name, value in found.items() if value is not None}


def validation_twin(measure: Measure) -> Measure:
    """The same figure on validation: what a method may be chosen by."""
    twins: dict[Measure, Measure] = {
        "test_top1": "validation_top1",
        "test_macro_recall": "validation_macro_recall",
        "test_coarse_accuracy": "validation_coarse_accuracy",
    }
    return twins.get(measure, measure)


def refuse_without_parents(measure: Measure, *, has_parents: bool, data_set: str) -> None:
    """Hold a measure against the data.

    Raises:
        ConfigError: If it is of parents and the data name none.
    """
    if measure.endswith("coarse_accuracy") and not has_parents:
        raise ConfigError(
            f"benchmark.yaml: measure ({measure}): {data_set} names no parent of any label; "
            "take test_top1 or test_macro_recall, or leave that project out"
        )
