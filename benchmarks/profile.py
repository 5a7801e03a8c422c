"""Where streamlib's time goes on one workload: ``python -m benchmarks.profile count --records 500000``.

The worker runs under cProfile, which about doubles the cost of Python calls and none of that of C code: good for
finding, not for measuring. For figures use `compare`.
"""

import argparse
import asyncio
import pstats
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.broker import Cluster, make_broker
from benchmarks.generate import Dataset
from benchmarks.measure import Input, Outcome, Run
from benchmarks.report import line
from benchmarks.systems.base import ALL_WORKLOADS, EXACTLY_ONCE_WORKLOADS, Job
from benchmarks.systems.streamlib import Streamlib


class ProfiledStreamlib(Streamlib):
    """streamlib's worker under cProfile, which writes to ``stats`` when the worker has stopped."""

    def __init__(self, stats: Path) -> None:
        self._stats = stats

    def command(self, job: Job) -> list[str]:
        python, *arguments = super().command(job)
        return [python, "-m", "cProfile", "-o", str(self._stats), *arguments]


async def _run(options: argparse.Namespace, broker: str, folder: Path, stats: Path) -> Outcome:
    job = Job.labelled(options.workload, "bench-profile", broker, options.partitions, folder / "job")
    job.folder.mkdir()
    data = Dataset(options.records, keys=options.keys, partitions=options.partitions, seed=1)
    async with Cluster(broker, options.partitions) as cluster:
        return await Run(cluster, ProfiledStreamlib(stats), job, Input(data), options.records).outcome(1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one workload and print the functions that took the most time."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description="Profile one workload.")
    parser.add_argument("workload", choices=(*ALL_WORKLOADS, *EXACTLY_ONCE_WORKLOADS))
    parser.add_argument("--records", type=int, default=500_000)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--top", type=int, default=40, help="how many functions to print")
    parser.add_argument("--sort", default="tottime", choices=("tottime", "cumulative"))
    parser.add_argument("--output", type=Path, default=None, help="keep the profile in this file, for other viewers")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="streamlib-benchmark-") as name, make_broker() as broker:
        stats = (options.output or Path(name) / "profile.out").absolute()
        print(line(asyncio.run(_run(options, broker.address, Path(name), stats))))
        pstats.Stats(str(stats)).sort_stats(options.sort).print_stats(options.top)
    return 0


if __name__ == "__main__":
    sys.exit(main())
