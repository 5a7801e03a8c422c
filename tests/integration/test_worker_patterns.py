"""Sources of patterns, and stores that are filled from a topic, on a real Kafka."""

import asyncio
import re
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from streamlib import Processor, Record, Stores, StreamsBuilder, TopologyBuilder, serdes
from streamlib.kafka_streams import KafkaStreams
from streamlib.record import TopicPartition
from streamlib.runtime import topic_watch
from streamlib.transport.base import TopicSpec
from streamlib.transport.kafka.transport import KafkaTransport
from tests.integration.counting import SETTINGS
from tests.runtime.conftest import read_all

pytestmark = [pytest.mark.kafka]

S = serdes.STRING


class Topics:
    """Topics of a test, which begin with a name of their own.

    Attributes:
        name: That name.
        folder: For state.
    """

    def __init__(self, broker: str, folder: Path, transport: KafkaTransport) -> None:
        self.name = f"t{uuid.uuid4().hex[:8]}"
        self.folder = folder
        self._broker = broker
        self._transport = transport

    async def create(self, *topics: str, partitions: int = 2) -> None:
        admin = await self._transport.admin()
        await admin.create_topics([TopicSpec(f"{self.name}-{topic}", partitions, 1) for topic in topics])
        await admin.close()

    async def delete(self, topic: str) -> None:
        admin = await self._transport.admin()
        await admin.delete_topics([f"{self.name}-{topic}"])
        await admin.close()

    async def write(self, topic: str, *rows: tuple[str, str], partitions: int = 2) -> None:
        producer = self._transport.producer()
        await producer.start()
        for number, (key, value) in enumerate(rows):
            tp = TopicPartition(f"{self.name}-{topic}", number % partitions)
            producer.append(tp, [key.encode()], [value.encode()], [number])
        await producer.flush()
        await producer.close()

    async def values(self, topic: str, count: int, seconds: float = 40) -> list[str]:
        """What is in a topic once it has so many records."""
        found: list[Any] = []
        async with asyncio.timeout(seconds):
            while len(found) < count:
                await asyncio.sleep(0.1)
                batches = await read_all(self._transport, f"{self.name}-{topic}")
                found = [value.decode() for batch in batches for value in batch.values]
        return sorted(found)

    def streams(self, topology: Any, worker: str = "w0") -> KafkaStreams:
        settings = {**SETTINGS, "state_dir": self.folder / worker, "commit_interval_ms": 100}
        return KafkaStreams(topology, settings, broker=f"kafka://{self._broker.removeprefix('kafka://')}")


@pytest.fixture
async def topics(kafka_broker: str, tmp_path: Path) -> AsyncIterator[Topics]:
    transport = KafkaTransport(kafka_broker.removeprefix("kafka://"))
    await transport.start()
    yield Topics(kafka_broker, tmp_path, transport)
    await transport.close()


@pytest.mark.slow
async def test_two_workers_read_the_topics_that_match_whenever_they_are_made(
    topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topic_watch, "SECONDS", 0.5)
    builder = StreamsBuilder(topics.name)
    builder.stream(re.compile(f"{topics.name}-in-.*"), S, S).to(f"{topics.name}-out")
    await topics.create("out", "other")
    async with AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(topics.streams(builder.build(), name)) for name in ("w0", "w1")]
        await topics.create("in-a")
        await topics.write("in-a", ("k", "a1"), ("l", "a2"))
        assert await topics.values("out", 2) == ["a1", "a2"]
        await topics.create("in-b")
        await topics.write("in-b", ("k", "b1"), ("l", "b2"))
        assert await topics.values("out", 4) == ["a1", "a2", "b1", "b2"]
        await topics.delete("in-a")
        await asyncio.sleep(3)
        await topics.write("in-b", ("k", "b3"), ("l", "b4"))
        assert await topics.values("out", 6) == ["a1", "a2", "b1", "b2", "b3", "b4"]
        assert not any(worker.failed for worker in workers)


class Fill(Processor[str, str, Any, Any]):
    """Puts rows as they come."""

    store = "names"

    def process(self, record: Record[str, str]) -> None:
        self.context.get_state_store(self.store).put(record.key, record.value)


class Titles(Fill):
    """The same in another store."""

    store = "titles"


class Greet(Processor[str, str, str, str]):
    """Adds what both stores have for the key."""

    def process(self, record: Record[str, str]) -> None:
        found = [self.context.get_state_store(store).get(record.key) for store in ("titles", "names")]
        self.context.forward(record.with_value(" ".join([record.value, *map(str, found)])))


@pytest.mark.slow
async def test_stores_of_topics_are_full_again_when_a_worker_starts_elsewhere(topics: Topics) -> None:
    name = topics.name
    builder = TopologyBuilder(name, default_key_serde=S, default_value_serde=S)
    builder.add_global_store(Stores.key_value_store("titles", S, S), "t-in", f"{name}-titles", "t-fill", Titles)
    builder.add_source("s-in", f"{name}-in").add_processor("greet", Greet, "s-in")
    builder.add_read_only_state_store(Stores.key_value_store("names", S, S), "n-in", f"{name}-names", "n-fill", Fill)
    builder.connect_processor_and_state_stores("greet", "names").add_sink("out", f"{name}-out", "greet")
    topology = builder.build()
    await topics.create("titles", "names", "in", "out")
    await topics.write("titles", ("a", "Dr"), ("b", "Mr"))
    await topics.write("names", ("a", "Ann"), ("b", "Bob"))
    async with topics.streams(topology):
        await asyncio.sleep(2)
        await topics.write("in", ("a", "hi"), ("b", "hi"))
        assert await topics.values("out", 2) == ["hi Dr Ann", "hi Mr Bob"]
    async with topics.streams(topology, "elsewhere"):
        await topics.write("in", ("a", "bye"), ("b", "bye"))
        assert await topics.values("out", 4) == ["bye Dr Ann", "bye Mr Bob", "hi Dr Ann", "hi Mr Bob"]
