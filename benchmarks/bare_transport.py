"""Consume and produce through streamlib's own transport, with nothing in between: the bound of every topology.

Arguments as for the peers. The bytes of the input topic go to the output topic; offsets are committed every second,
after everything appended is acknowledged.
"""

import asyncio
import signal
import sys
import time
from collections.abc import Collection, Mapping, Sequence

from streamlib.kafka_streams import connect
from streamlib.record import TopicPartition
from streamlib.transport.base import Consumer, GroupMetadata, GroupOptions, Member, OffsetAndMetadata, Producer

COMMIT_INTERVAL_S = 1.0
MAX_RECORDS = 10_000


class AllToOne:
    """Gives every partition to one member; there is only one."""

    name = "all-to-one"

    def subscription(self) -> bytes:
        return b""

    def assign(
        self, partitions: Mapping[str, int], members: Mapping[str, Member]
    ) -> Mapping[str, tuple[Sequence[TopicPartition], bytes]]:
        everything = [TopicPartition(topic, number) for topic, count in partitions.items() for number in range(count)]
        chosen = min(members)
        return {member: (everything if member == chosen else [], b"") for member in members}

    def assigned(self, partitions: Collection[TopicPartition], user_data: bytes) -> None:
        """Nothing to learn: there is only one member."""


class Assignment:
    """Remembers what was assigned."""

    def __init__(self) -> None:
        self.partitions: frozenset[TopicPartition] = frozenset()

    async def on_revoked(self, partitions: Collection[TopicPartition]) -> None:
        self.partitions -= frozenset(partitions)

    async def on_assigned(self, partitions: Collection[TopicPartition], group: GroupMetadata) -> None:
        self.partitions = frozenset(partitions)


async def pump(broker: str, group: str, source: str, sink: str, stopping: asyncio.Event) -> None:
    """Move records until told to stop."""
    transport = connect(f"kafka://{broker}")
    await transport.start()
    assignment = Assignment()
    options = GroupOptions(group_id=group, topics=frozenset({source}), assignor=AllToOne(), listener=assignment)
    consumer, producer = transport.consumer(options, "read_uncommitted"), transport.producer()
    await producer.start()
    await consumer.start()
    try:
        while not assignment.partitions:
            await consumer.poll((), max_records=1, timeout_ms=100)
        for tp, committed in (await consumer.committed(assignment.partitions)).items():
            consumer.seek(tp, committed.offset if committed else 0)
        while not stopping.is_set():
            await _one_interval(consumer, producer, assignment.partitions, sink)
    finally:
        await consumer.close()
        await producer.close()
        await transport.close()


async def _one_interval(
    consumer: Consumer, producer: Producer, partitions: Collection[TopicPartition], sink: str
) -> None:
    done: dict[TopicPartition, OffsetAndMetadata] = {}
    deadline = time.monotonic() + COMMIT_INTERVAL_S
    while time.monotonic() < deadline:
        batches = await consumer.poll(partitions, max_records=MAX_RECORDS, timeout_ms=100)
        for tp, batch in batches.items():
            producer.append(TopicPartition(sink, tp.partition), batch.keys, batch.values, batch.timestamps)
            done[tp] = OffsetAndMetadata(batch.next_offset)
        await producer.drain()
    if done:
        await producer.flush()
        await consumer.commit(done)


async def _main() -> None:
    _, broker, group, source, sink, *_ = sys.argv[1:]
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    await pump(broker, group, source, sink, stopping)


if __name__ == "__main__":
    try:
        import uvloop
    except ImportError:
        asyncio.run(_main())
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_main())
