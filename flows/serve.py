"""Serve the retraining flow on a schedule: ``python -m flows.serve --cron "0 3 * * *"``."""

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
from filelock import FileLock, Timeout

from fgpipe.errors import ConfigError, NotReadyError, PipelineError, UnavailableError
from flows.command import run_guarded
from flows.server import Server, end_group, prefect_server

POLL_S = 0.5


def main() -> None:
    """Serve until interrupted."""
    arguments = _parser().parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: sys.exit(128 + received))
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
        ConfigError: If schedule or timezone is none.
        NotReadyError: If the folder is no project.
        UnavailableError: If there is no server, or the project is served already.
        PipelineError: If the server or the runner ends before it is asked to.
    """
    if not (root / "dvc.yaml").is_file():
        raise NotReadyError(f"{root} has no dvc.yaml; run this in the project's folder")
    when = _schedule_options(cron=cron, every=every, timezone=timezone)
    lock = FileLock(Path(os.environ["PREFECT_HOME"]) / "serve.lock", timeout=0)
    try:
        with lock, prefect_server(port=port) as server:
            click.echo(f"serving the retraining flow ({' '.join(when)}); Ctrl-C ends it")
            click.echo(f"Prefect's pages: {server.url.removesuffix('/api')}")
            _run(server, options=[*when, "--root", str(root)], root=root)
    except Timeout:
        raise UnavailableError(
            "another `fgpipe schedule` serves this project; end that one first"
        ) from None


def _run(server: Server, *, options: list[str], root: Path) -> None:
    """Keep the runner alive as long as the server is, or until interrupted."""
    environment = {
        **os.environ,
        "PREFECT_API_URL": server.url,
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "WARNING",
    }
    runner = subprocess.Popen(
        [sys.executable, "-m", "flows.runner", *options],
        cwd=root,
        env=environment,
        start_new_session=True,
    )
    try:
        while runner.poll() is None:
            if server.process is not None and server.process.poll() is not None:
                raise PipelineError("the Prefect server ended, so nothing would be scheduled")
            time.sleep(POLL_S)
        raise PipelineError(f"what starts scheduled runs ended with code {runner.returncode}")
    finally:
        end_group(runner, signal.SIGINT)


def _schedule_options(*, cron: str | None, every: float | None, timezone: str) -> tuple[str, ...]:
    from prefect.client.schemas.schedules import CronSchedule

    if cron is None:
        if every is None or every < 1:
            raise ConfigError(f"--every {every} must be 1 second at least")
        return ("--every", f"{every:g}", "--timezone", timezone)
    try:
        CronSchedule(cron=cron, timezone=timezone)
    except ValueError as error:
        reason = next(iter(error.errors()))["msg"] if hasattr(error, "errors") else error
        raise ConfigError(
            f"--cron {cron!r} --timezone {timezone!r} is no schedule ({reason}); an example is "
            '--cron "0 3 * * *" --timezone Europe/Berlin'
        ) from None
    return ("--cron", cron, "--timezone", timezone)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fgpipe schedule", description="Serve the retraining flow on a schedule."
    )
    when = parser.add_mutually_exclusive_group(required=True)
    when.add_argument("--cron", help='such as "0 3 * * *", daily at three')
    when.add_argument("--every", type=float, metavar="SECONDS", help="seconds between two runs")
    parser.add_argument("--timezone", default="UTC", help="of the cron expression (UTC)")
    parser.add_argument(
        "--port", type=int, default=0, help="of the Prefect server that is started (a free one)"
    )
    return parser


if __name__ == "__main__":
    main()
