"""Start the retraining flow whenever a Prefect server says it is due.

``python -m flows.serve`` starts this in a process of its own, which is told the server's
address before it imports Prefect, and which it ends.
"""

import argparse

from prefect.schedules import Cron, Interval, Schedule
from prefect.types.entrypoint import EntrypointType

from flows.retrain import retrain_flow

NAME = "schedule"
"""The deployment's name in Prefect, ``retrain/schedule``."""


def main() -> None:
    """Poll until interrupted; one run at a time."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", required=True)
    parser.add_argument("--timezone", required=True)
    when = parser.add_mutually_exclusive_group(required=True)
    when.add_argument("--cron")
    when.add_argument("--every", type=float)
    arguments = parser.parse_args()

    schedule: Schedule = (
        Cron(arguments.cron, timezone=arguments.timezone)
        if arguments.cron
        else Interval(arguments.every)
    )
    # pause_on_shutdown=True, the default, switches the schedule off at every restart
    retrain_flow.serve(
        name=NAME,
        schedule=schedule,
        parameters={"root": arguments.root},
        pause_on_shutdown=False,
        limit=1,
        print_starting_message=False,
        entrypoint_type=EntrypointType.MODULE_PATH,
    )


if __name__ == "__main__":
    main()
