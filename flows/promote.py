"""Make the packaged model champion if the gate passed it: ``python -m flows.promote``."""

from pathlib import Path

from prefect import flow

from fgpipe.operations.promote import Promotion
from flows.command import run_as_command
from flows.steps import promote


@flow(name="promote", persist_result=False)
def promote_flow(root: Path = Path()) -> Promotion:
    """Register, build, prove, move the alias: in this order."""
    return promote(root)


if __name__ == "__main__":
    run_as_command(promote_flow)
