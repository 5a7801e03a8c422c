"""One run: workers, input and faults at the same time, then quiet, then the verdict."""

import asyncio
import logging
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.faults import Chaos, planned
from tests.chaos.feeder import feed
from tests.chaos.load import Load, recently
from tests.chaos.report import EXACTLY_ONCE, Report, machine
from tests.chaos.stage import Stage
from tests.chaos.verify import verified

log = logging.getLogger(__name__)

SECONDS_PER_FAULT = 1.8
BEFORE_THE_LAST_FAULT = 0.97  # of the input; the rest comes when everything runs again
MOST_PENDING = 50_000
TELL_SECONDS = 15.0
TOO_MANY_CRASHES = 20


@dataclass(frozen=True)
class Options:
    """What to run.

    Attributes:
        workers: How many at first; there may be one more, and as few as one.
        records: Of the left input; the right one has a quarter of them.
        kills: How many SIGKILLs.
        stops: How many SIGSTOPs.
        guarantee: The processing guarantee.
        seed: Of input and faults.
        minutes: How long the faults go on; None for a few seconds for each.
        session_ms: Session timeout of the workers.
        drain_seconds: After the faults, how long to wait for the next record to be committed.
        max_stall: For how many seconds a partition with records may have none committed; None for no limit.
        spare_minutes: In runs of at least twice this, for how long each slot in turn is not killed.
    """

    workers: int = 3
    records: int = 200_000
    kills: int = 50
    stops: int = 10
    guarantee: str = EXACTLY_ONCE
    seed: int = 1
    minutes: float | None = None
    session_ms: int = 2_500
    drain_seconds: float = 60.0
    max_stall: float | None = None
    spare_minutes: float = 5.0

    @property
    def faults(self) -> Counter[str]:
        """How many of each kind: with the kills and stops come orderly ends, and workers that leave and come."""
        orderly = (self.kills + self.stops + 9) // 10
        return Counter(kill=self.kills, stop=self.stops, term=orderly, scale=orderly)

    @property
    def seconds(self) -> float:
        """How long the faults go on, about."""
        return self.faults.total() * SECONDS_PER_FAULT if self.minutes is None else self.minutes * 60

    @property
    def turns(self) -> int:
        """How often another slot is spared; 0 for never."""
        turns = int(self.seconds / (self.spare_minutes * 60)) if self.spare_minutes else 0
        return turns if turns > 1 else 0

    @property
    def limits(self) -> dict[str, float]:
        """Those of the report, beside its own."""
        return {} if self.max_stall is None else {"longest_stall_s": self.max_stall}


def settings(guarantee: str, session_ms: int) -> dict[str, object]:
    """Of the workers: quick to commit and to notice who is gone."""
    pairs: dict[str, object] = {
        "commit_interval_ms": 100,
        "session_timeout_ms": session_ms,
        "heartbeat_interval_ms": session_ms // 6,
        "rebalance_timeout_ms": 10_000,
        "shutdown_timeout_ms": 10_000,
        "state_memory_bytes": 16 << 20,  # soon full, like the next: what grows after that is no buffer
        "statestore_cache_max_bytes": 4 << 20,
        "state_cleanup_delay_ms": 86_400_000,  # what is deleted while others run a task would count as replayed again
    }
    if guarantee == EXACTLY_ONCE:
        pairs |= {"processing_guarantee": guarantee, "transaction_timeout_ms": 2 * session_ms}
    return pairs


class Run:
    """A run.

    Args:
        options: What to run.
        stage: Where.
        version: Of the broker.
    """

    def __init__(self, options: Options, stage: Stage, version: str) -> None:
        self._options = options
        self._version = version
        self._stage = stage
        self._load = Load(options.seed, options.records, recently())
        chance = random.Random(options.seed)
        session = options.session_ms / 1000
        faults = planned(chance, options.faults, options.seconds)
        frozen_seconds = (session + 0.5, 2 * session + 2.0)
        self._chaos = Chaos(stage.slots, faults, chance, frozen_seconds, stage.watch, options.turns)
        self._began = time.monotonic()

    async def run(self) -> Report:
        """Do everything."""
        options, stage = self._options, self._stage
        report = Report(options.guarantee, options.seed, options.workers, options.records, limits=options.limits)
        report.machine = machine(self._version)
        await self._look_on(self._work())
        if self._hopeless:
            report.uncommitted = stage.watch.pending
        else:
            began = time.monotonic()
            report.uncommitted = await self._drained()
            report.drained_s = round(time.monotonic() - began, 1)
        await stage.watch.counters.look()
        await stage.end()
        report.open_transactions = await stage.open_transactions()
        done = self._chaos.done
        report.kills, report.stops, report.terms, report.scales = (
            done[each] for each in ("kill", "stop", "term", "scale")
        )
        report.saw(stage.watch.summed())
        report.told = stage.crashes
        report.crashes = len(report.told)
        if not self._hopeless:
            self._tell("verifying")
            began = time.monotonic()
            report.found(await verified(stage.broker, stage.application, self._load))
            report.verify_s = round(time.monotonic() - began, 1)
        report.seconds = round(time.monotonic() - self._began, 1)
        return report

    @property
    def _hopeless(self) -> bool:
        return len(self._stage.crashes) >= TOO_MANY_CRASHES

    async def _drained(self) -> int:
        draining = asyncio.ensure_future(self._stage.drain(self._options.drain_seconds))
        while not draining.done():
            await asyncio.wait([draining], timeout=TELL_SECONDS)
            self._tell("draining")
        return draining.result()

    async def _look_on(self, work: Coroutine[None, None, None]) -> None:
        """Watch while the input is written and things break; give up when nothing works."""
        watch = self._stage.watch
        going = [asyncio.ensure_future(each) for each in (work, watch.run(), watch.counters.run())]
        try:
            while not any(each.done() for each in going) and not self._hopeless:
                await asyncio.wait(going, timeout=TELL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                self._tell("running")
            for each in going:
                if each.done():
                    each.result()
        finally:
            for each in going:
                each.cancel()
            await asyncio.wait(going)

    async def _work(self) -> None:
        for slot in self._stage.slots[: self._options.workers]:
            slot.wanted = True
        await self._stage.live()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._chaos.run())
            group.create_task(feed(self._stage.broker, self._stage.application, self._load, self._allowed))

    def _allowed(self) -> int:
        """How much of the input may be there by now: never more than workers can do soon after the last fault."""
        if self._stage.watch.pending > MOST_PENDING:
            return 0
        progress = self._chaos.progress
        records = self._options.records
        return records if progress >= 1.0 else int(records * progress * BEFORE_THE_LAST_FAULT)

    def _tell(self, what: str) -> None:
        done, watch = self._chaos.done, self._stage.watch
        faults = ", ".join(f"{count} {kind}" for kind, count in sorted(done.items())) or "no faults"
        log.info(
            "%4.0f s %s: %s; %d records committed, %d wait in %d partitions, longest stall %s s, %d crashes",
            time.monotonic() - self._began,
            what,
            faults,
            watch.committed,
            watch.pending,
            len(watch.behind),
            watch.seen.longest_stall_s,
            len(self._stage.crashes),
        )


async def run(options: Options, broker: str, folder: Path | None = None, version: str = "unknown") -> Report:
    """Run on a broker of some version; state and logs are kept in ``folder``, or deleted unless something is wrong."""
    kept = Path(tempfile.mkdtemp(prefix="chaos-")) if folder is None else folder.absolute()
    kept.mkdir(parents=True, exist_ok=True)
    async with Stage(broker, kept, options.workers + 1, settings(options.guarantee, options.session_ms)) as stage:
        report = await Run(options, stage, version).run()
    if folder is None and not report.failures:
        shutil.rmtree(kept)
    else:
        log.info("state and logs of the workers: %s", kept)
    return report
