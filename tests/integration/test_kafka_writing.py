"""What only the Kafka driver's producer can get wrong: lost batches, lost answers, sequence numbers, dead brokers."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka.protocol.transaction import EndTxnRequest

from streamlib.errors import CommitError, DeliveryError, TransportError
from streamlib.record import TopicPartition
from streamlib.transport.base import GroupMetadata, OffsetAndMetadata, TopicSpec
from streamlib.transport.kafka import producer as driver
from streamlib.transport.kafka.client import BrokerConnection
from streamlib.transport.kafka.producer import KafkaProducer
from streamlib.transport.kafka.transport import KafkaTransport

pytestmark = pytest.mark.kafka


class Bench:
    """Topics, producers and readers of one test."""

    def __init__(self, transport: KafkaTransport, admin: Any) -> None:
        self.transport = transport
        self.admin = admin
        self.made: list[KafkaProducer] = []

    async def partition(self, **configs: str) -> TopicPartition:
        name = f"writing-{uuid.uuid4().hex[:12]}"
        named = {key.replace("_", "."): value for key, value in configs.items()}
        await self.admin.create_topics([TopicSpec(name, 1, 1, named)])
        return TopicPartition(name, 0)

    async def producer(self, transactional_id: str | None = None) -> Any:
        producer = self.transport.producer(transactional_id)
        await producer.start()
        self.made.append(producer)
        return producer

    async def values(self, tp: TopicPartition) -> list[bytes | None]:
        """All committed values of a partition in which no transaction is open."""
        end = (await self.admin.end_offsets([tp]))[tp]
        consumer = self.transport.consumer()
        await consumer.start()
        consumer.assign({tp: 0})
        found: list[bytes | None] = []
        async with asyncio.timeout(15):
            while (consumer.position(tp) or 0) < end:
                for batch in (await consumer.poll([tp], max_records=1_000_000, timeout_ms=200)).values():
                    found += batch.values
        await consumer.close()
        return found


@pytest.fixture
async def bench(kafka_broker: str) -> AsyncIterator[Bench]:
    transport = KafkaTransport(kafka_broker)
    admin = await transport.admin()
    made = Bench(transport, admin)
    yield made
    for producer in made.made:
        await producer.kill()
    await admin.close()


def rows(count: int, start: int = 0) -> list[bytes]:
    return [b"%09d" % number for number in range(start, start + count)]


async def test_commit_is_refused_and_nothing_shows_when_a_batch_was_lost(bench):
    good, small = await bench.partition(), await bench.partition(max_message_bytes="1000")
    name = uuid.uuid4().hex
    producer = await bench.producer(name)
    await producer.begin()
    producer.append(good, [b"k"], [b"of the lost transaction"], [1])
    producer.append(small, [b"k"], [b"x" * 5_000], [1])
    with pytest.raises(DeliveryError, match=rf"topic={small.topic} .*max\.message\.bytes"):
        await producer.commit()
    with pytest.raises(DeliveryError, match=small.topic):
        producer.append(good, [b"k"], [b"later"], [1])
    await producer.kill()
    heir = await bench.producer(name)
    await heir.begin()
    heir.append(good, [b"k"], [b"of the next one"], [1])
    await heir.commit()
    assert await bench.values(good) == [b"of the next one"]


async def test_next_transaction_has_a_new_epoch_when_the_answer_to_a_commit_was_lost(bench, monkeypatch):
    tp, send, lost = await bench.partition(), BrokerConnection.send, []

    async def lossy(self: Any, request: Any, **settings: Any) -> Any:
        answer = await send(self, request, **settings)
        if isinstance(request, EndTxnRequest) and not lost:
            lost.append(request)
            raise TimeoutError
        return answer

    monkeypatch.setattr(BrokerConnection, "send", lossy)
    producer, epochs = await bench.producer(uuid.uuid4().hex), []
    for number in range(3):
        await producer.begin()
        producer.append(tp, [b"k"], [b"%d" % number], [1])
        await producer.commit()
        epochs.append(producer._manager.producer_epoch)
    assert lost
    assert epochs == [epochs[0], epochs[0] + 1, epochs[0] + 1]
    assert await bench.values(tp) == [b"0", b"1", b"2"]


async def test_transaction_is_really_aborted_when_the_group_refused_its_offsets(bench):
    tp = await bench.partition()
    producer = await bench.producer(uuid.uuid4().hex)
    await producer.begin()
    producer.append(tp, [b"k"], [b"zombie"], [1])
    await producer.flush()
    with pytest.raises(CommitError, match="generation=7"):
        await producer.send_offsets({tp: OffsetAndMetadata(1)}, GroupMetadata(f"group-{tp.topic}", 7, "nobody"))
    with pytest.raises(TransportError):
        await producer.commit()
    await producer.abort()
    await producer.begin()
    producer.append(tp, [b"k"], [b"next"], [1])
    await producer.commit()
    assert await bench.values(tp) == [b"next"]


async def test_records_go_on_when_sequence_numbers_wrap(bench):
    tp = await bench.partition()
    producer = await bench.producer()
    producer._manager._sequence_numbers[tp] = 2**31 - 4
    for start in range(0, 12, 3):
        producer.append(tp, rows(3, start), rows(3, start), [1] * 3)
        await producer.flush()
    assert await bench.values(tp) == rows(12)
    assert producer._manager._sequence_numbers[tp] == 8


async def test_records_stay_in_order_when_batches_fill_between_drains(bench, monkeypatch):
    monkeypatch.setattr(driver, "BATCH_SIZE", 4_000)
    monkeypatch.setattr(driver, "BUFFER_BYTES", 20_000)
    tp = await bench.partition()
    producer, highest = await bench.producer(), 0
    for start in range(0, 30_000, 1_000):
        producer.append(tp, [None] * 1_000, rows(1_000, start), [1] * 1_000)
        highest = max(highest, producer._buffered_bytes)
        await producer.drain()
        assert producer._buffered_bytes <= 20_000
    assert await producer.flush() == {tp: 30_000}
    assert producer._buffered_bytes == 0
    assert highest > 20_000
    assert await bench.values(tp) == rows(30_000)


async def test_appending_fails_with_the_topic_when_it_does_not_exist(bench):
    tp = await bench.partition()
    for absent in (TopicPartition(f"absent-{tp.topic}", 0), TopicPartition(tp.topic, 9)):
        producer = await bench.producer()
        producer.append(absent, [b"k"], [b"v"], [1])
        with pytest.raises(DeliveryError, match=f"topic={absent.topic} partition={absent.partition} does not exist"):
            async with asyncio.timeout(15):
                await producer.flush()
        await producer.kill()
    assert f"absent-{tp.topic}" not in await bench.admin.partition_counts()


async def test_append_is_refused_when_no_transaction_is_open_or_its_offsets_were_sent(bench):
    tp = await bench.partition()
    producer = await bench.producer(uuid.uuid4().hex)
    with pytest.raises(TransportError, match=r"begin\(\)"):
        producer.append(tp, [b"k"], [b"v"], [1])
    await producer.begin()
    with pytest.raises(TransportError, match="state is in transaction"):
        await producer.begin()
    with pytest.raises(TransportError, match="at least one offset"):
        await producer.send_offsets({}, GroupMetadata("group", 1, "member"))
    producer._refusal = None
    producer.append(tp, [b"k"], [b"v"], [1])
    await producer.commit()
    with pytest.raises(TransportError, match=r"begin\(\)"):
        producer.append(tp, [b"k"], [b"v"], [1])
    assert await bench.values(tp) == [b"v"]


async def test_killed_producer_neither_delivers_nor_waits_when_records_are_buffered(bench):
    tp = await bench.partition()
    producer = await bench.producer()
    producer.append(tp, rows(100), rows(100), [1] * 100)
    flushing = asyncio.ensure_future(producer.flush())
    await producer.kill()
    with pytest.raises(DeliveryError):
        await flushing
    with pytest.raises(DeliveryError):
        producer.append(tp, [b"k"], [b"v"], [1])
    await producer.close()
