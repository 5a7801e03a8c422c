"""``streamlib consume TOPIC``: records to JSON lines. Next: `topics`, which tells what there is to read."""

from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from streamlib.cli.connection import BrokerOptions, connected
from streamlib.cli.formats import KEY_FORMATS_HELP, VALUE_FORMATS_HELP, Format, format_of
from streamlib.cli.options import argument, command, option
from streamlib.cli.output import emit, while_read
from streamlib.cli.times import moment_ms

if TYPE_CHECKING:
    from streamlib.record import FetchedBatch, TopicPartition
    from streamlib.transport.base import Admin, Consumer

POLL_RECORDS = 5_000
POLL_MS = 500


@dataclass(frozen=True)
class ConsumeOptions:
    """What to read, and how to show it."""

    start: Annotated[
        str, option("--from", scope="consume", help="beginning, end, or a moment (ISO 8601, or ms since the epoch).")
    ] = "beginning"
    follow: Annotated[bool, option("--follow", "-f", scope="consume", help="Go on with new records, until Ctrl-C.")] = (
        False
    )
    max_records: Annotated[
        int | None, option("--max-records", "-n", scope="consume", min=1, help="Stop after so many.")
    ] = None
    partition: Annotated[
        list[int] | None, option("--partition", scope="consume", help="Only this partition; may be repeated.")
    ] = None
    key_format: Annotated[str, option("--key-format", scope="consume", help=KEY_FORMATS_HELP)] = "string"
    value_format: Annotated[str, option("--value-format", scope="consume", help=VALUE_FORMATS_HELP)] = "json"
    values_only: Annotated[bool, option("--values-only", scope="consume", help="Print values alone.")] = False
    isolation: Annotated[
        Literal["read_committed", "read_uncommitted"],
        option("--isolation", scope="consume", help="Whether to show records of open and aborted transactions."),
    ] = "read_committed"


@command
async def consume(
    topic: Annotated[str, argument("TOPIC", help="The topic to read.")],
    options: ConsumeOptions,
    broker: BrokerOptions,
) -> None:
    """Print the records of a topic, one JSON object in each line.

    Stops at the end the topic had when it began, unless --follow. Joins no group and commits nothing.
    """
    since = None if options.start in ("beginning", "end") else moment_ms(options.start)
    documents = _documents(
        format_of(options.key_format), format_of(options.value_format), values_only=options.values_only
    )
    async with AsyncExitStack() as stack:
        transport = await stack.enter_async_context(connected(broker))
        admin = await transport.admin()
        stack.push_async_callback(admin.close)
        tps = await wanted_partitions(admin, topic, options.partition)
        ends = await admin.end_offsets(tps)
        if since is not None:
            starts = await admin.offsets_for_time(tps, since)
        else:
            starts = ends if options.start == "end" else await admin.beginning_offsets(tps)
        consumer = transport.consumer(isolation=options.isolation)
        await consumer.start()
        stack.push_async_callback(consumer.close)
        consumer.assign(starts)
        await while_read(
            print_records(consumer, Printer(documents), starts, None if options.follow else ends, options.max_records)
        )


async def print_records(
    consumer: "Consumer",
    printer: "Printer",
    starts: "Mapping[TopicPartition, int]",
    ends: "Mapping[TopicPartition, int] | None",
    max_records: int | None,
) -> None:
    """Print what follows ``starts`` up to ``ends``, or without end; at most ``max_records``."""
    async for tp, batch, rows in batches(consumer, starts, ends, max_records, POLL_RECORDS):
        printer.show(tp, batch, rows)


async def batches(
    consumer: "Consumer",
    starts: "Mapping[TopicPartition, int]",
    ends: "Mapping[TopicPartition, int] | None",
    max_records: int | None,
    poll_records: int,
) -> "AsyncIterator[tuple[TopicPartition, FetchedBatch, int]]":
    """What follows ``starts`` up to ``ends``, or without end; with how many rows of each batch to take.

    Args:
        consumer: Told to read from ``starts``.
        starts: Where it begins.
        ends: Where it ends; None for never.
        max_records: The most to take; None for no limit.
        poll_records: The most to take at a time.
    """

    def unfinished(tp: "TopicPartition") -> bool:
        position = consumer.position(tp)
        return ends is None or (starts[tp] if position is None else position) < ends[tp]

    left = max_records
    while left != 0:
        wanted = [tp for tp in starts if unfinished(tp)]
        if not wanted:
            return
        limit = poll_records if left is None else min(left, poll_records)
        for tp, batch in (await consumer.poll(wanted, max_records=limit, timeout_ms=POLL_MS)).items():
            rows = len(batch) if ends is None else bisect_left(batch.offsets, ends[tp])
            if left is not None:
                rows = min(rows, left)
                left -= rows
            if rows:
                yield tp, batch, rows


class Printer:
    """Prints records as JSON lines.

    Args:
        document: What to print for a row.
    """

    def __init__(self, document: "Callable[[TopicPartition, FetchedBatch, int], Any]") -> None:
        self._document = document

    def show(self, tp: "TopicPartition", batch: "FetchedBatch", rows: int) -> None:
        """Print the first so many rows.

        Raises:
            DeserializationError: A key or value has another format; rows before it are printed.
            OutputClosedError: The reader has gone.
        """
        lines: list[bytes] = []
        try:
            lines.extend(self._lines(tp, batch, rows))
        finally:
            if lines:
                emit(b"".join(lines))

    def _lines(self, tp: "TopicPartition", batch: "FetchedBatch", rows: int) -> Iterator[bytes]:
        import msgspec

        encode = msgspec.json.Encoder().encode
        for row in range(rows):
            yield encode(self._document(tp, batch, row)) + b"\n"


def _documents(
    keys: Format, values: Format, *, values_only: bool
) -> "Callable[[TopicPartition, FetchedBatch, int], Any]":
    def document(tp: "TopicPartition", batch: "FetchedBatch", row: int) -> Any:
        where = f"topic={tp.topic} partition={tp.partition} offset={batch.offsets[row]}"
        value = _decoded("value", values, batch.values[row], where)
        if values_only:
            return value
        return {
            "topic": tp.topic,
            "partition": tp.partition,
            "offset": batch.offsets[row],
            "timestamp": batch.timestamps[row],
            "key": _decoded("key", keys, batch.keys[row], where),
            "value": value,
            "headers": [] if batch.headers is None else [[k, as_text(v)] for k, v in batch.headers[row]],
        }

    return document


def _decoded(part: str, form: Format, data: bytes | None, where: str) -> Any:
    if data is None:
        return None
    try:
        return form.to_json(form.serde.deserialize(data))
    except Exception as error:
        from streamlib.errors import DeserializationError

        msg = f"the {part} is not {form.name} ({error}): {where}. Choose another --{part}-format; bytes always works"
        raise DeserializationError(msg) from None


def as_text(value: bytes | None) -> Any:
    """Bytes as text, or where they are none, as ``{"base64": ...}``."""
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        import base64

        return {"base64": base64.b64encode(value or b"").decode()}


async def wanted_partitions(admin: "Admin", topic: str, partitions: list[int] | None) -> "list[TopicPartition]":
    """The partitions of a topic that were asked for; all without any.

    Raises:
        MissingTopicError: There is no such topic.
        typer.BadParameter: There is no such partition.
    """
    from streamlib.errors import MissingTopicError
    from streamlib.record import TopicPartition

    counts = await admin.partition_counts([topic])
    if topic not in counts:
        msg = f"there is no topic {topic}. See the others with: streamlib topics"
        raise MissingTopicError(msg)
    wanted = sorted(set(partitions or range(counts[topic])))
    if wrong := [number for number in wanted if not 0 <= number < counts[topic]]:
        msg = f"--partition {wrong[0]}: {topic} has the partitions 0 to {counts[topic] - 1}"
        raise typer.BadParameter(msg)
    return [TopicPartition(topic, number) for number in wanted]
