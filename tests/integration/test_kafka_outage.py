"""A broker that stops, freezes or dies: the driver waits, says so in bounded time, and goes on by itself."""

import asyncio
import uuid

import pytest

from streamlib.errors import BrokerUnavailableError, StreamlibError
from streamlib.record import TopicPartition
from streamlib.testing.kafka_broker import KafkaBroker
from streamlib.transport.base import GroupOptions, OffsetAndMetadata, TopicSpec
from streamlib.transport.kafka.transport import KafkaTransport

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
OUTAGE_S = 12.0


class Alone:
    """Assignor and listener of a group of one."""

    name = "alone"

    def __init__(self):
        self.heard = []
        self.group = None

    def subscription(self):
        return b""

    def assign(self, partitions, members):
        everything = [TopicPartition(topic, number) for topic in partitions for number in range(partitions[topic])]
        return dict.fromkeys(members, (everything, b""))

    def assigned(self, partitions, user_data):
        pass

    async def on_revoked(self, partitions):
        self.heard.append("revoked")

    async def on_assigned(self, partitions, group):
        self.heard.append("assigned")
        self.group = group


async def new_topic(transport: KafkaTransport) -> TopicPartition:
    name = f"outage-{uuid.uuid4().hex[:12]}"
    admin = await transport.admin()
    await admin.create_topics([TopicSpec(name, 1, 1)])
    await admin.close()
    return TopicPartition(name, 0)


async def test_reading_and_writing_resume_without_loss_when_the_broker_was_away(kafka_cluster: KafkaBroker):
    transport, alone = KafkaTransport(kafka_cluster.address), Alone()
    tp = await new_topic(transport)
    group = GroupOptions(
        f"group-{tp.topic}", frozenset({tp.topic}), alone, alone, session_timeout_ms=30_000, heartbeat_interval_ms=500
    )
    consumer, producer = transport.consumer(group), transport.producer()
    await consumer.start()
    await producer.start()
    written, read, errors = 0, [], []
    loop = asyncio.get_running_loop()

    async def step() -> None:
        nonlocal written
        if alone.group is not None and consumer.position(tp) is None:
            consumer.seek(tp, len(read))
        producer.append(tp, [b"k"], [b"%d" % written], [1])
        written += 1
        await poll()

    async def poll() -> None:
        try:
            for batch in (await consumer.poll([tp], max_records=1_000, timeout_ms=50)).values():
                read.extend(batch.values)
        except BrokerUnavailableError as error:
            errors.append(error)

    async def steps(seconds: float) -> None:
        until = loop.time() + seconds
        while loop.time() < until:
            await step()

    async with asyncio.timeout(20):
        while len(read) < 20:
            await step()
    await asyncio.to_thread(kafka_cluster.stop)
    try:
        before = len(read)
        await steps(OUTAGE_S)
        assert len(read) - before < 10  # at most what had been fetched
    finally:
        await asyncio.to_thread(kafka_cluster.start)
    await steps(1.0)
    async with asyncio.timeout(30):
        assert await producer.flush() == {tp: written}
        while len(read) < written:
            await poll()
    assert read == [b"%d" % number for number in range(written)]
    async with asyncio.timeout(30):
        await consumer.commit({tp: OffsetAndMetadata(written)})
        assert await consumer.committed([tp]) == {tp: OffsetAndMetadata(written)}
    assert errors == []
    await producer.close()
    await consumer.close()


async def test_transaction_is_replaced_when_the_broker_was_killed_inside_it(kafka_cluster: KafkaBroker):
    transport = KafkaTransport(kafka_cluster.address)
    tp, name = await new_topic(transport), uuid.uuid4().hex
    producer = transport.producer(name)
    await producer.start()
    await producer.begin()
    producer.append(tp, [b"k"], [b"first"], [1])
    await producer.flush()
    await asyncio.to_thread(kafka_cluster.kill)
    await asyncio.to_thread(kafka_cluster.start)
    producer.append(tp, [b"k"], [b"second"], [1])
    outcome = "committed"
    try:
        async with asyncio.timeout(60):
            await producer.commit()
    except StreamlibError:
        outcome = "lost"
    await producer.kill()
    heir = transport.producer(name)
    async with asyncio.timeout(60):
        await heir.start()
        await heir.begin()
        heir.append(tp, [b"k"], [b"heir"], [1])
        await heir.commit()
    consumer = transport.consumer()
    await consumer.start()
    consumer.assign({tp: 0})
    read = []
    async with asyncio.timeout(30):
        while b"heir" not in read:
            for batch in (await consumer.poll([tp], max_records=100, timeout_ms=100)).values():
                read += batch.values
    assert read == ([b"first", b"second", b"heir"] if outcome == "committed" else [b"heir"])
    await heir.close()
    await consumer.close()


async def test_everything_ends_in_time_when_the_broker_is_frozen(kafka_cluster: KafkaBroker):
    transport, alone = KafkaTransport(kafka_cluster.address), Alone()
    tp = await new_topic(transport)
    consumer = transport.consumer(GroupOptions(f"group-{tp.topic}", frozenset({tp.topic}), alone, alone))
    producer, other = transport.producer(uuid.uuid4().hex), transport.producer()
    for client in (consumer, producer, other):
        await client.start()
    while alone.group is None:
        await consumer.poll((), max_records=1, timeout_ms=20)
    await producer.begin()
    other.append(tp, [b"k"], [b"v"], [1])
    await other.flush()
    kafka_cluster.pause()
    try:
        loop = asyncio.get_running_loop()
        began = loop.time()
        producer.append(tp, [b"k"], [b"v"], [1])
        await asyncio.gather(producer.kill(), other.kill(), consumer.close())
        assert loop.time() - began < 10
        began = loop.time()
        with pytest.raises(BrokerUnavailableError, match=kafka_cluster.address):
            await transport.start()
        assert loop.time() - began < 15
    finally:
        kafka_cluster.resume()
    await transport.start()
