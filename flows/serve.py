"""Serve the retraining flow on a schedule: ``python -m flows.serve --cron "0 3 * * *"``."""

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import click
from filelock import FileLock, Timeout

from fgpipe.errors import ConfigError, NotReadyError, PipelineError, UnavailableError

if TYPE_CHECKING:
    from prefect.schedules import Schedule

NAME = "schedule"
"""The deployment's name in Prefect, ``retrain/schedule``."""


def main() -> None:
    """Serve until interrupted."""
    # Before flows.server brings Prefect's settings: a service tells of failures in its log.
    os.environ["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "WARNING"
    from flows.command import run_guarded

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: sys.exit(128 + received))
    arguments = _parser().parse_args()
    run_guarded(lambda: serve_retraining(Path.cwd(), **vars(arguments)))


def serve_retraining(
    root: Path,
    *,
    cron: str | None = None,
    every: float | None = None,
    timezone: str = "UTC",
    port: int = 0,
) -> None:
    """Run the retraining flow whenever the schedule says so, one run at a time.

    Args:
        root: The project.
        cron: A cron expression, or
        every: seconds between two runs, 1 at least.
        timezone: Which the cron expression is in, by its IANA name.
        port: Of the Prefect server that is started where ``PREFECT_API_URL`` names none;
            0 takes a free one.

    Raises:
        ConfigError: If the schedule or timezone is none.
        NotReadyError: If the folder is no project.
        UnavailableError: If there is no server, or the project is served already.
        PipelineError: If the server ends before the serving does.
    """
    if not (root / "dvc.yaml").is_file():
        raise NotReadyError(f"{root} has no dvc.yaml; run this in the project's folder")
    lock = FileLock(Path(os.environ["PREFECT_HOME"]) / "serve.lock", timeout=0)
    try:
        with lock:
            _serve(root, cron=cron, every=every, timezone=timezone, port=port)
    except Timeout:
        raise UnavailableError(
            "another `fgpipe schedule` serves this project; end that one first"
        ) from None


def _serve(root: Path, *, cron: str | None, every: float | None, timezone: str, port: int) -> None:
    schedule = _schedule(cron=cron, every=every, timezone=timezone)
    from flows.server import prefect_server

    with prefect_server(port=port) as server:
        url = os.environ["PREFECT_API_URL"]
        # Prefect reads the server's address when it is imported
        from prefect.deployments.runner import EntrypointType

        from flows.retrain import retrain_flow

        if server is not None:
            Thread(target=_end_with, args=[server], daemon=True).start()
        when = f"cron {cron!r} ({timezone})" if cron else f"every {every:g} s"
        click.echo(f"serving the retraining flow, {when}; Ctrl-C ends it")
        click.echo(f"Prefect's pages: {url.removesuffix('/api')}")
        retrain_flow.serve(
            name=NAME,
            schedule=schedule,
            parameters={"root": str(root)},
            pause_on_shutdown=False,
            limit=1,
            print_starting_message=False,
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
        if server is not None and server.poll() is not None:
            raise PipelineError("the Prefect server ended, so nothing would be scheduled")


def _schedule(*, cron: str | None, every: float | None, timezone: str) -> "Schedule":
    from prefect.client.schemas.schedules import CronSchedule
    from prefect.schedules import Cron, Interval

    if cron is None:
        if every is None or every < 1:
            raise ConfigError(f"--every {every} must be 1 second at least")
        return Interval(every)
    try:
        CronSchedule(cron=cron, timezone=timezone)
    except ValueError as error:
        raise ConfigError(
            f"--cron {cron!r} --timezone {timezone!r} is no schedule; an example is "
            f'--cron "0 3 * * *" --timezone Europe/Berlin ({_first_reason(error)})'
        ) from None
    return Cron(cron, timezone=timezone)


def _first_reason(error: ValueError) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line.startswith("Value error")), lines[0])


def _end_with(server: subprocess.Popen[bytes]) -> None:
    """End this process when the server ends: a schedule without one never fires."""
    server.wait()
    os.kill(os.getpid(), signal.SIGTERM)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fgpipe schedule", description="Serve the retraining flow on a schedule."
    )
    when = parser.add_mutually_exclusive_group(required=True)
    when.add_argument("--cron", help='such as "0 3 * * *", daily at three')
    when.add_argument("--every", type=float, metavar="SECONDS", help="seconds between two runs")
    parser.add_argument("--timezone", default="UTC", help="of the cron expression (UTC)")
    parser.add_argument(
        "--port",
        type=int,
        default=0,
        help="of the Prefect server, which is started unless PREFECT_API_URL names one (a free one)",
    )
    return parser


if __name__ == "__main__":
    main()
