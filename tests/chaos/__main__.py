"""``python -m tests.chaos``: one run; prints the report, and exits with 1 if anything is larger than it may be."""

import argparse
import asyncio
import logging
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from streamlib.testing.kafka_broker import KafkaBroker
from streamlib.testing.kafka_jars import fetch_jars
from tests.chaos.report import MUST_BE_ZERO
from tests.chaos.run import Options, run


def options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    default = Options()
    parser.add_argument("--workers", type=int, default=default.workers)
    parser.add_argument("--records", type=int, default=default.records)
    parser.add_argument("--kills", type=int, default=default.kills)
    parser.add_argument("--stops", type=int, default=default.stops)
    parser.add_argument("--guarantee", choices=sorted(MUST_BE_ZERO), default=default.guarantee)
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--minutes", type=float, help="how long faults go on (default: some seconds for each)")
    parser.add_argument("--session-ms", type=int, default=default.session_ms, help="workers' session timeout")
    parser.add_argument(
        "--drain-seconds", type=float, default=default.drain_seconds, help="how long nothing may go on after the faults"
    )
    parser.add_argument(
        "--max-stall",
        type=float,
        metavar="SECONDS",
        help="fail if a partition with records had none committed for longer (default: only say how long: a worker "
        "frozen in a transaction holds others up for a session and a transaction timeout, and faults may add up)",
    )
    parser.add_argument(
        "--spare-minutes",
        type=float,
        default=default.spare_minutes,
        help="in runs of at least twice this, each worker in turn is not killed for so long, to see leaks; 0: none",
    )
    parser.add_argument("--json", type=Path, help="where to write the report")
    parser.add_argument("--folder", type=Path, help="where to keep state and logs of workers")
    parser.add_argument("--broker", help="HOST:PORT of a Kafka with short timeouts (default: start one)")
    return parser.parse_args(arguments)


def own_version() -> str:
    """Of the broker that is started here."""
    return next(fetch_jars().glob("kafka-clients-*.jar")).stem.rpartition("-")[2]


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("aiokafka").setLevel(logging.ERROR)
    given = vars(options(arguments))
    path, folder, address = (given.pop(name) for name in ("json", "folder", "broker"))
    version = "unknown"
    with ExitStack() as stack:
        if address is None:
            address = stack.enter_context(KafkaBroker()).address
            version = own_version()
        report = asyncio.run(run(Options(**given), address, folder, version))
    print(report.text())  # noqa: T201
    if path is not None:
        report.write(path)
    for name, value in report.failures.items():
        print(f"{name} is {value}, and may be at most {report.limits[name]:g}", file=sys.stderr)  # noqa: T201
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
