"""`python -m tests.simulation --seeds 0..2000`: run seeds, and say which fail; `--seeds 17 --log` shows what happened.

A seed does the same every time, on every machine, as long as the code and the interpreter are the same.
"""

import argparse
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from tests.simulation.scenario import Result, Settings, run

CHUNK = 20
JOBS = 2


def run_all(seeds: range, settings: Settings, jobs: int = JOBS) -> Iterator[Result]:
    """The results of all seeds, in their order."""
    if jobs == 1 or len(seeds) == 1:
        yield from (run(seed, settings) for seed in seeds)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(partial(run, settings=settings), seeds, chunksize=CHUNK)


def _range(text: str) -> range:
    first, _, end = text.partition("..")
    return range(int(first), int(end) if end else int(first) + 1)


def main() -> int:
    """Run from the command line; the exit status is 1 when a seed failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=_range, default=range(2_000), help="one, or FIRST..END without END")
    parser.add_argument("--jobs", type=int, default=JOBS, help="processes")
    parser.add_argument("--guarantee", choices=("at_least_once", "exactly_once_v2"), help="instead of the seed's")
    parser.add_argument("--log", action="store_true", help="show every request, and every strike")
    options = parser.parse_args()
    failed = 0
    for result in run_all(options.seeds, Settings(options.guarantee, keep_log=options.log), options.jobs):
        for line in result.log:
            sys.stdout.write(f"{line}\n")
        if options.log or result.problems:
            deeds = ", ".join(f"{count} {deed}" for deed, count in sorted(result.deeds.items())) or "no strike"
            ended = f"{result.seconds:.1f} virtual seconds, {deeds}, trace {result.trace:08x}"
            sys.stdout.write(f"seed {result.seed}: {ended}\n")
        for problem in result.problems:
            sys.stdout.write(f"  {problem}\n")
        sys.stdout.flush()
        failed += bool(result.problems)
    sys.stdout.write(f"{len(options.seeds) - failed} passed, {failed} failed\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
