"""What a training does to the machine it runs on."""

import resource
import sys

import pytest
import torch

from fgpipe.training.hardware import keep_freed_memory

N_BYTES = 2**26


def page_faults_of_a_block() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.full((N_BYTES,), 1, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc can be told")
def test_memory_that_was_freed_is_taken_again_without_asking_the_system() -> None:
    keep_freed_memory()
    page_faults_of_a_block()

    n_faults = page_faults_of_a_block()

    assert n_faults < N_BYTES / resource.getpagesize() / 100
