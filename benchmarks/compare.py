"""streamlib and its peers on the same workloads: ``python -m benchmarks.compare --help``.

Next: `measure`, one run; `report`, what is printed.
"""

import argparse
import asyncio
import logging
import signal
import sys
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from os import environ
from pathlib import Path
from typing import Any

from benchmarks.broker import BROKER_JAVA_OPTIONS, Cluster, machine, make_broker
from benchmarks.generate import Dataset
from benchmarks.measure import Input, Outcome, Run
from benchmarks.report import line, table, write_json
from benchmarks.systems import PEERS, make_system
from benchmarks.systems.base import ALL_WORKLOADS, EXACTLY_ONCE_WORKLOADS, Job, System

WORKLOADS = (*ALL_WORKLOADS, *EXACTLY_ONCE_WORKLOADS, "consume-produce")
CAPS = {"quix": 300_000, "faust": 50_000}


@dataclass
class Comparison:
    """All runs of one command, and what came of them so far."""

    options: argparse.Namespace
    systems: Sequence[System]
    facts: dict[str, Any]
    outcomes: list[Outcome] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    async def run(self, broker: str, folder: Path) -> None:
        """Every round, workload and system one after the other; the order of systems turns from round to round."""
        options = self.options
        data = Dataset(options.records, keys=options.keys, partitions=options.partitions, seed=options.seed)
        source = Input(data, warm_up=options.warm_up)
        async with Cluster(broker, options.partitions) as cluster:
            for number in range(1, options.rounds + 1):
                turn = (number - 1) % len(self.systems)
                for workload in options.workloads:
                    for system in [*self.systems[turn:], *self.systems[:turn]]:
                        if workload in system.workloads:
                            await self._one(cluster, system, workload, source, number, folder)

    async def _one(
        self, cluster: Cluster, system: System, workload: str, source: Input, number: int, folder: Path
    ) -> None:
        application_id = f"bench-{system.name}-{uuid.uuid4().hex[:8]}"
        place = folder / application_id
        job = Job.labelled(workload, application_id, cluster.address, self.options.partitions, place)
        job.folder.mkdir()
        records = min(self.options.records, self.options.cap.get(system.name, self.options.records))
        try:
            outcome = await Run(cluster, system, job, source, records).outcome(number)
        except RuntimeError as error:
            self.failures.append(f"round {number} {workload} {system.name}: {error}")
            print(f"FAILED {self.failures[-1]}", flush=True)
        else:
            self.outcomes.append(outcome)
            print(line(outcome), flush=True)
        if self.options.json is not None:
            write_json(self.options.json, self.outcomes, self.failures, self.facts)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description="Measure streamlib and peers.")
    usual = [*ALL_WORKLOADS, "consume-produce"]
    parser.add_argument("--workloads", type=_names(WORKLOADS), default=usual, help=",".join(WORKLOADS))
    parser.add_argument(
        "--peers", type=_names(PEERS), default=list(PEERS), help=f"{','.join(PEERS)}, or an empty string"
    )
    parser.add_argument("--without-streamlib", action="store_true", help="run the peers alone")
    parser.add_argument("--records", type=int, default=2_000_000)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--warm-up", type=float, default=0.1, help="part of the records worked off before the clock")
    parser.add_argument("--cap", action="append", default=[], metavar="SYSTEM=N", help=f"fewer records; default {CAPS}")
    parser.add_argument("--json", type=Path, default=None, help="write all figures to this file, after every run")
    parser.add_argument("--cache", type=Path, default=_default_cache(), help="where peers are installed")
    options = parser.parse_args(arguments)
    options.cap = CAPS | {name: int(number) for name, _, number in (cap.partition("=") for cap in options.cap)}
    return options


def _names(known: Sequence[str]) -> Any:
    def parse(text: str) -> list[str]:
        names = [name for name in text.split(",") if name]
        if unknown := [name for name in names if name not in known]:
            msg = f"{', '.join(unknown)}: choose from {', '.join(known)}"
            raise argparse.ArgumentTypeError(msg)
        return names

    return parse


def _default_cache() -> Path:
    home = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "streamlib-benchmarks"


def _chosen_systems(options: argparse.Namespace) -> list[System]:
    names = [] if options.without_streamlib else ["streamlib", "consume-produce"]
    systems = [make_system(name) for name in [*names, *options.peers]]
    return [system for system in systems if set(system.workloads) & set(options.workloads)]


def _facts(options: argparse.Namespace, systems: Sequence[System], versions: Mapping[str, Any]) -> dict[str, Any]:
    caps = {system.name: options.cap[system.name] for system in systems if system.name in options.cap}
    wanted = ("records", "keys", "partitions", "rounds", "seed", "warm_up")
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "broker": {"java_options": list(BROKER_JAVA_OPTIONS), "on_the_same_machine": True},
        "versions": dict(versions),
        "notes": {system.name: system.note for system in systems},
        "settings": {name: getattr(options, name) for name in wanted} | {"records_at_most": caps},
    }


def _exit(number: int, _: object) -> None:
    """Unwind, so that the broker and the system under measurement end too."""
    sys.exit(128 + number)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison; the exit code is 1 if a run failed or gave wrong results."""
    signal.signal(signal.SIGTERM, _exit)
    logging.getLogger("aiokafka").setLevel(logging.ERROR)  # new topics have no leader for a moment: it tries again
    options = _parse(arguments)
    systems = _chosen_systems(options)
    options.cache.mkdir(parents=True, exist_ok=True)
    versions = {system.name: system.prepare(options.cache) for system in systems}
    facts = _facts(options, systems, versions)
    comparison = Comparison(options, systems, facts)
    for system in systems:
        cap = options.cap.get(system.name, options.records)
        capped = f"; first {cap:,} records only, rates stay per second" if cap < options.records else ""
        print(
            f"{system.name}: {', '.join(f'{k} {v}' for k, v in versions[system.name].items())}; {system.note}{capped}"
        )
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="streamlib-benchmark-")))
        broker = stack.enter_context(make_broker())
        asyncio.run(comparison.run(broker.address, folder))
    print(
        f"\n{options.rounds} rounds, medians; ratios are medians of each round's ratio\n\n{table(comparison.outcomes)}"
    )
    failed = comparison.failures or not all(outcome.verified for outcome in comparison.outcomes)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
