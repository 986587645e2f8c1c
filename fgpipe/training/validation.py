"""What a network makes of images, and how good an epoch was on validation."""

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor, nn
from torch.func import functional_call

from fgpipe.images.batches import plain_batches
from fgpipe.metrics.accuracy import coarse_accuracy, macro_recall, top1
from fgpipe.metrics.calibration import fit_temperature, log_loss, softmax
from fgpipe.records import EpochFigures
from fgpipe.training.memory import in_parts
from fgpipe.training.precision import half_precision
from fgpipe.training.recipe import Examples

Logits = Float64[np.ndarray, "images classes"]

IMAGES_AT_ONCE = 64
"""That pass the network together, where memory does."""


def infer(
    network: nn.Module,
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    *,
    precision: str,
    weights: Mapping[str, Tensor] | None = None,
) -> Logits:
    """Logits of every batch's images, the network set to evaluation.

    Args:
        network: Gives outputs whose first are logits.
        batches: uint8 images, and their rows.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        weights: Of the network; None for its own.

    Raises:
        PipelineError: If memory does not do for one image.
    """
    network.eval()
    device = next(network.parameters()).device
    state = dict(weights or {})

    def logits(images: Tensor) -> Tensor:
        of_images: Tensor = functional_call(network, state, (images.to(device),))[0]
        return of_images

    with torch.inference_mode(), half_precision(device, precision):
        outputs = list(in_parts(logits, ((torch.from_numpy(images),) for images, _ in batches)))
    return torch.cat(outputs).double().cpu().numpy()


def validation_logits(
    network: nn.Module,
    examples: Examples,
    *,
    precision: str,
    weights: Mapping[str, Tensor] | None = None,
) -> Logits:
    """Logits of the validation images; arguments as for :func:`infer`."""
    batches = plain_batches(examples.pixels, rows=examples.validation, batch_size=IMAGES_AT_ONCE)
    return infer(network, batches, precision=precision, weights=weights)


def served(logits: Logits, examples: Examples) -> Logits:
    """Validation's probabilities at the temperature that suits them best, as they would be served.

    An epoch is not worse for being surer than it may be.
    """
    targets = examples.targets[examples.validation]
    return softmax(logits, temperature=fit_temperature(logits, targets))


def served_loss(logits: Logits, examples: Examples) -> float:
    """Validation's cross-entropy as it would be served."""
    return log_loss(served(logits, examples), examples.targets[examples.validation])


def epoch_figures(
    logits: Logits,
    examples: Examples,
    *,
    epoch: int,
    learning_rate: float,
    train_loss: float,
) -> EpochFigures:
    """One row of the curves."""
    targets = examples.targets[examples.validation]
    probabilities = served(logits, examples)
    predictions = probabilities.argmax(axis=1)
    return EpochFigures(
        epoch=epoch,
        learning_rate=learning_rate,
        train_loss=train_loss,
        validation_loss=log_loss(probabilities, targets),
        validation_top1=top1(predictions, targets),
        validation_macro_recall=macro_recall(predictions, targets),
        validation_coarse_accuracy=None
        if examples.parents is None
        else coarse_accuracy(probabilities, targets, parents=examples.parents),
    )
