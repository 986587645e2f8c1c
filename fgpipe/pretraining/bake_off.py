"""Whether what a pretraining learnt is handed on: not if it is worse than what it began with."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from fgpipe.pretraining.encoder import Encoder
from fgpipe.pretraining.probes import Probe, look, probed
from fgpipe.records import Probed

Weights = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of it."""

    before: Probed
    """The weights begun with."""
    after: Probed | None
    """The weights learnt, if there are any."""
    handed_on: bool
    """Whether training proper starts from the latter."""
    reason: str
    """Why, in a sentence, with both numbers where there are two."""


def bake_off(
    encoder: Encoder, probe: Probe, *, before: Weights, after: Weights, precision: str
) -> Verdict:
    """Look at a backbone with two sets of weights, frozen, and choose.

    Args:
        encoder: Changed in place.
        probe: What it is looked at with.
        before: The backbone's state at the start.
        after: What was learnt; empty if nothing was that is worth a look.
        precision: ``fp32`` or ``bf16``.
    """

    def scores(weights: Weights) -> Probed:
        encoder.backbone.network.load_state_dict(weights)
        return probed(look(encoder, probe, precision=precision), probe)

    first = scores(before)
    if not after:
        reason = "the first epoch gave all images one row; training starts from what there was"
        return Verdict(before=first, after=None, handed_on=False, reason=reason)
    second = scores(after)
    handed_on = second.linear_accuracy >= first.linear_accuracy
    reason = (
        f"a linear classifier on frozen features is right for {second.linear_accuracy:.3f} of "
        f"validation, before it was for {first.linear_accuracy:.3f}; "
        f"{'handed on' if handed_on else 'refused: training starts from what there was'}"
    )
    return Verdict(before=first, after=second, handed_on=handed_on, reason=reason)
