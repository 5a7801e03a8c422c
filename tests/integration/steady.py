"""An application under a steady load, one key to a partition, and when each partition was written: how long it paused.

The broker stamps the output, so a pause is measured where it is felt, without the clocks of workers.
"""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from streamlib import StreamsBuilder, serdes
from streamlib.record import TopicPartition
from streamlib.topology.topology import Topology
from streamlib.transport.base import TopicSpec
from streamlib.transport.kafka.transport import KafkaTransport
from streamlib.transport.partitioner import Partitioner
from tests.integration.counting import Counting

EVERY_SECONDS = 0.02

APP = """
from tests.integration.steady import steady

topology = steady({name!r})
"""


def steady(name: str) -> Topology:
    """Count the records of each key of ``name-in`` to ``name-out``; one task for each partition."""
    builder = StreamsBuilder(name)
    (
        builder.stream(f"{name}-in", serdes.STRING, serdes.STRING)
        .group_by_key()
        .count(store="counts")
        .to_stream()
        .to(f"{name}-out")
    )
    return builder.build()


class Steady(Counting):
    """The application on a broker; ``expected`` is how often each key was written."""

    def __init__(self, broker: str, folder: Path) -> None:
        super().__init__(broker, folder)
        self._reading = KafkaTransport(broker)
        self._keys: list[str] = []

    async def create(self, partitions: int) -> None:
        """Make the topics."""
        self._partitions = partitions
        partitioner = Partitioner()
        by_partition: dict[int, str] = {}
        for number in range(100 * partitions):
            key = f"key-{number}"
            by_partition.setdefault(partitioner.partitions("t", [key.encode()], partitions)[0], key)
        self._keys = [by_partition[partition] for partition in range(partitions)]
        admin = await self.admin()
        stamped = {"message.timestamp.type": "LogAppendTime"}
        await admin.create_topics(
            [TopicSpec(f"{self.name}-in", partitions, 1), TopicSpec(f"{self.name}-out", partitions, 1, stamped)]
        )
        (self.folder / "app.py").write_text(APP.format(name=self.name))

    @asynccontextmanager
    async def steady_load(self) -> AsyncIterator[None]:
        """Write a record to each partition every 20 ms, until the block ends; then everything has arrived."""
        producer = self._reading.producer()
        await producer.start()
        stop = asyncio.Event()

        async def go_on() -> None:
            while not stop.is_set():
                for partition, key in enumerate(self._keys):
                    now_ms = time.time_ns() // 1_000_000
                    producer.append(TopicPartition(f"{self.name}-in", partition), [key.encode()], [b"x"], [now_ms])
                    self.expected[key] += 1
                await asyncio.sleep(EVERY_SECONDS)

        writing = asyncio.create_task(go_on())
        try:
            yield
            stop.set()
            await writing
            await producer.flush()
        finally:
            stop.set()
            await asyncio.wait([writing])
            await producer.kill()

    async def uncommitted(self) -> int:
        """Records of the input that are not committed."""
        admin = await self.admin()
        tps = [TopicPartition(f"{self.name}-in", number) for number in range(self._partitions)]
        ends = await admin.end_offsets(tps)
        held = await admin.group_offsets(self.name)
        return sum(ends[tp] - (held[tp].offset if tp in held else 0) for tp in tps)

    async def written_at(self) -> dict[int, list[int]]:
        """For each partition, when the broker got each output record, in ms."""
        admin = await self.admin()
        tps = [TopicPartition(f"{self.name}-out", number) for number in range(self._partitions)]
        ends = await admin.end_offsets(tps)
        consumer = self._reading.consumer(isolation="read_uncommitted")
        await consumer.start()
        times: dict[int, list[int]] = {tp.partition: [] for tp in tps}
        try:
            consumer.assign(dict.fromkeys(tps, 0))
            while any((consumer.position(tp) or 0) < ends[tp] for tp in tps):
                for tp, batch in (await consumer.poll(tps, max_records=100_000, timeout_ms=100)).items():
                    times[tp.partition] += batch.timestamps
        finally:
            await consumer.close()
        return times


def now_ms() -> int:
    """The broker's clock, which is this machine's."""
    return time.time_ns() // 1_000_000


def longest_gaps(times: Mapping[int, list[int]], since_ms: int, until_ms: int) -> dict[int, int]:
    """For each partition the longest time without output in that span, in ms."""
    gaps = {}
    for partition, written in times.items():
        inside = [since_ms, *(at for at in written if since_ms <= at <= until_ms), until_ms]
        gaps[partition] = max(later - earlier for earlier, later in itertools.pairwise(inside))
    return gaps
