"""Requests of a transaction that a network delivers late do not touch a later transaction (Jepsen's Bufstream report).

A request is lost with its connection as far as the client knows, which asks again and is answered; then the first copy
arrives. Under the same producer epoch a broker takes it for part of the transaction that is open by then.
"""

import asyncio
import struct
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from streamlib import KafkaStreams
from streamlib.record import TopicPartition
from streamlib.transport.base import IsolationLevel, TopicSpec
from streamlib.transport.kafka.transport import KafkaTransport
from tests.integration.counting import SETTINGS, Counting, counting
from tests.proxy.frames import Api, Kind
from tests.proxy.proxy import Proxy
from tests.proxy.rules import Action

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

INVALID_PRODUCER_EPOCH = 47
PRODUCER_FENCED = 90


@dataclass
class Log:
    """A partition, and who reads and writes it through a proxy."""

    proxy: Proxy
    transport: KafkaTransport
    tp: TopicPartition

    async def values(self, isolation: IsolationLevel = "read_committed") -> list[bytes | None]:
        """What a reader sees, up to the end of the log, or to the first open transaction."""
        consumer, admin = self.transport.consumer(isolation=isolation), await self.transport.admin()
        (end,) = (await admin.end_offsets([self.tp])).values()
        await consumer.start()
        consumer.assign({self.tp: 0})
        found: list[bytes | None] = []
        while (consumer.position(self.tp) or 0) < end:
            polled = await consumer.poll([self.tp], max_records=100, timeout_ms=200)
            found += [value for batch in polled.values() for value in batch.values]
        await consumer.close()
        await admin.close()
        return found


@pytest.fixture
async def log(kafka_broker: str) -> AsyncIterator[Log]:
    async with Proxy(kafka_broker) as proxy:
        transport = KafkaTransport(proxy.address)
        tp = TopicPartition(f"late-{uuid.uuid4().hex[:8]}", 0)
        admin = await transport.admin()
        await admin.create_topics([TopicSpec(tp.topic, 1, 1)])
        await admin.close()
        yield Log(proxy, transport, tp)


@pytest.mark.parametrize("api", [Api.END_TXN, Api.PRODUCE, Api.ADD_PARTITIONS_TO_TXN])
async def test_a_later_transaction_is_untouched_when_a_request_of_the_last_one_arrives_late(log: Log, api: Api) -> None:
    producer = log.transport.producer(uuid.uuid4().hex)
    await producer.start()
    late = log.proxy.add(api, Kind.REQUEST, Action.HOLD_AND_CLOSE, times=1)
    await producer.begin()
    producer.append(log.tp, [None], [b"committed"], [1])
    await producer.commit()
    assert len(log.proxy.seen(api)) == 2
    await producer.begin()
    assert len(log.proxy.seen(Api.INIT_PRODUCER_ID)) > 1, "no new epoch"
    producer.append(log.tp, [None], [b"aborted"], [1])
    await producer.flush()
    answer = await late.deliver()
    if api is Api.END_TXN:
        assert struct.unpack(">ih", answer)[1] == INVALID_PRODUCER_EPOCH
    await producer.abort()
    await producer.begin()
    producer.append(log.tp, [None], [b"committed, too"], [1])
    await producer.commit()
    await producer.close()
    assert await log.values() == [b"committed", b"committed, too"]
    assert len(await log.values("read_uncommitted")) == 3


async def test_a_later_transaction_is_untouched_when_an_abort_arrives_late(log: Log) -> None:
    producer = log.transport.producer(uuid.uuid4().hex)
    await producer.start()
    late = log.proxy.add(Api.END_TXN, Kind.REQUEST, Action.HOLD_AND_CLOSE, times=1)
    await producer.begin()
    producer.append(log.tp, [None], [b"aborted"], [1])
    await producer.flush()
    await producer.abort()
    await producer.begin()
    producer.append(log.tp, [None], [b"committed"], [1])
    await producer.flush()
    await late.deliver()
    await producer.commit()
    await producer.close()
    assert await log.values() == [b"committed"]


async def test_a_transaction_is_committed_once_when_the_answer_is_lost(log: Log) -> None:
    producer = log.transport.producer(uuid.uuid4().hex)
    await producer.start()
    log.proxy.add(Api.END_TXN, Kind.ANSWER, Action.CLOSE, times=1)
    for value in (b"first", b"second"):
        await producer.begin()
        producer.append(log.tp, [None], [value], [1])
        await producer.commit()
    await producer.close()
    assert await log.values() == [b"first", b"second"]
    assert len(log.proxy.seen(Api.INIT_PRODUCER_ID)) > 1
    assert len(log.proxy.seen(Api.END_TXN)) > 2


async def test_an_aborted_record_is_seen_when_the_client_goes_on_under_the_same_epoch(log: Log) -> None:
    """What the tests above guard against: the library's own producer, by itself."""
    producer = AIOKafkaProducer(bootstrap_servers=log.proxy.address, transactional_id=uuid.uuid4().hex)
    await producer.start()
    late = log.proxy.add(Api.END_TXN, Kind.REQUEST, Action.HOLD_AND_CLOSE, times=1)
    async with producer.transaction():
        await producer.send_and_wait(log.tp.topic, b"committed", partition=0)
    await producer.begin_transaction()
    await producer.send_and_wait(log.tp.topic, b"never committed", partition=0)
    assert struct.unpack(">ih", await late.deliver())[1] == 0
    assert len(log.proxy.seen(Api.INIT_PRODUCER_ID)) == 1
    assert await log.values() == [b"committed", b"never committed"]
    with pytest.raises(KafkaError):  # it finds no transaction to abort
        await producer.abort_transaction()
    with suppress(KafkaError):
        await producer.stop()


async def test_a_worker_counts_every_record_once_when_ends_of_its_transactions_arrive_late(
    app: Counting, log: Log, tmp_path: Path
) -> None:
    await app.create(2)
    settings = {**SETTINGS, "commit_interval_ms": 100, "state_dir": tmp_path / "w"}
    settings["processing_guarantee"] = "exactly_once_v2"
    broker = f"kafka://{log.proxy.address}"
    async with KafkaStreams(counting(app.name), settings, broker=broker) as running, app.load(1_000):
        for _ in range(5):
            late = log.proxy.add(Api.END_TXN, Kind.REQUEST, Action.HOLD_AND_CLOSE, times=1)
            await asyncio.wait_for(late.hit.wait(), 20)
            began = len(log.proxy.seen(Api.ADD_PARTITIONS_TO_TXN))
            async with asyncio.timeout(20):
                while len(log.proxy.seen(Api.ADD_PARTITIONS_TO_TXN)) == began:
                    await asyncio.sleep(0)
            code = struct.unpack(">ih", await late.deliver())[1]
            assert code in {INVALID_PRODUCER_EPOCH, PRODUCER_FENCED}
        assert not running.failed
    async with KafkaStreams(counting(app.name), settings, broker=broker):
        await app.drained()
    assert await app.counts() == app.expected
