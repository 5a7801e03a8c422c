"""Runs scenarios of any folder and compares with what Kafka Streams answered: ``python -m tests.conformance DIR``.

A scenario is ``NAME.json`` with its ``NAME.expected.json``, in the form that the Java oracle reads and writes. Prints a
line for each scenario that differs, with the first difference, and ``N passed, M failed``; exits with 1 if one failed.
"""

import argparse
import json
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from streamlib import TopologyError
from tests.conformance.compare import NAMES, RESULTS, differences, first_difference
from tests.conformance.driver import Driver, Scenario, names

EXPECTED = ".expected.json"


def answer(scenario: Scenario, **how: Any) -> dict[str, Any]:
    """What streamlib makes of a scenario, in the form of an expected result.

    Args:
        scenario: The scenario.
        how: As `Driver` takes it.
    """
    try:
        driver = Driver(scenario, **how)
    except (TopologyError, ValueError) as error:
        return {"error": {"step": -1, "type": type(error).__name__, "cause": str(error)}}
    return driver.result() | names(driver.topology)


def judge(path: Path, out: Path | None, **how: Any) -> str | None:
    """The first difference of a scenario's answer, None when it is that of Kafka Streams.

    Args:
        path: The scenario; what is expected lies beside it.
        out: A folder for the answer, or None.
        how: As `Driver` takes it.
    """
    expected = json.loads(path.with_name(path.stem + EXPECTED).read_text())
    try:
        given = answer(json.loads(path.read_text()), **how)
    except Exception as error:  # whatever it is, the other scenarios are still of interest
        return f"raised {error!r} at {traceback.extract_tb(error.__traceback__)[-1]}"
    if out is not None:
        (out / (path.stem + EXPECTED)).write_text(json.dumps(given, indent=1, default=str) + "\n")
    parts = [part for part in (*RESULTS, *NAMES) if part in expected or part in {"outputs", "error"}]
    found = differences(expected, given, parts)
    return first_difference(found) if found else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge every scenario of a folder; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("folder", type=Path, help="holds NAME.json and NAME.expected.json")
    parser.add_argument("--out", type=Path, default=None, help="write what streamlib answers into this folder")
    parser.add_argument("--on-disk", action="store_true", help="keep stores in RocksDB where the scenario allows it")
    parser.add_argument("--crashing", action="store_true", help="lose the worker and its stores between all steps")
    parser.add_argument("--only", default="", metavar="TEXT", help="only scenarios whose names contain this")
    options = parser.parse_args(arguments)
    paths = [
        path
        for path in sorted(options.folder.glob("*.json"))
        if not path.name.endswith(EXPECTED)
        and path.with_name(path.stem + EXPECTED).exists()
        and options.only in path.stem
    ]
    if not paths:
        sys.stderr.write(f"{options.folder} holds no scenario with its {EXPECTED}\n")
        return 2
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
    failed = 0
    for path in paths:
        difference = judge(path, options.out, on_disk=options.on_disk, crashing=options.crashing)
        if difference is not None:
            failed += 1
            sys.stdout.write(f"{path.stem}: {difference}\n")
    sys.stdout.write(f"{len(paths) - failed} passed, {failed} failed\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
