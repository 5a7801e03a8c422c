"""Asks Kafka Streams for the results of scenarios: ``python -m tests.conformance.record FILE...``.

Writes ``NAME.expected.json`` beside each ``NAME.json``. How a scenario is written: ``SCENARIO.md``.
Needs Java 17 and Maven; the first time the Java oracle is built and its libraries are fetched.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.conformance import oracle


def main(arguments: Sequence[str] | None = None) -> int:
    """Record every file; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.record", description=__doc__)
    parser.add_argument("paths", nargs="+", type=Path, metavar="FILE", help="a scenario, or a folder of them")
    parser.add_argument("--out", type=Path, default=None, help="write the results there instead")
    parser.add_argument("--trace", action="store_true", help="with the records of internal topics")
    options = parser.parse_args(arguments)
    settings = [] if options.out is None else ["--out", str(options.out)]
    if options.trace:
        settings.append("--trace")
    try:
        sys.stdout.write(oracle.run("Oracle", *settings, *map(str, options.paths)))
    except RuntimeError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
