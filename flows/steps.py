"""What the flows are made of: each task one action, told in one line.

There is one cache, DVC's: a task keeps no result and is run every time, and a stage that
is up to date costs DVC half a second.
"""

import time
from pathlib import Path
from typing import TypeVar

import click
from prefect import State, task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger
from prefect.states import Completed

from fgpipe.operations import promote as operations
from fgpipe.operations.promote import Promotion
from fgpipe.pipeline import load_record
from fgpipe.records import Baseline, GateDecision, Record
from flows import tools

R = TypeVar("R", bound=Record)


def step(name: str, type_: type[R], root: Path) -> R:
    """Bring a stage up to date and give its record.

    Args:
        name: The stage's.
        type_: What the stage gives.
        root: The project.
    """
    record = reproduce.with_options(name=name)(name, root=root, type_=type_)
    assert isinstance(record, type_)
    return record


@task(cache_policy=NO_CACHE, persist_result=False)
def reproduce(name: str, *, root: Path, type_: type[Record]) -> Record:
    """Let DVC bring one stage up to date."""
    start = time.monotonic()
    outcome = tools.reproducer(root).reproduce(name)
    say(f"{name:<12} {outcome:<10} {time.monotonic() - start:6.1f} s")
    return load_record(type_, root=root)


@task(cache_policy=NO_CACHE, persist_result=False)
def refresh_baseline(root: Path) -> Baseline | None:
    """Pin the registry's champion as the model to beat."""
    return operations.refresh_baseline(root=root, registry=tools.registry(root))


@task(cache_policy=NO_CACHE, persist_result=False)
def promote(root: Path, *, despite_hold: str | None = None) -> Promotion:
    """Register, build, prove and make champion what the gate passed, or put on hold."""
    start = time.monotonic()
    promotion = operations.promote(
        root=root,
        registry=tools.registry(root),
        builder=tools.builder(root),
        despite_hold=despite_hold,
    )
    outcome = "unchanged" if promotion.already else "made"
    version = promotion.champion.version
    say(
        f"{'promote':<12} {outcome:<10} {time.monotonic() - start:6.1f} s  "
        f"version {version} is champion"
    )
    return promotion


def refusal(decision: GateDecision) -> State[GateDecision]:
    """How a flow ends whose model the gate did not pass: no failure, and named by the verdict."""
    return Completed(name=decision.verdict.capitalize(), message=decision.summary, data=decision)


def say(line: str) -> None:
    """Tell the terminal, and Prefect's page on the run."""
    click.echo(line)
    get_run_logger().info(line)
