"""What the harness itself does on the broker: topics, loading, watching committed offsets, reading results back.

It uses aiokafka as it comes, none of streamlib's own transport, so that no system under measurement is also the judge.
Next: `measure`, which drives one run with it.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import GroupCoordinatorNotAvailableError

from benchmarks.generate import Columns
from streamlib.testing.kafka_broker import KafkaBroker

BROKER_JAVA_OPTIONS = ("-Xms1g", "-Xmx1g")  # and the JVM's own choice of JIT and collector
BROKER_SETTINGS = {"log.retention.check.interval.ms": "3600000", "num.network.threads": "3"}
BATCH_BYTES = 1_000_000


def make_broker() -> KafkaBroker:
    """A broker for measuring: not started yet, its data in a temporary folder."""
    return KafkaBroker(java_options=BROKER_JAVA_OPTIONS, settings=BROKER_SETTINGS)


class Cluster:
    """The harness' connections to a broker; an async context manager. All topics have ``partitions`` partitions."""

    def __init__(self, address: str, partitions: int) -> None:
        self.address = address
        self.partitions = partitions
        self._admin: Any = AIOKafkaAdminClient(bootstrap_servers=address)
        self._offsets: Any = AIOKafkaConsumer(bootstrap_servers=address, enable_auto_commit=False)

    async def __aenter__(self) -> Self:
        await self._admin.start()
        await self._offsets.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._offsets.stop()
        await self._admin.close()

    async def create_topics(self, topics: Mapping[str, Mapping[str, str]]) -> None:
        """Create topics with their settings, and return once every partition has a leader.

        Retention is without end, since event times lie in the past.
        """
        wanted = [
            NewTopic(name, self.partitions, 1, topic_configs={"retention.ms": "-1", **configs})
            for name, configs in topics.items()
        ]
        response = await self._admin.create_topics(wanted)
        refused = [error for error in response.topic_errors if error[1] != 0]
        if refused:
            msg = f"the broker refused to create topics: {refused}"
            raise RuntimeError(msg)
        for _ in range(200):
            if all(map(_is_ready, await self._admin.describe_topics(list(topics)))):
                return
            await asyncio.sleep(0.05)
        msg = f"topics got no leader: {', '.join(topics)}"
        raise RuntimeError(msg)

    async def delete_topics_with(self, part: str) -> None:
        """Delete every topic whose name contains ``part``: a run's own and those its system made."""
        doomed = [name for name in await self._admin.list_topics() if part in name]
        if doomed:
            await self._admin.delete_topics(doomed)

    async def load(self, topic: str, parts: Sequence[Columns]) -> None:
        """Write columns to their partitions, all of them acknowledged at return."""
        producer: Any = AIOKafkaProducer(
            bootstrap_servers=self.address, max_batch_size=BATCH_BYTES, max_request_size=8 * BATCH_BYTES
        )
        await producer.start()
        try:
            loads = (_load_partition(producer, topic, number, part) for number, part in enumerate(parts))
            await asyncio.gather(*loads)
        finally:
            await producer.stop()

    async def committed(self, group: str, coordinator: int) -> dict[str, int]:
        """Committed offsets of a group, added up over the partitions of each topic."""
        offsets = await self._admin.list_consumer_group_offsets(group, group_coordinator_id=coordinator)
        sums: dict[str, int] = {}
        for tp, entry in offsets.items():
            sums[tp.topic] = sums.get(tp.topic, 0) + max(0, entry.offset)
        return sums

    async def ends(self, part: str) -> dict[str, int]:
        """End offsets of the topics whose names contain ``part``, added up over the partitions of each."""
        topics = [topic for topic in await self._admin.list_topics() if part in topic]
        tps = [TopicPartition(topic, partition) for topic in topics for partition in range(self.partitions)]
        ends = await self._offsets.end_offsets(tps)
        return {topic: sum(end for tp, end in ends.items() if tp.topic == topic) for topic in topics}

    async def coordinator(self, group: str) -> int:
        """Node id of the group's coordinator; the first question makes the broker create its offsets topic."""
        for _ in range(100):
            with suppress(GroupCoordinatorNotAvailableError):
                return int(await self._admin.find_coordinator(group))
            await asyncio.sleep(0.1)
        msg = f"the broker names no coordinator for group {group}"
        raise RuntimeError(msg)

    async def read(self, topic: str) -> AsyncIterator[Iterable[Any]]:
        """All records of a topic in runs of one partition, each with ``key``, ``value`` and ``timestamp``."""
        consumer: Any = AIOKafkaConsumer(
            bootstrap_servers=self.address,
            enable_auto_commit=False,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=8 * BATCH_BYTES,
            check_crcs=False,
        )
        await consumer.start()
        try:
            tps = [TopicPartition(topic, partition) for partition in range(self.partitions)]
            consumer.assign(tps)
            ends = await consumer.end_offsets(tps)
            await consumer.seek_to_beginning(*tps)
            while any([await consumer.position(tp) < ends[tp] for tp in tps]):
                for rows in (await consumer.getmany(timeout_ms=500, max_records=50_000)).values():
                    yield rows
        finally:
            await consumer.stop()


def _is_ready(topic: Mapping[str, Any]) -> bool:
    return topic["error_code"] == 0 and all(partition["leader"] >= 0 for partition in topic["partitions"])


async def _load_partition(producer: Any, topic: str, partition: int, part: Columns) -> None:
    sent = []
    batch = producer.create_batch()
    append = batch.append
    for key, value, timestamp in zip(part.keys, part.values, part.timestamps, strict=True):
        if append(key=key, value=value, timestamp=timestamp) is None:
            batch.close()
            sent.append(await producer.send_batch(batch, topic, partition=partition))
            batch = producer.create_batch()
            append = batch.append
            append(key=key, value=value, timestamp=timestamp)
    if batch.record_count():
        batch.close()
        sent.append(await producer.send_batch(batch, topic, partition=partition))
    await asyncio.gather(*sent)


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    pages, page_size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": models[0] if models else "unknown",
        "cores": os.cpu_count(),
        "memory_bytes": pages * page_size,
        "kernel": os.uname().release,
    }
