"""``streamlib produce TOPIC``: lines to records. Next: `consume`, the way back."""

import os
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from streamlib.cli.connection import BrokerOptions, connected
from streamlib.cli.formats import format_of
from streamlib.cli.input_lines import LineOptions, Row, line_parser, read_lines
from streamlib.cli.options import argument, command, option
from streamlib.cli.output import say

if TYPE_CHECKING:
    from streamlib.record import RecordBatch
    from streamlib.transport.base import Admin, Producer


@dataclass(frozen=True)
class ProduceOptions:
    """Where lines come from, and whether to make the topic."""

    file: Annotated[
        Path | None,
        option(
            "--file",
            scope="produce",
            help="Read lines from this file.",
            show_default="stdin",
            exists=True,
            dir_okay=False,
            readable=True,
        ),
    ] = None
    create_partitions: Annotated[
        int | None,
        option("--create-partitions", scope="produce", min=1, help="Create the topic if it is missing, with as many."),
    ] = None


@command
async def produce(
    topic: Annotated[str, argument("TOPIC", help="The topic to write to.")],
    lines: LineOptions,
    options: ProduceOptions,
    broker: BrokerOptions,
) -> None:
    """Write a record for each line of stdin.

    A line is a JSON value (`null` deletes the key); --key-field or --key-separator give it a key, --envelope lets
    each line say everything. Formats other than json take the line as it is. Keys choose partitions as Java's do.
    """
    parse = line_parser(lines)
    async with AsyncExitStack() as stack:
        descriptor = sys.stdin.fileno() if options.file is None else os.open(options.file, os.O_RDONLY)
        if options.file is not None:
            stack.callback(os.close, descriptor)
        transport = await stack.enter_async_context(connected(broker))
        admin = await transport.admin()
        stack.push_async_callback(admin.close)
        partitions = await _partitions(admin, topic, options.create_partitions)
        producer = transport.producer()
        await producer.start()
        stack.push_async_callback(producer.close)
        writer = TopicWriter(producer, topic, partitions, lines.key_format)
        number = 0
        try:
            async for run in read_lines(descriptor):
                rows: list[Row] = []
                try:
                    for line in run:
                        number += 1
                        if (row := parse(line)) is not None:
                            rows.append(writer.checked(row))
                except ValueError as error:
                    await writer.write(rows)
                    raise _refused(number, error, writer.written) from None
                await writer.write(rows)
        finally:
            say(f"wrote {writer.written} records to {topic}")


class TopicWriter:
    """Writes rows to a topic, and counts what the broker has acknowledged."""

    def __init__(self, producer: "Producer", topic: str, partitions: int, key_format: str) -> None:
        from streamlib.clock import SystemClock
        from streamlib.transport.partitioner import Partitioner

        self._producer, self._topic, self._partitions = producer, topic, partitions
        self._partition_bytes = format_of(key_format).serde.partition_bytes
        self._partitioner, self._clock = Partitioner(), SystemClock()
        self.written = 0

    def checked(self, row: Row) -> Row:
        """The same row.

        Raises:
            ValueError: Its partition does not exist.
        """
        if row.partition is not None and row.partition >= self._partitions:
            msg = f"there is no partition {row.partition}: {self._topic} has {self._partitions}"
            raise ValueError(msg)
        return row

    async def write(self, rows: Sequence[Row]) -> None:
        """Append rows and wait until all of them are acknowledged."""
        from streamlib.record import TopicPartition

        if not rows:
            return
        for partition, batch in self._columns(rows).items():
            tp = TopicPartition(self._topic, partition)
            self._producer.append(tp, batch.keys, batch.values, batch.timestamps, batch.headers)
        await self._producer.flush()
        self.written += len(rows)

    def _columns(self, rows: Sequence[Row]) -> "dict[int, RecordBatch]":
        from streamlib.record import RecordBatch

        now = self._clock.time_ms()
        keys: list[bytes | None] = [row.key for row in rows]
        hashed = keys if self._partition_bytes is None else self._partition_bytes(keys)
        chosen = self._partitioner.partitions(self._topic, hashed, self._partitions)
        batches: dict[int, RecordBatch] = {}
        for row, partition in zip(rows, chosen, strict=True):
            target = partition if row.partition is None else row.partition
            batch = batches.get(target)
            if batch is None:
                batch = batches[target] = RecordBatch([], [], [], headers=[])
            assert batch.headers is not None
            batch.keys.append(row.key)
            batch.values.append(row.value)
            batch.timestamps.append(now if row.timestamp is None else row.timestamp)
            batch.headers.append(row.headers)
        for batch in batches.values():
            if not any(batch.headers or ()):
                batch.headers = None
        return batches


async def _partitions(admin: "Admin", topic: str, create: int | None) -> int:
    from streamlib.errors import MissingTopicError
    from streamlib.transport.base import TopicSpec

    counts = await admin.partition_counts([topic])
    if topic not in counts and create is not None:
        await admin.create_topics([TopicSpec(topic, create)])
        counts = await admin.partition_counts([topic])
    if topic not in counts:
        msg = f"there is no topic {topic}. Create it with --create-partitions N, or: streamlib topics create {topic}"
        raise MissingTopicError(msg)
    return counts[topic]


def _refused(number: int, error: ValueError, written: int) -> Exception:
    from streamlib.errors import SerdeError

    return SerdeError(f"line {number}: {error}. The {written} records before it were written")
