"""OpenVINO on the CPU: what all that runs a network on it shares."""

import sys
from functools import cache
from typing import Any, Literal

# Importing openvino reports to an analytics service and leaves an identity in the home
# folder, whatever DO_NOT_TRACK says; where this package is not to be had it does neither.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

import openvino  # noqa: E402 - after the line above
import openvino.properties.hint as ov_hint  # noqa: E402

# Others have it from here, so that none imports it before the lines above.
__all__ = ["Precision", "capabilities", "cpu_options", "openvino", "ov_hint"]

Precision = Literal["f32", "bf16"]
"""What a network computes in."""


@cache
def capabilities() -> tuple[str, ...]:
    """What OpenVINO says that this CPU computes in."""
    return tuple(openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


def cpu_options(*, precision: Precision, aim: Literal["LATENCY", "THROUGHPUT"]) -> dict[str, Any]:
    """Options to compile a network with.

    Args:
        precision: What it computes in.
        aim: Whether one answer shall come soon, or many in little time.
    """
    return {
        ov_hint.inference_precision(): {
            "f32": openvino.Type.f32,
            "bf16": openvino.Type.bf16,
        }[precision],
        ov_hint.performance_mode(): getattr(ov_hint.PerformanceMode, aim),
        # Pinned threads of two processes would share one core and leave another idle.
        ov_hint.enable_cpu_pinning(): False,
    }
