"""How fast a training is, for people: what images it takes in, what it waits for, memory."""

import resource
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self, TypeVar

import torch

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochSpeed:
    """How long an epoch took; never in a record."""

    seconds: float
    """Validation included."""
    images_per_second: float
    """Of training alone."""
    wait_fraction: float
    """Share of that time in which steps waited for images."""
    memory_mib: float
    """Most that the process held so far; on a GPU most that its tensors did."""

    @classmethod
    def unknown(cls) -> Self:
        """Of an epoch that another process did."""
        return cls(seconds=0.0, images_per_second=0.0, wait_fraction=0.0, memory_mib=0.0)

    def measures(self) -> dict[str, float]:
        """For a tracker, by name."""
        return {
            "epoch_s": self.seconds,
            "images_per_s": self.images_per_second,
            "wait_fraction": self.wait_fraction,
            "memory_mib": self.memory_mib,
        }

    def __str__(self) -> str:
        return (
            f"{self.images_per_second:.0f} images/s, {self.wait_fraction:.0%} waiting for them, "
            f"{self.memory_mib:,.0f} MiB"
        )


class Stopwatch:
    """Tells the time of an epoch from that of waiting for its batches."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._waited = 0.0
        self._trained = 0.0

    def waiting_for(self, batches: Iterable[T]) -> Iterator[T]:
        """The batches, the wait for each counted."""
        iterator = iter(batches)
        while True:
            asked = time.perf_counter()
            try:
                batch = next(iterator)
            except StopIteration:
                self._trained = time.perf_counter() - self._start
                return
            self._waited += time.perf_counter() - asked
            yield batch

    def speed(self, n_images: int, *, device: str) -> EpochSpeed:
        """Of the epoch, once it is over and validated.

        Args:
            n_images: That were trained on.
            device: Which computed it; a GPU beside a CPU that trains holds nothing of it.
        """
        return EpochSpeed(
            seconds=time.perf_counter() - self._start,
            images_per_second=n_images / self._trained,
            wait_fraction=self._waited / self._trained,
            memory_mib=_peak_memory_mib(device),
        )


def _peak_memory_mib(device: str) -> float:
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
