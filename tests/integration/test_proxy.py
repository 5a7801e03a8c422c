"""The proxy does to a real broker's clients what each rule says, and nothing else."""

import asyncio
import uuid
from collections.abc import AsyncIterator

import pytest

from streamlib.record import TopicPartition
from streamlib.transport.base import TopicSpec
from streamlib.transport.kafka.protocol import MetadataV12
from streamlib.transport.kafka.transport import KafkaTransport
from tests.proxy.frames import Api, Kind
from tests.proxy.proxy import Proxy
from tests.proxy.rules import Action

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


@pytest.fixture
async def proxy(kafka_broker: str) -> AsyncIterator[Proxy]:
    async with Proxy(kafka_broker) as proxy:
        yield proxy


@pytest.fixture
async def tps(proxy: Proxy) -> list[TopicPartition]:
    """Two partitions with ten records each, written through the proxy."""
    name = f"proxied-{uuid.uuid4().hex[:8]}"
    transport = KafkaTransport(proxy.address)
    admin, producer = await transport.admin(), transport.producer()
    await producer.start()
    await admin.create_topics([TopicSpec(name, 2, 1)])
    tps = [TopicPartition(name, number) for number in range(2)]
    for tp in tps:
        producer.append(tp, [None] * 10, [b"%d" % number for number in range(10)], [1] * 10)
    await producer.close()
    await admin.close()
    return tps


async def read(proxy: Proxy, tps: list[TopicPartition], seconds: float, enough: int) -> dict[TopicPartition, int]:
    """How many records of each partition came, until there are enough."""
    consumer = KafkaTransport(proxy.address).consumer()
    counts = dict.fromkeys(tps, 0)
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    await consumer.start()
    consumer.assign(dict.fromkeys(tps, 0))
    while sum(counts.values()) < enough and loop.time() < until:
        for tp, batch in (await consumer.poll(tps, max_records=100, timeout_ms=100)).items():
            counts[tp] += len(batch)
    await consumer.close()
    return counts


async def test_clients_stay_with_the_proxy_when_they_began_with_it(proxy: Proxy, tps: list[TopicPartition]) -> None:
    assert await read(proxy, tps, 10, 20) == dict.fromkeys(tps, 10)
    assert {Api.METADATA, Api.PRODUCE, Api.FETCH} <= {frame.api for frame in proxy.log}
    assert all(frame.data == b"" for frame in proxy.log)
    for asked in proxy.seen(Api.PRODUCE):
        (answer,) = (
            frame
            for frame in proxy.seen(Api.PRODUCE, Kind.ANSWER)
            if (frame.connection, frame.correlation) == (asked.connection, asked.correlation)
        )
        assert answer.at >= asked.at


async def test_clients_stay_with_the_proxy_when_they_ask_in_a_flexible_version(
    proxy: Proxy, tps: list[TopicPartition]
) -> None:
    admin = await KafkaTransport(proxy.address).admin()
    response = await admin._client.send(admin._client.get_random_node(), MetadataV12([tps[0].topic]))
    assert set(response.topic_ids()) == {tps[0].topic}
    assert [tuple(broker[1:3]) for broker in response.brokers] == [proxy.listening]
    assert await admin.partition_counts([tps[0].topic]) == {tps[0].topic: 2}
    await admin.close()


async def test_the_other_partition_comes_when_one_is_hidden(proxy: Proxy, tps: list[TopicPartition]) -> None:
    rule = proxy.hide_records(tps[0])
    assert await read(proxy, tps, 1, 20) == {tps[0]: 0, tps[1]: 10}
    assert rule.hits > 1
    rule.lift()
    assert await read(proxy, tps, 10, 20) == dict.fromkeys(tps, 10)


@pytest.mark.parametrize("kind", Kind)
async def test_an_answer_is_late_when_it_or_its_request_is_delayed(
    proxy: Proxy, tps: list[TopicPartition], kind: Kind
) -> None:
    proxy.add(Api.LIST_OFFSETS, kind, Action.DELAY, seconds=0.5, times=1)
    admin = await KafkaTransport(proxy.address).admin()
    began = asyncio.get_running_loop().time()
    assert await admin.end_offsets(tps) == dict.fromkeys(tps, 10)
    assert 0.5 <= asyncio.get_running_loop().time() - began < 5
    await admin.close()


@pytest.mark.parametrize("action", [Action.CLOSE, Action.HALF_CLOSE])
@pytest.mark.parametrize("kind", Kind)
async def test_a_client_asks_again_when_its_connection_was_closed(
    proxy: Proxy, tps: list[TopicPartition], kind: Kind, action: Action
) -> None:
    rule = proxy.add(Api.LIST_OFFSETS, kind, action, times=1)
    admin = await KafkaTransport(proxy.address).admin()
    assert await admin.end_offsets(tps) == dict.fromkeys(tps, 10)
    first, second = proxy.seen(Api.LIST_OFFSETS)
    assert rule.hits == 1
    assert first.connection != second.connection
    await admin.close()


@pytest.mark.parametrize("action", [Action.DROP, Action.SILENCE])
async def test_no_answer_comes_when_its_request_is_lost(
    proxy: Proxy, tps: list[TopicPartition], action: Action
) -> None:
    rule = proxy.add(Api.LIST_OFFSETS, Kind.REQUEST, action, times=1)
    admin = await KafkaTransport(proxy.address).admin()
    asking = asyncio.create_task(admin.end_offsets(tps))
    await rule.hit.wait()
    done, _ = await asyncio.wait([asking], timeout=0.5)
    assert not done
    assert len(proxy.seen(Api.LIST_OFFSETS)) == 1
    assert proxy.seen(Api.LIST_OFFSETS, Kind.ANSWER) == []
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await admin.close()


@pytest.mark.parametrize("action", [Action.HOLD, Action.HOLD_AND_CLOSE, Action.REPEAT])
async def test_a_request_arrives_late_when_it_was_kept_aside(
    proxy: Proxy, tps: list[TopicPartition], action: Action
) -> None:
    rule = proxy.add(Api.PRODUCE, Kind.REQUEST, action, times=1)
    producer = KafkaTransport(proxy.address).producer()
    await producer.start()
    producer.append(tps[0], [None], [b"late"], [1])
    flushing = asyncio.create_task(producer.flush())
    await rule.hit.wait()
    if action is Action.HOLD:
        assert not flushing.done()
        await producer.kill()
        await asyncio.gather(flushing, return_exceptions=True)
    else:
        assert await flushing == {tps[0]: 11}
        await producer.kill()
    await rule.deliver()
    # Sequence numbers tell a broker that it has the records of a copy.
    assert await read(proxy, tps, 10, 21) == {tps[0]: 11, tps[1]: 10}


async def test_clients_see_a_closed_connection_when_no_broker_is_behind_the_proxy() -> None:
    async with Proxy("127.0.0.1:1") as proxy:
        reader, writer = await asyncio.open_connection(*proxy.listening)
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
