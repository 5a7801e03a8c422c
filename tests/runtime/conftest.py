"""An application on the embedded broker: produce, run workers, wait until all is committed, read what came out."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from streamlib.kafka_streams import KafkaStreams
from streamlib.record import RecordBatch, TopicPartition
from streamlib.topology.topology import Topology
from streamlib.transport.base import TopicSpec, Transport
from streamlib.transport.memory import MemoryBroker, MemoryTransport
from streamlib.transport.partitioner import Partitioner

Row = tuple[str | None, str | None, int]


class Application:
    """One application id on one broker.

    Attributes:
        state_dir: Each worker gets a folder of its own below it.
        guarantee: The processing guarantee of its workers.
    """

    def __init__(self, broker: MemoryBroker, state_dir: Path, guarantee: str) -> None:
        self.broker = broker
        self.state_dir = state_dir
        self.guarantee = guarantee
        self._partitioner = Partitioner()

    def transport(self) -> Transport:
        return MemoryTransport(self.broker)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Transport]:
        transport = self.transport()
        await transport.start()
        try:
            yield transport
        finally:
            await transport.close()

    async def create(self, partitions: int = 2, *topics: str, **configs: str) -> None:
        async with self.opened() as transport:
            admin = await transport.admin()
            await admin.create_topics([TopicSpec(topic, partitions, 1, configs) for topic in topics])
            await admin.close()

    async def produce(self, topic: str, rows: Iterable[tuple[Any, Any, int]], headers: Any = None) -> None:
        """Rows are (key, value, timestamp); text becomes UTF-8, bytes and None stay."""
        async with self.opened() as transport:
            admin = await transport.admin()
            count = (await admin.partition_counts([topic]))[topic]
            producer = transport.producer()
            await producer.start()
            for key, value, timestamp in rows:
                raw = [part.encode() if isinstance(part, str) else part for part in (key, value)]
                partition = self._partitioner.partitions(topic, [raw[0]], count)[0]
                producer.append(TopicPartition(topic, partition), [raw[0]], [raw[1]], [timestamp], headers)
            await producer.flush()
            await producer.close()
            await admin.close()

    async def read(self, topic: str) -> list[tuple[bytes | None, bytes | None, int]]:
        """All records of a topic, partition by partition."""
        async with self.opened() as transport:
            batches = await read_all(transport, topic)
        return [row for batch in batches for row in zip(batch.keys, batch.values, batch.timestamps, strict=True)]

    async def lag(self, group: str, topics: Iterable[str]) -> int | None:
        """Records of ``topics`` that the group has not committed; None while a partition has no commit."""
        async with self.opened() as transport:
            admin = await transport.admin()
            counts = await admin.partition_counts(list(topics))
            tps = [TopicPartition(topic, number) for topic, count in counts.items() for number in range(count)]
            ends = await admin.end_offsets(tps)
            committed = await admin.group_offsets(group)
            await admin.close()
        if any(tp not in committed and ends[tp] > 0 for tp in tps):
            return None
        return sum(ends[tp] - committed[tp].offset for tp in tps if tp in committed)

    def streams(self, topology: Topology, *, worker: str = "w0", **settings: Any) -> KafkaStreams:
        defaults = {
            "commit_interval_ms": 50,
            "state_dir": self.state_dir / worker,
            "processing_guarantee": self.guarantee,
            "transaction_timeout_ms": max(40_000, 2 * settings.get("commit_interval_ms", 0)),
        }
        return KafkaStreams(topology, {**defaults, **settings}, transport=self.transport())

    async def drained(self, streams: KafkaStreams, *topics: str, seconds: float = 20) -> None:
        """Return once everything in ``topics`` is processed and committed; raise what stops the worker before."""
        group = streams.config.application_id
        async with asyncio.timeout(seconds):
            while await self.lag(group, topics) != 0:
                await asyncio.wait([asyncio.ensure_future(streams.wait())], timeout=0.02)
                if streams.failed:
                    await streams.wait()

    async def run(self, topology: Topology, *topics: str, worker: str = "w0", **settings: Any) -> KafkaStreams:
        """Run one worker until ``topics`` are drained, and stop it."""
        async with self.streams(topology, worker=worker, **settings) as streams:
            await self.drained(streams, *topics)
        return streams


async def read_all(transport: Transport, topic: str) -> list[RecordBatch]:
    admin = await transport.admin()
    counts = await admin.partition_counts([topic])
    tps = [TopicPartition(topic, number) for number in range(counts[topic])]
    ends = await admin.end_offsets(tps)
    firsts = await admin.beginning_offsets(tps)
    await admin.close()
    consumer = transport.consumer()
    await consumer.start()
    batches: list[RecordBatch] = []
    try:
        consumer.assign({tp: firsts[tp] for tp in tps})
        while any((consumer.position(tp) or 0) < ends[tp] for tp in tps):
            batches += (await consumer.poll(tps, max_records=10_000, timeout_ms=20)).values()
    finally:
        await consumer.close()
    return batches


@pytest.fixture(params=["at_least_once", "exactly_once_v2"])
async def app(request: pytest.FixtureRequest, tmp_path: Path) -> Application:
    return Application(MemoryBroker(), tmp_path, request.param)
