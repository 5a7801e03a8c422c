"""Writes dead letters again, each once: what is written and how far this came are one transaction.

Source: KIP-98, KIP-447; the group's generation keeps two replays of one topic apart.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from streamlib.cli.consume import as_text, batches
from streamlib.cli.output import emit
from streamlib.dead_letters import FailedRecord, failed_record_at
from streamlib.errors import ConfigError, MissingTopicError, ProcessingError, TransportError
from streamlib.record import FetchedBatch, RecordBatch, TopicPartition
from streamlib.transport.base import (
    Admin,
    Consumer,
    GroupMetadata,
    GroupOptions,
    Member,
    OffsetAndMetadata,
    Producer,
    Transport,
)
from streamlib.transport.partitioner import Partitioner

Fix = Callable[[FailedRecord], FailedRecord | None]

POLL_RECORDS = 500
POLL_MS = 500
JOIN_SECONDS = 60.0


class OnlyMember:
    """Takes all partitions of the topic; one replay of it runs at a time.

    Implements `transport.base.Assignor` and `RebalanceListener`.
    """

    name = "streamlib-dlq-replay"

    def __init__(self) -> None:
        self.group: asyncio.Future[GroupMetadata] = asyncio.get_running_loop().create_future()
        self._partitions: Collection[TopicPartition] = ()

    def subscription(self) -> bytes:
        """Nothing is to be told."""
        return b""

    def assign(
        self, partitions: Mapping[str, int], members: Mapping[str, Member]
    ) -> Mapping[str, tuple[Sequence[TopicPartition], bytes]]:
        """All for one member."""
        tps = [TopicPartition(topic, number) for topic, count in partitions.items() for number in range(count)]
        first = min(members)
        return {member: (tps if member == first else [], b"") for member in members}

    def assigned(self, partitions: Collection[TopicPartition], user_data: bytes) -> None:
        """Nothing is to be heard."""

    async def on_revoked(self, partitions: Collection[TopicPartition]) -> None:
        """Commits are refused from now on, which ends the replay."""

    async def on_assigned(self, partitions: Collection[TopicPartition], group: GroupMetadata) -> None:
        """Begin, or learn that another replay runs."""
        if self.group.done():
            return
        if partitions:
            self.group.set_result(group)
        else:
            self.group.set_exception(TransportError(f"another replay is running, in the group {group.group_id}"))


class Replay:
    """Replays one dead letter topic.

    Args:
        transport: The broker.
        admin: Of it.
        group: Remembers how far this came.
        fix: Mends records; None writes them as they are.
        target: The topic to write to; None for where each was read.
    """

    def __init__(self, transport: Transport, admin: Admin, group: str, fix: Fix | None, target: str | None) -> None:
        self._transport = transport
        self._admin = admin
        self._group = group
        self._fix = fix
        self._target = target
        self._by_key = Partitioner()
        self._counts: dict[str, int] = {}

    async def run(self, tps: Sequence[TopicPartition], limit: int | None) -> tuple[int, int]:
        """Write what was not replayed yet; how many records were written, and how many left out.

        Raises:
            StreamlibError: What was written before stays, and is not written again.
        """
        member = OnlyMember()
        options = GroupOptions(self._group, frozenset({tps[0].topic}), member, member)
        consumer = self._transport.consumer(options)
        producer = self._transport.producer(self._group)
        await consumer.start()
        try:
            await producer.start()
            group = await self._joined(consumer, member)
            starts = await self._starts(tps)
            for tp, offset in starts.items():
                consumer.seek(tp, offset)
            left = batches(consumer, starts, await self._admin.end_offsets(tps), limit, POLL_RECORDS)
            return await self._write(left, producer, group)
        finally:
            await producer.close()
            await consumer.close()

    async def preview(self, tps: Sequence[TopicPartition], limit: int | None) -> None:
        """Print what `run` would write."""
        import msgspec

        consumer = self._transport.consumer()
        await consumer.start()
        try:
            starts = await self._starts(tps)
            consumer.assign(starts)
            ends = await self._admin.end_offsets(tps)
            async for tp, batch, rows in batches(consumer, starts, ends, limit, POLL_RECORDS):
                for row, record in self._fixed(tp, batch, rows):
                    document: dict[str, Any] = {"partition": tp.partition, "offset": batch.offsets[row], "to": None}
                    if record is not None:
                        to = await self._place(record, failed_record_at(batch, row), tp, batch.offsets[row])
                        parts = {"key": as_text(record.key), "value": as_text(record.value)}
                        document |= {"to": to.topic, "to_partition": to.partition, **parts}
                    emit(msgspec.json.encode(document) + b"\n")
        finally:
            await consumer.close()
        sys.stderr.write("nothing was written (--dry-run)\n")

    async def _joined(self, consumer: Consumer, member: OnlyMember) -> GroupMetadata:
        async with asyncio.timeout(JOIN_SECONDS):
            while not member.group.done():
                await consumer.poll([], max_records=1, timeout_ms=POLL_MS)
        return await member.group

    async def _starts(self, tps: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        committed = await self._admin.group_offsets(self._group)
        firsts = await self._admin.beginning_offsets(tps)
        return {tp: max(first, committed[tp].offset if tp in committed else 0) for tp, first in firsts.items()}

    async def _write(
        self,
        left: AsyncIterator[tuple[TopicPartition, FetchedBatch, int]],
        producer: Producer,
        group: GroupMetadata,
    ) -> tuple[int, int]:
        written = left_out = 0
        async for tp, batch, rows in left:
            columns: dict[TopicPartition, RecordBatch] = {}
            for row, record in self._fixed(tp, batch, rows):
                if record is None:
                    left_out += 1
                    continue
                to = await self._place(record, failed_record_at(batch, row), tp, batch.offsets[row])
                column = columns.setdefault(to, RecordBatch([], [], [], headers=[]))
                column.keys.append(record.key)
                column.values.append(record.value)
                column.timestamps.append(record.timestamp)
                assert column.headers is not None
                column.headers.append(record.headers)
                written += 1
            await producer.begin()
            for to, column in columns.items():
                producer.append(to, column.keys, column.values, column.timestamps, column.headers)
            next_offset = batch.next_offset if rows == len(batch) else batch.offsets[rows]
            await producer.send_offsets({tp: OffsetAndMetadata(next_offset)}, group)
            await producer.commit()
        return written, left_out

    def _fixed(self, tp: TopicPartition, batch: FetchedBatch, rows: int) -> Iterator[tuple[int, FailedRecord | None]]:
        """The first so many rows, each as it is to be written; None to leave it out."""
        for row in range(rows):
            letter = failed_record_at(batch, row)
            record: FailedRecord | None = letter
            if self._fix is not None:
                where = f"topic={tp.topic} partition={tp.partition} offset={batch.offsets[row]}"
                try:
                    record = self._fix(letter)
                except Exception as error:
                    msg = f"the fix function raised {error!r}: {where}. What came before it is replayed"
                    raise ProcessingError(msg) from error
                if record is not None and not isinstance(record, FailedRecord):
                    msg = f"the fix function must give the record, or None, not {record!r}: {where}"  # type: ignore[unreachable]
                    raise ProcessingError(msg)
            yield row, record

    async def _place(
        self, record: FailedRecord, letter: FailedRecord, tp: TopicPartition, offset: int
    ) -> TopicPartition:
        """Where a record goes: with its key to the partition where it was read, else by its key.

        Raises:
            ConfigError: Nobody knows the topic.
            MissingTopicError: It does not exist.
        """
        topic = self._target or record.topic
        if topic is None:
            msg = (
                f"nobody knows where the record came from: topic={tp.topic} partition={tp.partition} offset={offset}. "
                "Name a topic with --to, or have the fix function leave it out"
            )
            raise ConfigError(msg)
        if topic not in self._counts:
            self._counts |= await self._admin.partition_counts([topic])
        count = self._counts.get(topic)
        if count is None:
            msg = f"there is no topic {topic} to write to: create it, or name another one with --to"
            raise MissingTopicError(msg)
        if topic == letter.topic and record.key == letter.key and letter.partition is not None:
            return TopicPartition(topic, letter.partition % count)
        return TopicPartition(topic, self._by_key.partitions(topic, [record.key], count)[0])
