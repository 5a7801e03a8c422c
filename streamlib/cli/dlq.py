"""``streamlib dlq``: what is in dead letter topics, and how it goes back to where it came from.

Next: `dlq_replay`, which writes it there.
"""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamlib.cli.connection import BrokerOptions, connected
from streamlib.cli.consume import Printer, as_text, print_records, wanted_partitions
from streamlib.cli.options import argument, command, option
from streamlib.cli.output import say, say_json, say_table, while_read

if TYPE_CHECKING:
    from streamlib.record import FetchedBatch, TopicPartition
    from streamlib.transport.base import Admin, Transport

LOOKED_AT = 20  # records at the end of each partition: the last ones of a transaction are none
LOOKING_SECONDS = 5.0
INTERNAL = ("-changelog", "-repartition")


@dataclass(frozen=True)
class ShowOptions:
    """What to show."""

    follow: Annotated[bool, option("--follow", "-f", scope="dlq", help="Go on with new ones, until Ctrl-C.")] = False
    limit: Annotated[int | None, option("--limit", "-n", scope="dlq", min=1, help="Stop after so many.")] = None
    partition: Annotated[
        list[int] | None, option("--partition", scope="dlq", help="Only this partition; may be repeated.")
    ] = None
    offset: Annotated[int, option("--offset", scope="dlq", min=0, help="Begin at this offset.")] = 0
    stacktrace: Annotated[bool, option("--stacktrace", scope="dlq", help="Show stack traces, too.")] = False


@dataclass(frozen=True)
class ReplayOptions:
    """What to write again, and where."""

    fix: Annotated[
        str | None,
        option(
            "--fix", scope="dlq", metavar="MODULE:FUNCTION", help="Mends each record, or gives None to leave it out."
        ),
    ] = None
    to: Annotated[
        str | None, option("--to", scope="dlq", help="The topic to write to.", show_default="where each was read from")
    ] = None
    limit: Annotated[int | None, option("--limit", "-n", scope="dlq", min=1, help="Stop after so many.")] = None
    group: Annotated[
        str | None,
        option("--group", scope="dlq", help="Remembers how far this came.", show_default="TOPIC-dlq-replay"),
    ] = None
    dry_run: Annotated[bool, option("--dry-run", scope="dlq", help="Only print what would be written.")] = False


@command
async def list_letters(
    broker: BrokerOptions,
    topic: Annotated[list[str] | None, option("--topic", scope="dlq", help="Only this topic; may be repeated.")] = None,
    as_json: Annotated[bool, option("--json", scope="dlq", help="For programs.")] = False,
) -> None:
    """List the topics that end with dead letters: how many records, how many of them not replayed, the last error."""
    async with AsyncExitStack() as stack:
        transport = await stack.enter_async_context(connected(broker))
        admin = await transport.admin()
        stack.push_async_callback(admin.close)
        counts = await admin.partition_counts(topic)
        tps = _partitions({name: count for name, count in counts.items() if topic or not name.endswith(INTERNAL)})
        firsts, ends = await admin.beginning_offsets(tps), await admin.end_offsets(tps)
        last = await _last_letters(transport, firsts, ends)
        found: list[dict[str, str | int]] = [
            {
                "topic": name,
                "records": sum(ends[tp] - firsts[tp] for tp in tps if tp.topic == name),
                "waiting": await _waiting(admin, name, firsts, ends),
                "last error": f"{letter.exception}: {letter.message}"[:120],
                "at": f"{letter.topic} {letter.partition} {letter.offset}",
            }
            for name, letter in sorted(last.items())
        ]
    if as_json:
        say_json(found)
    elif found:
        say_table(list(found[0]), [list(each.values()) for each in found])
    else:
        say("there are no dead letters")


@command
async def show(
    topic: Annotated[str, argument("TOPIC", help="The dead letter topic.")], options: ShowOptions, broker: BrokerOptions
) -> None:
    """Print dead letters, one JSON object in each line: the record as it was read, and what went wrong with it.

    Bytes that are no text are printed as base64.
    """
    async with AsyncExitStack() as stack:
        transport = await stack.enter_async_context(connected(broker))
        admin = await transport.admin()
        stack.push_async_callback(admin.close)
        tps = await wanted_partitions(admin, topic, options.partition)
        firsts, ends = await admin.beginning_offsets(tps), await admin.end_offsets(tps)
        starts = {tp: min(max(first, options.offset), ends[tp]) for tp, first in firsts.items()}
        consumer = transport.consumer()
        await consumer.start()
        stack.push_async_callback(consumer.close)
        consumer.assign(starts)

        def document(tp: "TopicPartition", batch: "FetchedBatch", row: int) -> Any:
            return letter_document(tp, batch, row, stacktrace=options.stacktrace)

        until = None if options.follow else ends
        await while_read(print_records(consumer, Printer(document), starts, until, options.limit))


@command
async def replay(
    topic: Annotated[str, argument("TOPIC", help="The dead letter topic.")],
    options: ReplayOptions,
    broker: BrokerOptions,
) -> None:
    """Write dead letters again to the topic where each was read, as they are or mended by a function.

    Each is written once: how far this came is committed with what is written. It stops at the end the topic had when it
    began. The function gets a `streamlib.FailedRecord` and gives the one to write, or None to leave it out.
    """
    from streamlib.cli.dlq_replay import Replay
    from streamlib.cli.loading import load_function

    fix = None if options.fix is None else load_function(options.fix)
    async with AsyncExitStack() as stack:
        transport = await stack.enter_async_context(connected(broker))
        admin = await transport.admin()
        stack.push_async_callback(admin.close)
        tps = await wanted_partitions(admin, topic, None)
        group = options.group or f"{topic}-dlq-replay"
        replay = Replay(transport, admin, group, fix, options.to)
        if options.dry_run:
            await replay.preview(tps, options.limit)
            return
        written, left_out = await replay.run(tps, options.limit)
    say(f"replayed {written} records of {topic}" + (f", left out {left_out}" if left_out else ""))


def letter_document(tp: "TopicPartition", batch: "FetchedBatch", row: int, *, stacktrace: bool) -> dict[str, Any]:
    """A dead letter as JSON."""
    from streamlib.dead_letters import failed_record_at

    letter = failed_record_at(batch, row)
    error = {name: getattr(letter, name) for name in ("exception", "message", "topic", "partition", "offset", "node")}
    return {
        "topic": tp.topic,
        "partition": tp.partition,
        "offset": batch.offsets[row],
        "timestamp": letter.timestamp,
        "key": as_text(letter.key),
        "value": as_text(letter.value),
        "headers": [[name, as_text(value)] for name, value in letter.headers],
        "error": error | ({"stacktrace": letter.stacktrace} if stacktrace else {}),
    }


def _partitions(counts: Mapping[str, int]) -> "list[TopicPartition]":
    from streamlib.record import TopicPartition

    return [TopicPartition(topic, number) for topic, count in counts.items() for number in range(count)]


async def _last_letters(
    transport: "Transport", firsts: "Mapping[TopicPartition, int]", ends: "Mapping[TopicPartition, int]"
) -> dict[str, Any]:
    """The last dead letter of each topic that ends with one."""
    from streamlib.clock import SystemClock
    from streamlib.dead_letters import failed_record, is_letter

    starts = {tp: max(first, ends[tp] - LOOKED_AT) for tp, first in firsts.items() if first < ends[tp]}
    found: dict[str, Any] = {}
    consumer = transport.consumer()
    await consumer.start()
    clock = SystemClock()
    deadline = clock.monotonic() + LOOKING_SECONDS
    try:
        consumer.assign(starts)
        while clock.monotonic() < deadline:
            wanted = [tp for tp in starts if (consumer.position(tp) or starts[tp]) < ends[tp]]
            if not wanted:
                break
            polled = await consumer.poll(wanted, max_records=1_000, timeout_ms=200)
            for tp, batch in polled.items():
                for row, headers in enumerate(batch.headers or ()):
                    if is_letter(headers):
                        found[tp.topic] = failed_record(None, None, batch.timestamps[row], headers)
    finally:
        await consumer.close()
    return found


async def _waiting(
    admin: "Admin", topic: str, firsts: "Mapping[TopicPartition, int]", ends: "Mapping[TopicPartition, int]"
) -> int:
    """Records that `replay` has not come to."""
    committed = await admin.group_offsets(f"{topic}-dlq-replay")
    reached = {tp: max(first, committed[tp].offset if tp in committed else 0) for tp, first in firsts.items()}
    return sum(max(0, ends[tp] - offset) for tp, offset in reached.items() if tp.topic == topic)


app = typer.Typer(help="Look at dead letters, and replay them.", rich_markup_mode=None, no_args_is_help=True)
app.command("list")(list_letters)
app.command("show")(show)
app.command("replay")(replay)
