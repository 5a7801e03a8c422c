"""Consumed repartition records are deleted, one interval after they were committed."""

import pytest

from streamlib.record import TopicPartition
from streamlib.runtime.commit import Purger
from streamlib.testing.clock import ManualClock
from streamlib.transport.base import OffsetAndMetadata, TopicSpec
from streamlib.transport.memory import MemoryTransport

TP = TopicPartition("app-by-word-repartition", 0)


@pytest.mark.parametrize("interval_ms", [0, 30_000])
async def test_records_are_deleted_an_interval_after_their_commit(interval_ms: int) -> None:
    clock = ManualClock()
    transport = MemoryTransport()
    admin = await transport.admin()
    await admin.create_topics([TopicSpec(TP.topic, 1, 1)])
    producer = transport.producer()
    await producer.start()
    producer.append(TP, [b"k"] * 10, [b"v"] * 10, [1] * 10)
    await producer.flush()
    await producer.close()
    purger = Purger(admin, [TP.topic], interval_ms, clock)
    kept = []
    for offset in (5, 8, None, None):
        if offset is not None:
            purger.committed({TP: OffsetAndMetadata(offset), TopicPartition("in", 0): OffsetAndMetadata(3)})
        clock.advance_ms(interval_ms)
        if purger.due():
            await purger.purge()
        kept.append((await admin.beginning_offsets([TP]))[TP])
    assert kept == [0, 5, 8, 8]
    assert not purger.due()
    await admin.close()
