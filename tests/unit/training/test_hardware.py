"""What a training does to the machine it runs on."""

import subprocess
import sys

import pytest

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
