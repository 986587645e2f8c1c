"""What training minimises, from logits and targets that may be mixtures of classes."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn

Criterion = Callable[
    [Float[Tensor, "batch classes"], Float[Tensor, "batch classes"]], Float[Tensor, ""]
]
"""From logits and rows of probabilities to the mean loss of the batch."""


def create_criterion(*, label_smoothing: float) -> Criterion:
    """Cross-entropy with label smoothing, computed in float32."""

    def criterion(
        logits: Float[Tensor, "batch classes"], targets: Float[Tensor, "batch classes"]
    ) -> Float[Tensor, ""]:
        return nn.functional.cross_entropy(logits.float(), targets, label_smoothing=label_smoothing)

    return criterion
