"""What only the Kafka driver's consumer can get wrong: foreign batches, deleted topics, failing callbacks."""

import asyncio
import gc
import logging
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.protocol.commit import OffsetCommitRequest
from aiokafka.structs import TopicPartition as KafkaTopicPartition

from streamlib.errors import CommitError, ConfigError, InternalTopicError, MissingTopicError, OffsetOutOfRangeError
from streamlib.record import FetchedBatch, TopicPartition
from streamlib.transport.base import GroupOptions, OffsetAndMetadata, TopicSpec
from streamlib.transport.kafka.client import KafkaClient
from streamlib.transport.kafka.consumer import KafkaConsumer
from streamlib.transport.kafka.transport import KafkaTransport

pytestmark = pytest.mark.kafka


class Dealer:
    """Gives every partition to the first member, or raises."""

    name = "dealer"
    raises: Exception | None = None

    def subscription(self):
        return b""

    def assign(self, partitions, members):
        if self.raises is not None:
            raise self.raises
        everything = [TopicPartition(topic, number) for topic in partitions for number in range(partitions[topic])]
        first, *others = sorted(members)
        return {first: (everything, b"all"), **{other: ([], b"none") for other in others}}

    def assigned(self, partitions, user_data):
        pass


class Listener:
    """Remembers the last assignment; can take its time, or raise."""

    group = None
    pause = 0.0
    raises: Exception | None = None

    async def on_revoked(self, partitions):
        await asyncio.sleep(self.pause)
        if self.raises is not None:
            raise self.raises

    async def on_assigned(self, partitions, group):
        self.group = group


class Closing(KafkaTransport):
    """Closes what a failing test leaves open."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.made: list[KafkaConsumer] = []

    def consumer(self, *arguments: Any, **settings: Any) -> Any:
        self.made.append(super().consumer(*arguments, **settings))
        return self.made[-1]


@pytest.fixture
async def transport(kafka_broker: str) -> AsyncIterator[KafkaTransport]:
    made = Closing(kafka_broker)
    yield made
    for consumer in made.made:
        await consumer.close()


@pytest.fixture
async def topic(transport: KafkaTransport) -> AsyncIterator[str]:
    name = f"reading-{uuid.uuid4().hex[:12]}"
    admin = await transport.admin()
    await admin.create_topics([TopicSpec(name, 2, 1)])
    yield name
    await admin.delete_topics([name])
    await admin.close()


def options(topic: str, dealer: Dealer, listener: Listener, group_id: str = "", **settings: int) -> GroupOptions:
    settings = {"session_timeout_ms": 6_000, "heartbeat_interval_ms": 100, **settings}
    return GroupOptions(group_id or uuid.uuid4().hex, frozenset({topic}), dealer, listener, **settings)


async def joined(consumer: KafkaConsumer, listener: Listener, generation: int = 0) -> None:
    async with asyncio.timeout(15):
        while listener.group is None or listener.group.generation <= generation:
            await consumer.poll((), max_records=1, timeout_ms=20)


async def poll_on(consumer: KafkaConsumer, tp: TopicPartition) -> None:
    async with asyncio.timeout(15):
        while True:
            await consumer.poll([tp], max_records=1, timeout_ms=100)


async def read_all(consumer: KafkaConsumer, ends: Mapping[TopicPartition, int], step: int) -> dict:
    """Everything up to ``ends``, as rows, polled in steps of changing size."""
    rows: dict[TopicPartition, list[tuple[object, ...]]] = {tp: [] for tp in ends}
    async with asyncio.timeout(15):
        while any((consumer.position(tp) or 0) < end for tp, end in ends.items()):
            for tp, batch in (await consumer.poll(list(ends), max_records=step, timeout_ms=200)).items():
                rows[tp] += as_rows(batch)
                assert batch.next_offset >= batch.offsets[-1] + 1
            step = step * 3 % 97 + 1
    return rows


def as_rows(batch: FetchedBatch) -> list[tuple[object, ...]]:
    headers = batch.headers or [()] * len(batch)
    columns = (batch.offsets, batch.timestamps, batch.keys, batch.values, map(tuple, headers))
    return list(zip(*columns, strict=True))


async def write_mixture(address: str, topic: str) -> None:
    """Batches of every codec, aborted and committed transactions between each other, headers here and there."""
    for codec in (None, "gzip", "lz4", "snappy", "zstd"):
        producer = AIOKafkaProducer(bootstrap_servers=address, compression_type=codec, linger_ms=5)
        await producer.start()
        for number in range(120):
            key = None if number % 7 == 0 else b"k%d" % number
            value = None if key and number % 5 == 0 else b"%s %d" % (str(codec).encode(), number)
            headers = [("h", b"%d" % number), ("none", None)] if number % 50 == 49 else None
            partition, when = number % 2, 1_000 + number
            await producer.send(topic, value, key, partition=partition, timestamp_ms=when, headers=headers)
        await producer.stop()
    writers = [AIOKafkaProducer(bootstrap_servers=address, transactional_id=uuid.uuid4().hex) for _ in range(2)]
    for writer in writers:
        await writer.start()
    for ends in (("commit", "abort"), ("abort", "commit"), ("abort", "abort"), ("commit", "commit")):
        for writer in writers:
            await writer.begin_transaction()
        for number in range(20):
            await writers[number % 2].send_and_wait(topic, b"%s %d" % (ends[number % 2].encode(), number), partition=0)
        for writer, end in zip(writers, ends, strict=True):
            await getattr(writer, f"{end}_transaction")()
    for writer in writers:
        await writer.stop()


@pytest.mark.parametrize("isolation", ["read_committed", "read_uncommitted"])
async def test_columns_equal_plain_records_when_batches_are_of_every_kind(transport, kafka_broker, topic, isolation):
    await write_mixture(kafka_broker, topic)
    tps = [TopicPartition(topic, 0), TopicPartition(topic, 1)]
    plain = AIOKafkaConsumer(
        bootstrap_servers=kafka_broker,
        isolation_level=isolation,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    await plain.start()
    plain.assign([KafkaTopicPartition(*tp) for tp in tps])
    admin = await transport.admin()
    ends = await admin.end_offsets(tps)
    await admin.close()
    expected: dict[TopicPartition, list[tuple[object, ...]]] = {tp: [] for tp in tps}
    async with asyncio.timeout(15):
        while any([await plain.position(KafkaTopicPartition(*tp)) < ends[tp] for tp in tps]):
            for tp, records in (await plain.getmany(timeout_ms=200)).items():
                expected[TopicPartition(*tp)] += [(r.offset, r.timestamp, r.key, r.value, r.headers) for r in records]
    await plain.stop()
    consumer = transport.consumer(isolation=isolation)
    await consumer.start()
    for start, step in ((0, 1), (0, 50), (13, 7), (250, 1_000)):
        consumer.assign(dict.fromkeys(tps, start))
        rows = await read_all(consumer, ends, step)
        assert rows == {tp: [row for row in expected[tp] if row[0] >= start] for tp in tps}
    assert any("abort" in str(row[3]) for row in expected[tps[0]]) is (isolation == "read_uncommitted")
    await consumer.close()


async def test_poll_names_the_topic_when_it_was_deleted(transport, topic):
    tp = TopicPartition(topic, 0)
    consumer = transport.consumer()
    await consumer.start()
    consumer.assign({tp: 0})
    assert await consumer.poll([tp], max_records=1, timeout_ms=300) == {}
    admin = await transport.admin()
    await admin.delete_topics([topic])
    with pytest.raises(MissingTopicError, match=topic):
        await poll_on(consumer, tp)
    await admin.close()
    await consumer.close()


async def test_out_of_range_tells_the_bounds_and_the_loss_when_records_were_deleted(transport, topic):
    tp = TopicPartition(topic, 0)
    producer = transport.producer()
    await producer.start()
    producer.append(tp, [b"k"] * 30, [b"v"] * 30, [1] * 30)
    await producer.close()
    admin = await transport.admin()
    await admin.delete_records({tp: 20})
    await admin.close()
    consumer = transport.consumer()
    await consumer.start()
    consumer.assign({tp: 5})
    with pytest.raises(OffsetOutOfRangeError, match=r"partition=0 offset=5 .*20 to 30, so 15 are lost"):
        await poll_on(consumer, tp)
    await consumer.close()


async def test_poll_raises_the_assignors_own_error_when_it_refuses(transport, topic):
    dealer, listener = Dealer(), Listener()
    dealer.raises = InternalTopicError("words has 3 partitions, not 2")
    consumer = transport.consumer(options(topic, dealer, listener))
    await consumer.start()
    with pytest.raises(InternalTopicError, match="words has 3"):
        await joined(consumer, listener)
    await consumer.close()


async def test_poll_raises_when_the_listener_did(transport, topic):
    listener = Listener()
    consumer = transport.consumer(options(topic, Dealer(), listener))
    await consumer.start()
    await joined(consumer, listener)
    listener.raises = ValueError("a bug of ours")
    consumer._membership._coordinator.request_rejoin()
    with pytest.raises(ValueError, match="a bug of ours"):
        await joined(consumer, listener, listener.group.generation + 1)
    await consumer.close()


async def test_poll_explains_when_the_broker_refuses_the_session_timeout(transport, topic):
    consumer = transport.consumer(options(topic, Dealer(), Listener(), session_timeout_ms=10))
    await consumer.start()
    with pytest.raises(ConfigError, match=r"group\.min\.session\.timeout\.ms"):
        await joined(consumer, Listener())
    await consumer.close()


@pytest.mark.alone
async def test_poll_returns_in_time_when_a_rebalance_takes_longer(transport, topic):
    listener, second = Listener(), Listener()
    consumer = transport.consumer(options(topic, Dealer(), listener, "slow-" + topic))
    await consumer.start()
    await joined(consumer, listener)
    listener.pause, generation = 1.5, listener.group.generation
    other = transport.consumer(options(topic, Dealer(), second, "slow-" + topic))
    await other.start()
    loop, longest = asyncio.get_running_loop(), 0.0
    async with asyncio.timeout(15):
        while listener.group.generation == generation:
            before = loop.time()
            await consumer.poll([TopicPartition(topic, 0)], max_records=1, timeout_ms=100)
            longest = max(longest, loop.time() - before)
    assert longest < 1.0
    await joined(other, second)
    await consumer.close()
    await other.close()


async def test_commit_is_refused_when_made_under_an_old_generation(transport, topic):
    listener = Listener()
    consumer = transport.consumer(options(topic, Dealer(), listener))
    await consumer.start()
    await joined(consumer, listener)
    old = listener.group
    consumer._membership._coordinator.request_rejoin()
    await joined(consumer, listener, old.generation)
    consumer._membership._listener.group = old  # as a worker that slept through the rebalance
    with pytest.raises(CommitError, match=f"generation={old.generation}"):
        await consumer.commit({TopicPartition(topic, 0): OffsetAndMetadata(1)})
    assert await consumer.committed([TopicPartition(topic, 0)]) == {TopicPartition(topic, 0): None}
    await consumer.close()


async def test_missing_topic_is_not_created_when_asked_about(transport, topic):
    """Brokers of old clients create topics on a metadata request: ours never asks for that."""
    tp = TopicPartition(f"absent-{topic}", 0)
    admin = await transport.admin()
    consumer = transport.consumer()
    await consumer.start()
    consumer.assign({tp: 0})
    with pytest.raises(MissingTopicError):
        await poll_on(consumer, tp)
    assert await admin.partition_counts([tp.topic]) == {}
    await consumer.close()
    await admin.close()


async def test_answers_are_freed_at_once_when_their_records_were_handed_out(transport, topic):
    tps = [TopicPartition(topic, number) for number in range(2)]
    producer = transport.producer()
    await producer.start()
    for number in range(8):
        producer.append(tps[number % 2], [None] * 500, [bytes(1_000)] * 500, [1] * 500)
        await producer.flush()
    await producer.close()
    consumer = transport.consumer()
    await consumer.start()

    def kept() -> int:
        return sum(isinstance(each, PartitionRecords) for each in gc.get_objects())

    gc.collect()
    before = kept()
    gc.disable()
    try:
        for _ in range(5):
            consumer.assign(dict.fromkeys(tps, 0))
            await read_all(consumer, dict.fromkeys(tps, 2_000), 1_000)
        assert kept() - before <= len(tps)  # what it has fetched and not handed out
    finally:
        gc.enable()


async def test_no_record_is_logged_when_everything_is_set_to_debug(kafka_broker, topic, caplog):
    caplog.set_level(logging.DEBUG)
    transport = KafkaTransport(kafka_broker)
    tp = TopicPartition(topic, 0)
    producer = transport.producer()
    await producer.start()
    producer.append(tp, [b"canary-key"], [b"canary-value"], [1])
    await producer.close()
    consumer = transport.consumer()
    await consumer.start()
    consumer.assign({tp: 0})
    async with asyncio.timeout(15):
        while not await consumer.poll([tp], max_records=1, timeout_ms=100):
            pass
    await consumer.close()
    assert "canary" not in caplog.text


@pytest.mark.parametrize("code", [22, 25, 27, 82])
async def test_commit_is_refused_when_the_broker_answers_that_the_group_moved_on(transport, topic, monkeypatch, code):
    listener = Listener()
    consumer = transport.consumer(options(topic, Dealer(), listener))
    await consumer.start()
    await joined(consumer, listener)
    send, answered = KafkaClient.send, []

    async def refused(self, node, request, **settings):
        answer = await send(self, node, request, **settings)
        if isinstance(request, OffsetCommitRequest):
            answered.append(code)
            answer.topics = [(topic, [(0, code)])]
        return answer

    monkeypatch.setattr(KafkaClient, "send", refused)
    with pytest.raises(CommitError, match=rf" {code}\)"):
        await consumer.commit({TopicPartition(topic, 0): OffsetAndMetadata(1)})
    assert answered == [code]
    await consumer.close()


async def test_commit_is_tried_again_when_the_coordinator_has_moved(transport, topic, monkeypatch):
    listener = Listener()
    consumer = transport.consumer(options(topic, Dealer(), listener))
    await consumer.start()
    await joined(consumer, listener)
    send, codes = KafkaClient.send, [16, 14, 15]

    async def moved(self, node, request, **settings):
        answer = await send(self, node, request, **settings)
        if isinstance(request, OffsetCommitRequest) and codes:
            answer.topics = [(topic, [(0, codes.pop())])]
        return answer

    monkeypatch.setattr(KafkaClient, "send", moved)
    tp = TopicPartition(topic, 0)
    await consumer.commit({tp: OffsetAndMetadata(3)})
    assert codes == []
    assert await consumer.committed([tp]) == {tp: OffsetAndMetadata(3)}
    await consumer.close()
