"""What a training does to the machine it runs on."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fgpipe.errors import ConfigError
from fgpipe.training.hardware import check_compiler, set_determinism

N_BYTES = 2**25

COUNT_FAULTS = f"""
import ctypes, resource
from fgpipe.training.hardware import keep_freed_memory

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p

def page_faults_of_a_block():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = ctypes.c_void_p(libc.malloc(ctypes.c_size_t({N_BYTES})))
    ctypes.memset(block, 1, {N_BYTES})
    libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

page_faults_of_a_block()
print(page_faults_of_a_block())
keep_freed_memory()
page_faults_of_a_block()
print(page_faults_of_a_block())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc can be told")
def test_memory_that_was_freed_is_taken_again_without_asking_the_system() -> None:
    # In a process of its own, whose memory no other test has been at.
    command = [sys.executable, "-c", COUNT_FAULTS]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    before, after = map(int, done.stdout.split())

    assert before > N_BYTES / 4096 / 2
    assert after < N_BYTES / 4096 / 100


@pytest.mark.parametrize("wanted", [True, False])
def test_a_gpu_is_told_whether_it_is_to_give_the_same_bytes(
    monkeypatch: pytest.MonkeyPatch, *, wanted: bool
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", wanted)
    try:
        set_determinism("cuda", wanted=wanted)

        assert torch.are_deterministic_algorithms_enabled() is wanted
        assert torch.backends.cudnn.benchmark is not wanted
    finally:
        torch.use_deterministic_algorithms(mode=False)


def test_without_a_compiler_nothing_is_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)

    with pytest.raises(ConfigError, match=r"train\.compile needs a C\+\+ compiler"):
        check_compiler("cpu")
