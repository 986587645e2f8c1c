"""Requests that arrive together run through the network together.

One thread owns the network. It takes what waits, waits a moment for more, runs the batch
and hands each caller its row. Callers hold a *place* from before their body is read until
they are answered: there are only so many, so memory is bounded and a flood is told to
come back instead of being queued for ever.
"""

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

import numpy as np
from jaxtyping import Float32, UInt8

from fgpipe.errors import UnavailableError

Run = Callable[[UInt8[np.ndarray, "batch size size 3"]], Float32[np.ndarray, "batch classes"]]
Row = Float32[np.ndarray, " classes"]
Pixels = UInt8[np.ndarray, "size size 3"]


class MicroBatcher:
    """Collects images into batches and runs them in one thread.

    Args:
        run: Gives a row for each image of a batch.
        max_batch: Most images a batch; more wait for the next one.
        max_wait_s: How long the first image of a batch waits for others. While a batch
            runs the next one gathers anyhow, so a few milliseconds are enough.
        max_places: Most requests at a time, from the first byte to the answer.
    """

    def __init__(
        self, run: Run, *, max_batch: int = 16, max_wait_s: float = 0.002, max_places: int = 64
    ) -> None:
        self._run = run
        self._max_batch = max_batch
        self._max_wait_s = max_wait_s
        self._places = threading.BoundedSemaphore(max_places)
        self._max_places = max_places
        self._waiting: queue.SimpleQueue[tuple[Pixels, Future[Row]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold one of the places.

        Raises:
            UnavailableError: If all are taken.
        """
        if not self._places.acquire(blocking=False):
            raise UnavailableError(f"all {self._max_places} places are taken; try again shortly")
        try:
            yield
        finally:
            self._places.release()

    async def row(self, pixels: Pixels) -> Row:
        """The network's row for one image, computed with whichever others wait."""
        self._start()
        answer: Future[Row] = Future()
        self._waiting.put((pixels, answer))
        return await asyncio.wrap_future(answer)

    def close(self) -> None:
        """Answer what waits and end the thread; a later call starts another one."""
        with self._starting:
            if self._thread is not None:
                self._waiting.put(None)
                self._thread.join()
                self._thread = None

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="batcher", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        closing = False
        while not closing:
            batch, closing = self._collect()
            callers = [entry for entry in batch if entry[1].set_running_or_notify_cancel()]
            if not callers:
                continue
            try:
                rows = self._run(np.stack([pixels for pixels, _ in callers]))
            except Exception as error:  # noqa: BLE001 - the callers raise it
                for _, answer in callers:
                    answer.set_exception(error)
                continue
            for (_, answer), row in zip(callers, rows, strict=True):
                answer.set_result(row)

    def _collect(self) -> tuple[list[tuple[Pixels, Future[Row]]], bool]:
        """The next batch, and whether it is the last."""
        first = self._waiting.get()
        if first is None:
            return [], True
        batch = [first]
        deadline = time.monotonic() + self._max_wait_s
        while len(batch) < self._max_batch:
            try:
                entry = self._waiting.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            if entry is None:
                return batch, True
            batch.append(entry)
        return batch, False
