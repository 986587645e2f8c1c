"""What ``auto`` comes to on this machine."""

import os
from collections.abc import Sequence
from importlib.metadata import version
from typing import Literal

import torch

from fgpipe.errors import ConfigError
from fgpipe.records import Resolved

LIBRARIES = (
    "albumentations",
    "numpy",
    "opencv-python-headless",
    "safetensors",
    "timm",
    "torch",
)
"""Those that can change a weight."""


def resolve(
    *,
    device: Literal["auto", "cpu", "cuda"],
    precision: Literal["auto", "fp32", "bf16", "fp16"],
    threads: Literal["auto"] | int,
    section: str = "train",
    further: Sequence[str] = (),
) -> Resolved:
    """Choose device, precision and threads.

    Args:
        device: Where to compute.
        precision: Of the forward and backward pass.
        threads: Of an operation on the CPU.
        section: Of ``params.yaml``, where they stand.
        further: Libraries that can change a weight there, beside :data:`LIBRARIES`.

    Raises:
        ConfigError: If a GPU, or what needs one, is asked for and there is none.
    """
    has_gpu = torch.cuda.is_available()
    if device == "cuda" and not has_gpu:
        raise ConfigError(f"{section}.device is cuda, but torch sees no GPU; use auto or cpu")
    chosen = ("cuda" if has_gpu else "cpu") if device == "auto" else device
    if precision == "fp16" and chosen == "cpu":
        raise ConfigError(f"{section}.precision is fp16, which is for GPUs; use auto, bf16 or fp32")
    if precision == "auto":
        precision = "bf16" if _computes_in_bf16(chosen) else "fp32"
    return Resolved(
        device=chosen,
        precision=precision,
        threads=len(os.sched_getaffinity(0)) if threads == "auto" else threads,
        libraries={name: version(name) for name in (*LIBRARIES, *further)},
    )


def _computes_in_bf16(device: str) -> bool:
    """Whether bf16 is computed and not only stored: elsewhere it is slower than float32."""
    if device == "cuda":
        return torch.cuda.get_device_capability() >= (8, 0)
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
