"""``python -m tests.chaos``: one run; prints the report, and exits with 1 unless all that must be zero is zero."""

import argparse
import asyncio
import logging
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from streamlib.testing.kafka_broker import KafkaBroker
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
    parser.add_argument("--drain-seconds", type=float, default=default.drain_seconds)
    parser.add_argument("--json", type=Path, help="where to write the report")
    parser.add_argument("--folder", type=Path, help="where to keep state and logs of workers")
    parser.add_argument("--broker", help="HOST:PORT of a Kafka with short timeouts (default: start one)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("aiokafka").setLevel(logging.ERROR)
    given = vars(options(arguments))
    path, folder, address = (given.pop(name) for name in ("json", "folder", "broker"))
    with ExitStack() as stack:
        if address is None:
            address = stack.enter_context(KafkaBroker()).address
        report = asyncio.run(run(Options(**given), address, folder))
    print(report.text())  # noqa: T201
    if path is not None:
        report.write(path)
    for name, value in report.failures.items():
        print(f"{name} must be 0, and is {value}", file=sys.stderr)  # noqa: T201
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
