"""One run: a system works off a backlog while the harness watches it from outside, the same way for all systems.

1. The topics are made; for a join the table is loaded and the system must have read it.
2. The first tenth of the input is loaded and worked off: the system has started, has its partitions, is warm.
3. The system is frozen (SIGSTOP), the rest is loaded, it goes on (SIGCONT): there the clock starts.
4. The group's committed offsets are read every 50 ms. A commit says that everything before it is done: results and
   changelog acknowledged, caches flushed. With a repartition the records count that its last stage has committed.
5. The clock stops at the last commit that still left work to do, so that nobody waits for the timer of the last one:
   records = those committed between start and stop, CPU time likewise. Then everything is drained, and checked.

Next: `systems`, what is run; `report`, what is made of the outcomes.
"""

import asyncio
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from benchmarks.broker import Cluster
from benchmarks.generate import Columns, Dataset
from benchmarks.process import SystemProcess
from benchmarks.systems.base import Job, System
from benchmarks.verify import Verdict, check, expected

FOREIGN_KEY = "foreign-key-join"
TABLE = ("table-join", FOREIGN_KEY)
"""Workloads with a table that must have been read before the stream begins."""
STREAMS = "stream-join"
POLL_S = 0.05
START_TIMEOUT_S = 120.0
STALL_TIMEOUT_S = 60.0
FREEZE_LIMIT_S = 30.0  # below every system's session timeout, or its group would give its partitions away


@dataclass(frozen=True)
class Outcome:
    """What one run gave.

    Attributes:
        records: Counted while the clock ran; ``seconds`` and ``cpu_seconds`` belong to them.
        drained_s: From the start of the clock until everything was committed.
        peak_rss_bytes: Over the whole life of the process.
    """

    workload: str
    system: str
    round: int
    records: int
    seconds: float
    cpu_seconds: float
    drained_s: float
    peak_rss_bytes: int
    verified: bool
    detail: str

    @property
    def records_per_s(self) -> float:
        return self.records / self.seconds

    @property
    def records_per_cpu_s(self) -> float:
        return self.records / max(self.cpu_seconds, 0.01)


@dataclass
class Input:
    """The data in the form the loader takes, and the right results, each made once."""

    data: Dataset
    warm_up: float = 0.1
    _stream: list[Columns] = field(default_factory=list)
    _logins: list[Columns] = field(default_factory=list)
    _tables: dict[str, list[Columns]] = field(default_factory=dict)
    _expected: dict[tuple[str, int], object] = field(default_factory=dict)

    def stream(self, start: int, stop: int) -> list[Columns]:
        if not self._stream:
            self._stream = self.data.stream()
        return [part.between(start, stop) for part in self._stream]

    def logins(self, start: int, stop: int) -> list[Columns]:
        if not self._logins:
            self._logins = self.data.logins()
        return [part.between(start, stop) for part in self._logins]

    def table(self, workload: str) -> list[Columns]:
        if workload not in self._tables:
            self._tables[workload] = self.data.page_table() if workload == FOREIGN_KEY else self.data.table()
        return self._tables[workload]

    def expected(self, workload: str, records: int) -> object:
        key = (workload, records)
        if key not in self._expected:
            self._expected[key] = expected(workload, self.data, records)
        return self._expected[key]


@dataclass(frozen=True)
class Timing:
    records: int
    seconds: float
    cpu_seconds: float
    drained_s: float


class Run:
    """One system on one workload with the first ``records`` of the input."""

    def __init__(self, cluster: Cluster, system: System, job: Job, source: Input, records: int) -> None:
        self._cluster = cluster
        self._system = system
        self._job = job
        self._input = source
        self._records = records
        self._warm = max(1, int(records * source.warm_up))
        self._coordinator = -1

    async def outcome(self, round_number: int) -> Outcome:
        """Run it.

        Raises:
            RuntimeError: It ended by itself or made no progress; the message shows the end of its log.
        """
        job = self._job
        await self._make_topics()
        self._coordinator = await self._cluster.coordinator(job.application_id)
        process: SystemProcess | None = None
        try:
            if job.workload not in TABLE:
                await self._load(0, self._warm)
            process = SystemProcess(
                self._system.command(job),
                env=self._system.environment(job),
                log=job.folder / "log.txt",
                cwd=Path(__file__).parents[1],
            )
            timing = await self._measure(process)
            peak = process.peak_rss_bytes()
            process.stop()
            verdict = await self._check()
        finally:
            if process is not None:
                process.stop(timeout_s=0)
            with suppress(Exception):
                await self._cluster.delete_topics_with(job.application_id)
            shutil.rmtree(job.folder, ignore_errors=True)
        return Outcome(
            workload=job.label,
            system=self._system.name,
            round=round_number,
            peak_rss_bytes=peak,
            verified=verdict.ok,
            detail=verdict.detail,
            **vars(timing),
        )

    async def _make_topics(self) -> None:
        job = self._job
        await self._cluster.create_topics({job.input_topic: {}, job.output_topic: {}})
        if job.workload == STREAMS:
            await self._cluster.create_topics({job.table_topic: {}})
        if job.workload in TABLE:
            await self._cluster.create_topics({job.table_topic: {"cleanup.policy": "compact"}})
            await self._cluster.load(job.table_topic, self._input.table(job.workload))

    async def _load(self, start: int, stop: int) -> None:
        """Load a part of the input, and of the other stream that it is joined with."""
        if self._job.workload == STREAMS:
            await self._cluster.load(self._job.table_topic, self._input.logins(start, stop))
        await self._cluster.load(self._job.input_topic, self._input.stream(start, stop))

    async def _measure(self, process: SystemProcess) -> Timing:
        job = self._job
        if job.workload in TABLE:
            await self._wait(process, [job.table_topic], sum(map(len, self._input.table(job.workload))))
            await self._load(0, self._warm)
        await self._wait(process, [], self._warm)
        self._input.stream(self._warm, self._records)
        process.pause()
        paused = time.monotonic()
        await self._load(self._warm, self._records)
        if time.monotonic() - paused > FREEZE_LIMIT_S:
            msg = (
                f"loading took longer than {FREEZE_LIMIT_S:.0f} s, which its group does not survive; use fewer records"
            )
            raise RuntimeError(msg)
        cpu = process.cpu_seconds()
        process.resume()
        return await self._watch(process, time.monotonic(), cpu)

    async def _wait(self, process: SystemProcess, topics: Sequence[str], target: int) -> None:
        done, changed = 0, time.monotonic()
        while done < target:
            await asyncio.sleep(POLL_S)
            process.check()
            previous, done = done, await self._done(topics)
            if done > previous:
                changed = time.monotonic()
            elif time.monotonic() - changed > START_TIMEOUT_S:
                what = ", ".join(topics) or "the warm-up"
                msg = f"committed {done} of {target} records of {what}, then nothing for {START_TIMEOUT_S:.0f} s"
                raise RuntimeError(f"{msg}:\n{process.log_tail()}")

    async def _watch(self, process: SystemProcess, start: float, start_cpu: float) -> Timing:
        done, changed = self._warm, start
        midway = Timing(0, 0.0, 0.0, 0.0)
        while True:
            await asyncio.sleep(POLL_S)
            previous, done = done, await self._done([])
            now, cpu = time.monotonic(), process.cpu_seconds()
            timing = Timing(done - self._warm, now - start, cpu - start_cpu, now - start)
            if done >= self._records:
                break
            if done > previous:
                midway, changed = timing, now
            elif now - changed > STALL_TIMEOUT_S:
                msg = f"stood still at {done} of {self._records} records for {STALL_TIMEOUT_S:.0f} s"
                raise RuntimeError(f"{msg}:\n{process.log_tail()}")
            process.check()
        if midway.records * 2 < timing.records:  # too short a run for a commit in its middle: take all of it
            return timing
        return Timing(midway.records, midway.seconds, midway.cpu_seconds, timing.drained_s)

    async def _done(self, topics: Sequence[str]) -> int:
        """Committed records of the slowest of these topics; none named: of the input and every repartition topic."""
        sums = await self._cluster.committed(self._job.application_id, self._coordinator)
        if topics:
            return min(sums.get(topic, 0) for topic in topics)
        if self._job.workload in (STREAMS, FOREIGN_KEY):
            # Not every record makes one behind it, so what lies behind counts as a whole: read to its end, or not.
            ends = await self._cluster.ends(self._job.application_id)
            behind = [topic for topic in ends if topic == self._job.table_topic or "KTABLE-FK-JOIN-SUB" in topic]
            done = min(sums.get(self._job.input_topic, 0), self._records)
            return done - any(sums.get(topic, 0) < ends[topic] for topic in behind if not topic.endswith("changelog"))
        stages = {topic: offsets for topic, offsets in sums.items() if "repartition" in topic}
        if self._job.workload == "repartition" and not stages:
            return 0
        return min(sums.get(self._job.input_topic, 0), *stages.values(), self._records)

    async def _check(self) -> Verdict:
        job = self._job
        right = self._input.expected(job.workload, self._records)
        return await check(
            self._cluster, job.output_topic, job.workload, partial(self._system.decode, job.workload), right
        )
