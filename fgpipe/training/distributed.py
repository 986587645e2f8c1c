"""Several processes that train one network, each with its share of every batch.

The processes are torch's own (DistributedDataParallel over gloo on CPUs, NCCL on GPUs). What
one process would compute of a whole batch they compute of its parts, and the gradients are
summed: at equal batch size the losses are the same but for rounding, and for batch norm,
whose statistics are of a part.
"""

import os
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from fgpipe.images.batches import Rows
from fgpipe.nn.losses import Criterion
from fgpipe.nn.recogniser import Recogniser

T = TypeVar("T")

LOOPBACK = "127.0.0.1"
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


def shared(objective: nn.Module, team: Team) -> nn.Module:
    """The objective with gradients averaged over the processes; as it is for one."""
    if team.size == 1:
        return objective
    parallel: nn.Module = DistributedDataParallel(objective, gradient_as_bucket_view=True)
    return parallel


@contextmanager
def leading(n_processes: int, follow: Callable[..., None], *arguments: object) -> Iterator[Team]:
    """Start the other processes and lead them.

    Args:
        n_processes: In all.
        follow: Called in each of the others with its team and ``arguments``, all of which
            are pickled: a function of a module.
        arguments: Of ``follow``.
    """
    if n_processes == 1:
        yield ALONE
        return
    context = multiprocessing.get_context("spawn")
    port = _free_port()
    others = [
        context.Process(
            target=_following, args=(rank, n_processes, port, follow, arguments), daemon=True
        )
        for rank in range(1, n_processes)
    ]
    for process in others:
        process.start()
    try:
        with _joined(0, n_processes, port) as team:
            yield team
    except BaseException:
        for process in others:  # they would wait for the leader's gradients
            process.terminate()
        raise
    finally:
        for process in others:
            process.join()


def _following(
    rank: int, size: int, port: int, follow: Callable[..., None], arguments: tuple[object, ...]
) -> None:
    with _joined(rank, size, port) as team:
        follow(team, *arguments)


@contextmanager
def _joined(rank: int, size: int, port: int) -> Iterator[Team]:
    # Without it, gloo looks up the host's name, which need not resolve.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    if torch.cuda.is_available():
        torch.cuda.set_device(rank % torch.cuda.device_count())
    dist.init_process_group(
        "nccl" if torch.cuda.is_available() else "gloo",
        init_method=f"tcp://{LOOPBACK}:{port}",
        rank=rank,
        world_size=size,
        timeout=WAIT,
    )
    try:
        yield Team(rank=rank, size=size)
    finally:
        dist.destroy_process_group()


def _device() -> torch.device:
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind((LOOPBACK, 0))
        return int(free.getsockname()[1])
