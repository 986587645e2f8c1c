"""What training minimises, from logits and targets that may be mixtures of classes."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

Logits = Float[Tensor, "batch classes"]
Targets = Float[Tensor, "batch classes"]

Criterion = Callable[[Logits, Targets], Float[Tensor, ""]]
"""From logits and rows of probabilities to the mean loss of the batch."""


def create_criterion(
    *,
    label_smoothing: float,
    logit_adjustment: float,
    class_counts: Int64[np.ndarray, " classes"],
    parents: Int64[np.ndarray, " classes"] | None,
    parent_weight: float,
) -> Criterion:
    """Cross-entropy of classes and, in part, of their parents, computed in float32.

    Args:
        label_smoothing: Share of each image's targets that is spread over all classes.
        logit_adjustment: Weight of the logarithms of the classes' shares, which are added to
            the logits here and so in training alone: what is left for the logits to say is
            how an image speaks for a class beyond that class being common.
        class_counts: Training images of each class. One of none, which only data that did not
            meet their expectations have, counts as one of one.
        parents: The parent of each class, counted from 0 without gaps; None if the data name
            none, and there is no loss over them.
        parent_weight: Share of the loss over parents. The probability of a parent is the sum
            of those of its classes, and so is its target.

    Source: Szegedy et al., "Rethinking the Inception Architecture" (smoothing), which for a
    row of targets that sums to less than 1, as SnapMix's may, spreads as much less; Menon et
    al., "Long-tail Learning via Logit Adjustment"; Redmon and Farhadi, "YOLO9000", and
    Bertinetto et al., "Making Better Mistakes" (parents as sums over their classes).
    """
    assert parents is None or len(parents) == len(class_counts)
    counts = np.maximum(class_counts, 1)
    priors = torch.from_numpy(np.log(counts / counts.sum())).float()
    of_class = None if parents is None or parent_weight == 0 else torch.from_numpy(parents)

    def criterion(logits: Logits, targets: Targets) -> Float[Tensor, ""]:
        adjusted = logits.float() + logit_adjustment * priors.to(logits.device)
        log_probabilities = torch.log_softmax(adjusted, dim=1)
        smoothed = smooth(targets.float(), label_smoothing=label_smoothing)
        loss = cross_entropy(log_probabilities, smoothed)
        if of_class is None:
            return loss
        parent_loss = cross_entropy(
            log_sums(log_probabilities, of_class.to(logits.device)),
            sums(smoothed, of_class.to(logits.device)),
        )
        return (1 - parent_weight) * loss + parent_weight * parent_loss

    return criterion


def cross_entropy(
    log_probabilities: Float[Tensor, "batch classes"], targets: Targets
) -> Float[Tensor, ""]:
    """Mean over the images of what the targets lose."""
    return -(targets * log_probabilities).sum(dim=1).mean()


def smooth(targets: Targets, *, label_smoothing: float) -> Targets:
    """Targets of which a share is spread over all classes; what a row sums to is kept."""
    spread = targets.sum(dim=1, keepdim=True) / targets.shape[1]
    return targets.lerp(spread, label_smoothing)


def sums(
    values: Float[Tensor, "batch classes"], parents: Int64[Tensor, " classes"]
) -> Float[Tensor, "batch parents"]:
    """Sum over the classes of each parent.

    No product of matrices: autocast would round it to half precision.
    """
    n_parents = int(parents.max()) + 1
    return values.new_zeros(len(values), n_parents).index_add(1, parents, values)


def log_sums(
    logarithms: Float[Tensor, "batch classes"], parents: Int64[Tensor, " classes"]
) -> Float[Tensor, "batch parents"]:
    """Logarithm of the sum of exponentials over the classes of each parent.

    Relative to each parent's largest: of a parent that is improbable altogether all
    exponentials would be 0.
    """
    n_parents = int(parents.max()) + 1
    largest = torch.full(
        (len(logarithms), n_parents), -torch.inf, device=logarithms.device
    ).scatter_reduce(1, parents.expand_as(logarithms), logarithms.detach(), "amax")
    return sums((logarithms - largest[:, parents]).exp(), parents).log() + largest
