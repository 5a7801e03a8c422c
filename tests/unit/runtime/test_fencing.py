"""The open transaction of a lost worker ends when it is fenced."""

import asyncio

import pytest

from streamlib.config import StreamsConfig
from streamlib.errors import TransportError
from streamlib.record import TopicPartition
from streamlib.runtime.fencing import Fencing, transactional_id
from streamlib.transport.base import TopicSpec
from streamlib.transport.memory import MemoryTransport

TP = TopicPartition("changelog", 0)


async def test_readers_go_on_when_the_transaction_of_a_lost_worker_is_ended() -> None:
    transport = MemoryTransport()
    await transport.start()
    admin = await transport.admin()
    await admin.create_topics([TopicSpec("changelog", 1, 1)])
    lost = transport.producer(transactional_id("app", "process"), 60_000)
    await lost.start()
    await lost.begin()
    lost.append(TP, [b"k"], [b"open"], [1])
    await lost.flush()
    reader = transport.consumer()
    await reader.start()
    reader.assign({TP: 0})
    assert await reader.poll([TP], max_records=10, timeout_ms=50) == {}
    assert reader.position(TP) == 0
    await Fencing(transport, StreamsConfig("app")).end_transactions(["process"])
    async with asyncio.timeout(5):
        while (reader.position(TP) or 0) < (await admin.end_offsets([TP]))[TP]:
            assert await reader.poll([TP], max_records=10, timeout_ms=50) == {}
    with pytest.raises(TransportError):
        await lost.commit()
    await lost.kill()
    await reader.close()
    await admin.close()
    await transport.close()
