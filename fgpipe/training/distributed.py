"""Several processes that train one network, each with its share of every batch.

The processes are torch's own (DistributedDataParallel over gloo on CPUs, NCCL on GPUs). What
one process would compute of a whole batch they compute of its shares, and the gradients are
summed. At equal batch size the losses are those of one process but for rounding, where each
image is computed for itself and nothing is drawn. They are others:

===============  ========================================================================
batch norm       normalises a share by itself, and keeps the statistics of the leader's
``mix``          an image's partner is of its own share
``dropout``      each process draws for itself
head ``cal``     so does it; and its centres are moved by the leader's share alone
short batches    an epoch's last batch is left out if it has not two images a process
===============  ========================================================================
"""

import os
import signal
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.context import SpawnProcess
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Semaphore
from typing import TypeVar

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from fgpipe.errors import FgpipeError, PipelineError
from fgpipe.images.batches import Rows
from fgpipe.nn.losses import Criterion
from fgpipe.nn.recogniser import Recogniser

T = TypeVar("T")

LOOPBACK = "127.0.0.1"
POLL_S = 0.2

TO_MEET = timedelta(minutes=2)
"""How long the processes, all of which are running, take at most to connect to each other."""

WAIT = timedelta(hours=2)
"""How long a process waits for another, which may be training the head alone meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    """The processes, as one of them sees them."""

    rank: int = 0
    """Its number; 0 leads: it alone writes files and tells of epochs."""
    size: int = 1
    """How many there are."""

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def share(self, rows: Rows) -> Rows:
        """This process's part of some rows."""
        return rows[self.rank :: self.size]

    def total(self, value: float) -> float:
        """The sum of what each process has."""
        if self.size == 1:
            return value
        tensor = torch.tensor(value, dtype=torch.float64, device=_device())
        dist.all_reduce(tensor)
        return float(tensor)

    def told_by_leader(self, value: T) -> T:
        """The leader's value, in every process."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, device=_device())
        return values[0]

    def gathered(self, parts: np.ndarray, n_rows: int) -> np.ndarray:
        """What the processes have of their shares of ``n_rows`` rows, in the rows' order."""
        if self.size == 1:
            return parts
        everything: list[np.ndarray] = [parts] * self.size
        dist.all_gather_object(everything, parts)
        whole = np.empty((n_rows, *parts.shape[1:]), dtype=parts.dtype)
        for rank, part in enumerate(everything):
            whole[rank :: self.size] = part
        return whole

    def level(self, tensors: Iterable[Tensor]) -> None:
        """Give every process the leader's values.

        Batch statistics, for one, are of each process's own part of the batches.
        """
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)


ALONE = Team()
"""One process."""


class Objective(nn.Module):
    """A network's loss as a module of its own, which DistributedDataParallel can wrap."""

    def __init__(self, network: Recogniser, criterion: Criterion) -> None:
        super().__init__()
        self.network = network
        self._criterion = criterion

    def forward(self, images: Tensor, targets: Tensor) -> Float[Tensor, ""]:
        """What training minimises."""
        return self.network.loss(images, targets, criterion=self._criterion)


def shared(objective: Objective, team: Team) -> nn.Module:
    """The objective with gradients averaged over the processes; as it is for one."""
    if team.size == 1:
        return objective
    _freeze_idle(objective.network)
    parallel: nn.Module = DistributedDataParallel(objective, gradient_as_bucket_view=True)
    return parallel


def _freeze_idle(network: Recogniser) -> None:
    """Freeze what of the backbone plays no part in its map, as the class blocks of CaiT.

    Gradients are waited for of all that is not frozen, and of these none would come.
    """
    backbone = network.backbone
    learning = [each for each in backbone.parameters() if each.requires_grad]
    if not learning:
        return
    was_training = network.training
    network.eval()  # statistics stay as they are
    size_px = backbone.image_size_px
    image = torch.zeros(1, size_px, size_px, 3, dtype=torch.uint8, device=learning[0].device)
    found = torch.autograd.grad(network.features(image).sum(), learning, allow_unused=True)
    for parameter, gradient in zip(learning, found, strict=True):
        parameter.requires_grad_(gradient is not None)
    network.train(was_training)


@contextmanager
def leading(
    n_processes: int, follow: Callable[..., None], *arguments: object, device: str
) -> Iterator[Team]:
    """Start the other processes and lead them.

    Args:
        n_processes: In all.
        follow: Called in each of the others with its team and ``arguments``, all of which
            are pickled: a function of a module.
        arguments: Of ``follow``.
        device: ``cpu`` or ``cuda``: where they compute.

    Raises:
        FgpipeError: As ``follow`` does in another process.
        PipelineError: If another process was killed, be it while the processes connect: then
            it takes up to ``TO_MEET`` to be noticed, later it is noticed at once (on CPUs).
    """
    if n_processes == 1:
        yield ALONE
        return
    context = multiprocessing.get_context("spawn")
    told: SimpleQueue[FgpipeError] = context.SimpleQueue()
    there = context.Semaphore(0)
    port = _free_port()
    others = [
        context.Process(
            target=_following,
            args=(rank, n_processes, port, device, told, there, follow, arguments),
            daemon=True,
        )
        for rank in range(1, n_processes)
    ]
    for process in others:
        process.start()
    try:
        _await(others, there)
        yield _join(0, n_processes, port, device=device)
    except BaseException as error:
        # While they are still connected: without the leader each would tell of that.
        for process in others:
            process.terminate()
        for process in others:
            process.join()
        if isinstance(error, RuntimeError) and (cause := _cause(told, others)):
            raise cause from error
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
        for process in others:
            process.join()


def _await(others: list[SpawnProcess], there: Semaphore) -> None:
    """Wait until all are there to be joined, which an ended one would be waited for for hours.

    Raises:
        PipelineError: If one ended before.
    """
    for _ in others:
        while not there.acquire(timeout=POLL_S):
            for rank, process in enumerate(others, start=1):
                if process.exitcode is not None:
                    raise _killed(rank, process, others) or PipelineError(
                        f"process {rank + 1} of {len(others) + 1} (train.processes) ended with "
                        f"code {process.exitcode} as it started; what it said stands above"
                    )


def _cause(told: SimpleQueue[FgpipeError], others: list[SpawnProcess]) -> FgpipeError | None:
    """Why one of the other processes is gone, if it is known: the leader only lost it."""
    if not told.empty():
        return told.get()
    for rank, process in enumerate(others, start=1):
        if cause := _killed(rank, process, others):
            return cause
    return None


def _killed(rank: int, process: SpawnProcess, others: list[SpawnProcess]) -> PipelineError | None:
    if process.exitcode != -signal.SIGKILL:
        return None
    return PipelineError(
        f"process {rank + 1} of {len(others) + 1} (train.processes) was killed, by the "
        "system if memory ran out; a higher train.batch_parts takes less"
    )


def _following(
    rank: int,
    size: int,
    port: int,
    device: str,
    told: SimpleQueue[FgpipeError],
    there: Semaphore,
    follow: Callable[..., None],
    arguments: tuple[object, ...],
) -> None:
    """What another process does; an expected error is the leader's to report."""
    there.release()
    team = _join(rank, size, port, device=device)
    try:
        follow(team, *arguments)
    except FgpipeError as error:
        told.put(error)
    except RuntimeError:
        if told.empty():  # else the connection to the one that told is lost
            raise
    finally:
        dist.destroy_process_group()


def _join(rank: int, size: int, port: int, *, device: str) -> Team:
    # Without it, gloo looks up the host's name, which need not resolve.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    if device == "cuda":
        torch.cuda.set_device(rank % torch.cuda.device_count())
    try:
        dist.init_process_group(
            "nccl" if device == "cuda" else "gloo",
            init_method=f"tcp://{LOOPBACK}:{port}",
            rank=rank,
            world_size=size,
            timeout=TO_MEET,
        )
    except BaseException:
        _count_groups_anew()
        raise
    # One that is lost while another still connects to it could be waited for.
    dist.barrier(device_ids=[torch.cuda.current_device()] if device == "cuda" else None)
    dist.set_timeout(WAIT)
    return Team(rank=rank, size=size)


def _count_groups_anew() -> None:
    """Let torch's number of the next group be 0 again, which destroying one does.

    Processes find each other by that number, and one that is started later begins with 0.
    """
    method = f"tcp://{LOOPBACK}:{_free_port()}"
    dist.init_process_group("gloo", init_method=method, rank=0, world_size=1)
    dist.destroy_process_group()


def _device() -> torch.device:
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind((LOOPBACK, 0))
        return int(free.getsockname()[1])
