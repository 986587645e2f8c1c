import asyncio
import threading
import time

import numpy as np
import pytest

from fgpipe.errors import UnavailableError
from fgpipe.serving.batcher import MicroBatcher


def image(value: int) -> np.ndarray:
    return np.full((2, 2, 3), value, dtype=np.uint8)


def means(batch: np.ndarray) -> np.ndarray:
    return batch.mean(axis=(1, 2)).astype(np.float32)


async def ask(batcher: MicroBatcher, values: range) -> list[float]:
    rows = await asyncio.gather(*(batcher.row(image(value)) for value in values))
    return [float(row[0]) for row in rows]


def test_every_caller_gets_its_own_row() -> None:
    batcher = MicroBatcher(means, max_batch=7)

    answers = asyncio.run(ask(batcher, range(100)))
    batcher.close()

    assert answers == list(range(100))


def test_requests_that_wait_together_run_together_up_to_the_largest_batch() -> None:
    sizes = []
    started, released = threading.Event(), threading.Event()

    def run(batch: np.ndarray) -> np.ndarray:
        sizes.append(len(batch))
        started.set()
        released.wait(10)
        return means(batch)

    async def scenario() -> None:
        batcher = MicroBatcher(run, max_batch=4, max_wait_s=0.0)
        first = asyncio.create_task(batcher.row(image(0)))
        await asyncio.to_thread(started.wait, 10)
        others = [asyncio.create_task(batcher.row(image(value))) for value in range(6)]
        await asyncio.sleep(0)
        released.set()
        await asyncio.gather(first, *others)
        batcher.close()

    asyncio.run(scenario())

    assert sizes == [1, 4, 2]


def test_an_error_reaches_all_callers_of_its_batch_and_the_next_batch_runs() -> None:
    def run(batch: np.ndarray) -> np.ndarray:
        if batch.max() == 13:
            raise ValueError("unlucky")
        return means(batch)

    async def scenario() -> tuple[list[object], list[float]]:
        batcher = MicroBatcher(run, max_wait_s=0.2)
        failed = await asyncio.gather(
            batcher.row(image(13)), batcher.row(image(1)), return_exceptions=True
        )
        fine = await ask(batcher, range(3))
        batcher.close()
        return failed, fine

    failed, fine = asyncio.run(scenario())

    assert [str(error) for error in failed] == ["unlucky", "unlucky"]
    assert fine == [0, 1, 2]


def test_a_caller_that_goes_away_does_not_disturb_the_others() -> None:
    released = threading.Event()

    def run(batch: np.ndarray) -> np.ndarray:
        released.wait(10)
        return means(batch)

    async def scenario() -> float:
        batcher = MicroBatcher(run, max_batch=1)
        busy = asyncio.create_task(batcher.row(image(1)))
        gone = asyncio.create_task(batcher.row(image(2)))
        stays = asyncio.create_task(batcher.row(image(3)))
        await asyncio.sleep(0.01)
        gone.cancel()
        await asyncio.sleep(0.01)
        released.set()
        await busy
        row = await stays
        batcher.close()
        return float(row[0])

    assert asyncio.run(scenario()) == 3


def test_places_are_limited_and_come_back() -> None:
    batcher = MicroBatcher(means, max_places=2)

    with batcher.place(), batcher.place(), pytest.raises(UnavailableError, match="all 2 places"):
        batcher.place().__enter__()
    with batcher.place(), batcher.place():
        pass


def test_closing_answers_what_waits_and_ends_the_thread() -> None:
    def run(batch: np.ndarray) -> np.ndarray:
        time.sleep(0.05)
        return means(batch)

    batcher = MicroBatcher(run)

    async def scenario() -> tuple[list[threading.Thread], float]:
        waiting = asyncio.create_task(batcher.row(image(5)))
        await asyncio.sleep(0)
        await asyncio.to_thread(batcher.close)
        left = [thread for thread in threading.enumerate() if thread.name == "batcher"]
        return left, float((await waiting)[0])

    left, answer = asyncio.run(scenario())

    assert left == []
    assert answer == 5
