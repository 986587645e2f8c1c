"""Half precision, and what memory that runs out looks like."""

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


def is_out_of_memory(error: RuntimeError) -> bool:
    """On a GPU it has a class of its own; the CPU's allocator says it in words."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
