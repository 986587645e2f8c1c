"""What ``auto`` comes to on this machine."""

import ctypes
import os
import shutil
import sys
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
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

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Names of glibc's ``malloc.h``."""


def resolve(
    *,
    device: Literal["auto", "cpu", "cuda"],
    precision: Literal["auto", "fp32", "bf16", "fp16"],
    threads: Literal["auto"] | int,
    processes: Literal["auto"] | int = 1,
    section: str = "train",
    further: Sequence[str] = (),
) -> Resolved:
    """Choose device, precision and threads.

    Args:
        device: Where to compute.
        precision: Of the forward and backward pass.
        threads: Of an operation on the CPU.
        processes: That share each batch.
        section: Of ``params.yaml``, where they stand.
        further: Libraries that can change a weight there, beside :data:`LIBRARIES`.

    Raises:
        ConfigError: If a GPU, or what needs one, is asked for and there is none, or more
            processes than there are GPUs.
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
        processes=_resolve_processes(processes, device=chosen),
        libraries={name: version(name) for name in (*LIBRARIES, *further)},
    )


def _resolve_processes(processes: Literal["auto"] | int, *, device: str) -> int:
    n_gpus = torch.cuda.device_count() if device == "cuda" else 0
    if processes == "auto":
        return max(1, n_gpus)
    if n_gpus and processes > n_gpus:
        raise ConfigError(
            f"train.processes ({processes}) must be at most the number of GPUs ({n_gpus})"
        )
    return processes


def _computes_in_bf16(device: str) -> bool:
    """Whether bf16 is computed and not only stored: elsewhere it is slower than float32."""
    if device == "cuda":
        return torch.cuda.get_device_capability() >= (8, 0)
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def set_determinism(device: str, *, wanted: bool) -> None:
    """Have a GPU compute the same bytes again, or as fast as it can. A CPU needs no telling.

    What torch cannot compute so it warns of.
    """
    if device == "cuda":
        torch.backends.cudnn.benchmark = not wanted
        torch.use_deterministic_algorithms(wanted, warn_only=True)


def check_compiler(device: str) -> None:
    """Refuse to compile where there is nothing to do it with.

    Raises:
        ConfigError: If there is no C++ compiler where torch looks for it, or no Triton for a
            GPU.
    """
    compiler = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    if device == "cuda" and not find_spec("triton"):
        missing = "the package triton"
    elif device == "cpu" and not shutil.which(compiler):
        missing = f"a C++ compiler ({compiler}, or another that the variable CXX names)"
    else:
        return
    raise ConfigError(f"train.compile needs {missing}; install it or set compile to false")


def keep_freed_memory() -> None:
    """Have this process keep memory that is freed for the next step, where libc is glibc.

    Otherwise each activation goes back to the system when it is freed, and comes back a
    zeroed page at a time: 370,000 page faults a step, which are 30 % of the computing of an
    EfficientNet-Lite0 and 11 % of a ResNet-18's (32 images of 224 px, torch 2.14).
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)
