"""Half precision."""

import contextlib

import torch

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Precisions that autocast computes in."""


def half_precision(
    device: torch.device, precision: str
) -> contextlib.AbstractContextManager[object]:
    """Autocast on a device to a precision; nothing for ``fp32``."""
    return torch.autocast(
        device.type, HALF.get(precision, torch.bfloat16), enabled=precision in HALF
    )
