import pytest
import torch

from fgpipe.training.speed import Stopwatch


def test_memory_is_that_of_the_device_that_trains_whatever_else_there_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 3 * 2**20)
    stopwatch = Stopwatch()
    list(stopwatch.waiting_for([1, 2]))

    on_cpu, on_gpu = (stopwatch.speed(2, device=device) for device in ("cpu", "cuda"))

    assert on_cpu.memory_mib > 20  # no process with torch in it has less
    assert on_gpu.memory_mib == 3
