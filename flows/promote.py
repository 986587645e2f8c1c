"""Make the packaged model champion if the gate passed it: ``python -m flows.promote``."""

import argparse
from functools import partial
from pathlib import Path

from prefect import flow

from fgpipe.operations.promote import Promotion
from flows.command import run_as_command
from flows.steps import promote


@flow(name="promote", persist_result=False)
def promote_flow(root: Path = Path(), *, despite_hold: str | None = None) -> Promotion:
    """Register, build, prove, move the alias: in this order.

    ``despite_hold`` says why a model is promoted that could not be compared.
    """
    return promote(root, despite_hold=despite_hold)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="fgpipe promote")
    parser.add_argument("--despite-hold", metavar="WHY")
    run_as_command(partial(promote_flow, **vars(parser.parse_args())))
