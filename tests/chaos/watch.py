"""Looks on while it goes: is anybody stuck, how large do workers get, how much of a changelog is read again."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from tests.chaos.counters import Counters
from tests.chaos.growth import Sample, peaks, typical
from tests.chaos.load import PARTITIONS
from tests.chaos.slots import Slot
from tests.chaos.topology import INPUTS, REPARTITION, topic

LOOK_SECONDS = 0.25


@dataclass
class Seen:
    """What was seen.

    Attributes:
        longest_stall_s: The longest time in which one partition of the input had records and none was committed.
        restores: How many changelogs workers began to read.
        replayed_records: How many records these had.
        replayed_again: Records among them that the same state directory had already.
        dropped: Records that workers say they have left out, as dropped or as dead letters.
        dropped_by: The same by counter and labels.
        counters_answers: How often workers were asked for that, and answered.
        rss_mb: The largest resident set of a worker.
        descriptors: The most files a worker had open.
        threads: The most threads of a worker.
        long_lives: Workers that lived long enough to see whether they grow.
        rss_growth_percent: The median of how much their resident set grew; None without such workers.
        descriptors_growth: The same of open files, of each store engine only one.
        threads_growth: The same of threads.
        peaks: The most of each that any worker had, for each tenth of the run.
    """

    longest_stall_s: float = 0.0
    restores: int = 0
    replayed_records: int = 0
    replayed_again: int = 0
    dropped: int = 0
    dropped_by: dict[str, int] = field(default_factory=dict)
    counters_answers: int = 0
    rss_mb: float = 0.0
    descriptors: int = 0
    threads: int = 0
    long_lives: int = 0
    rss_growth_percent: float | None = None
    descriptors_growth: float | None = None
    threads_growth: float | None = None
    peaks: dict[str, list[float]] = field(default_factory=dict)


def measured(pid: int, tasks: int, state: Path) -> Sample | None:
    """A look at a process that has so many tasks and a state directory; None if it has ended."""
    process = Path("/proc") / str(pid)
    try:
        words = (process / "status").read_text().split()
        files = [_target(each) for each in (process / "fd").iterdir()]
    except OSError:
        return None
    if "VmRSS:" not in words:  # nobody has noticed yet
        return None
    rss_mb, threads = int(words[words.index("VmRSS:") + 1]) / 1024, int(words[words.index("Threads:") + 1])
    lasting = sum(1 for path in files if not path.is_relative_to(state) or path.name == "LOCK")
    return Sample(time.monotonic(), tasks, round(rss_mb, 1), len(files), lasting, threads)


def _target(descriptor: Path) -> Path:
    try:
        return descriptor.readlink()
    except OSError:  # it was closed
        return descriptor


class Watch:
    """Looks at the broker and at the processes, again and again.

    Attributes:
        seen: What was seen so far, but for what `summed` adds.
        counters: What workers say themselves.
        committed: Input records that are committed.
        pending: Input records that are written and not committed.
        behind: The input partitions that have such records, and since when none of theirs was committed.
    """

    def __init__(self, broker: str, application: str, slots: Sequence[Slot]) -> None:
        self.counters = Counters(slots)
        self.seen = Seen()
        self.committed = 0
        self.pending = 0
        self._application = application
        self._slots = slots
        self._lives: defaultdict[tuple[int, int], list[Sample]] = defaultdict(list)  # by slot and process
        self._admin = AIOKafkaAdminClient(bootstrap_servers=broker)
        self._reader = AIOKafkaConsumer(
            bootstrap_servers=broker, isolation_level="read_uncommitted", enable_auto_commit=False
        )
        self._stable = AIOKafkaConsumer(
            bootstrap_servers=broker, isolation_level="read_committed", enable_auto_commit=False
        )
        self._inputs = [TopicPartition(topic(application, side), n) for side in INPUTS for n in range(PARTITIONS)]
        self.behind: dict[TopicPartition, float] = {}
        self._offsets: dict[TopicPartition, int] = {}
        self._held: dict[tuple[int, TopicPartition], int] = {}  # by slot and changelog: what its state must have
        self._reading: dict[tuple[int, TopicPartition], int] = {}

    async def start(self) -> None:
        """Connect."""
        await self._admin.start()
        await self._reader.start()
        await self._stable.start()

    async def close(self) -> None:
        """Disconnect."""
        await self._stable.stop()
        await self._reader.stop()
        await self._admin.close()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Look once."""
        for slot in self._slots:
            slot.tend()
            if (pid := slot.pid) is not None and (sample := measured(pid, slot.tasks, slot.state)) is not None:
                self._lives[slot.number, pid].append(sample)
        held = await self.committed_offsets()
        ends = await self._reader.end_offsets(self._inputs)
        now = time.monotonic()
        for tp, end in ends.items():
            offset = held.get(tp, 0)
            moved = offset != self._offsets.get(tp)
            self._offsets[tp] = offset
            since = self.behind.get(tp)
            if since is not None:
                self.seen.longest_stall_s = max(self.seen.longest_stall_s, round(now - since, 2))
            if offset >= end:
                self.behind.pop(tp, None)
            elif moved or since is None:
                self.behind[tp] = now
        self.committed = sum(self._offsets.values())
        self.pending = sum(ends.values()) - self.committed
        self._look_at_restores()

    async def committed_offsets(self) -> dict[TopicPartition, int]:
        """Where the group has come to."""
        try:
            held = await self._admin.list_consumer_group_offsets(self._application)
        except KafkaError:  # no coordinator yet
            return {}
        return {tp: at.offset for tp, at in held.items() if at.offset >= 0}

    async def uncommitted(self) -> int:
        """How many records of the inputs and of the repartition topic are left to do, by reading those of the latter.

        Behind its last record there is the mark of a transaction, so offsets alone do not tell.
        """
        await self.look()
        if self.pending:
            return self.pending
        held = await self.committed_offsets()
        tps = [TopicPartition(topic(self._application, REPARTITION), number) for number in range(PARTITIONS)]
        ends = await self._reader.end_offsets(tps)
        left = {tp for tp in tps if held.get(tp, 0) < ends[tp]}
        self._stable.assign(list(left))
        for tp in left:
            self._stable.seek(tp, held.get(tp, 0))
        count = 0
        deadline = time.monotonic() + 5.0
        while left and time.monotonic() < deadline:
            fetched = await self._stable.getmany(*left, timeout_ms=100)
            count += sum(len(records) for records in fetched.values())
            left = {tp for tp in left if await self._stable.position(tp) < ends[tp]}
        return count + len(left)

    def summed(self) -> Seen:
        """Everything that was seen."""
        seen, samples = self.seen, [sample for life in self._lives.values() for sample in life]
        seen.dropped_by = self.counters.dropped
        seen.dropped = sum(seen.dropped_by.values())
        seen.counters_answers = self.counters.answers
        seen.rss_mb = max((sample.rss_mb for sample in samples), default=0.0)
        seen.descriptors = max((sample.descriptors for sample in samples), default=0)
        seen.threads = max((sample.threads for sample in samples), default=0)
        seen.long_lives, grown = typical(self._lives.values())
        if grown is not None:
            seen.rss_growth_percent, seen.descriptors_growth, seen.threads_growth = grown
        seen.peaks = peaks(self._lives.values())
        return seen

    def _look_at_restores(self) -> None:
        """Compare where workers begin to read changelogs with where their state directories had come to."""
        for slot in self._slots:
            events, slot.restores = slot.restores, []
            for name, partition, offsets in events:
                at = slot.number, TopicPartition(name, partition)
                if offsets is None:
                    self._held[at] = self._reading.pop(at, 0)
                else:
                    start, end = offsets
                    self.seen.restores += 1
                    self.seen.replayed_records += end - start
                    self.seen.replayed_again += max(0, self._held.get(at, 0) - start)
                    self._reading[at] = end
