"""``streamlib demo``: the flights of 2013 through a real worker on the embedded broker, in a minute, with no server.

The topology is `apps/flights` of the source tree, shipped as `streamlib.demo_apps`. Next: `kafka_streams`.
"""

import importlib
import logging
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

from streamlib.cli.options import command, option

if TYPE_CHECKING:
    from streamlib.config import StreamsConfig
    from streamlib.record import RecordBatch
    from streamlib.transport.base import Admin, Producer, Transport

PARTITIONS = 4
LOAD_RECORDS = 10_000
REFRESH_SECONDS = 0.1
COMMIT_INTERVAL_MS = 1_000


@command
async def demo(
    keep: Annotated[
        Path | None,
        option("--keep", scope="demo", metavar="DIR", help="Keep the broker and the state there, to look around."),
    ] = None,
) -> None:
    """Run the flights of 2013 through a worker on the embedded broker, and print the delay of each airline."""
    from streamlib.cli.output import say
    from streamlib.config import StreamsConfig
    from streamlib.kafka_streams import connect

    logging.getLogger("streamlib").setLevel(logging.WARNING)
    with ExitStack() as stack:
        base = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="streamlib-demo-")))
        transport = connect(f"local:{base / 'broker'}")
        config = StreamsConfig("flights", state_dir=base / "state", commit_interval_ms=COMMIT_INTERVAL_MS)
        await run_demo(transport, config)
        if keep is not None:
            say(f"Look around: streamlib topics --broker local:{base / 'broker'}")


async def run_demo(transport: "Transport", config: "StreamsConfig") -> None:
    """Load, process, print; the transport is opened and closed here.

    Raises:
        ConfigError: The demo's data is not installed.
    """
    from streamlib.clock import SystemClock

    data = _app("flights_data")
    await transport.start()
    admin = await transport.admin()
    try:
        loaded = await load(transport, admin, data)
        clock = SystemClock()
        began = clock.monotonic()
        await process(transport, admin, config, loaded)
        seconds = clock.monotonic() - began
        await report(transport, admin, seconds)
    finally:
        await admin.close()
        await transport.close()


def _app(name: str) -> ModuleType:
    from streamlib.errors import ConfigError

    try:
        return importlib.import_module(f"streamlib.demo_apps.{name}")
    except ModuleNotFoundError as error:
        raise ConfigError(str(error)) from error


async def load(transport: "Transport", admin: "Admin", data: ModuleType) -> int:
    """Produce all records of the four input topics; returns how many."""
    from rich.progress import track

    from streamlib.cli.output import say
    from streamlib.errors import ConfigError
    from streamlib.transport.base import TopicSpec

    outputs = vars(_app("flights"))
    names = [*data.TOPICS, *(outputs[name] for name in ("DELAY_PER_CARRIER", "DEPARTURES_PER_HOUR"))]
    keep = {"retention.ms": "-1"}  # the flights are of 2013: a broker would delete them for their age
    names.append(outputs["FLIGHTS_WITH_PLANES"])
    await admin.create_topics([TopicSpec(name, PARTITIONS, configs=keep) for name in names])
    producer = transport.producer()
    await producer.start()
    total = 0
    try:
        for topic in track(data.TOPICS, description="Loading   ", transient=True):
            records = list(data.records(topic))
            total += len(records)
            await _produce(producer, topic, records)
        await producer.flush()
    except ModuleNotFoundError as error:
        raise ConfigError(str(error)) from error
    finally:
        await producer.close()
    say(f"Loaded {total:,} records into {len(data.TOPICS)} topics of the embedded broker.")
    return total


async def _produce(producer: "Producer", topic: str, records: list[Any]) -> None:
    from streamlib.record import TopicPartition
    from streamlib.transport.partitioner import Partitioner

    columns: dict[int, tuple[list[bytes], list[bytes], list[int]]] = {}
    partitions = Partitioner().partitions(topic, [record.key for record in records], PARTITIONS)
    for partition, record in zip(partitions, records, strict=True):
        keys, values, timestamps = columns.setdefault(partition, ([], [], []))
        keys.append(record.key)
        values.append(record.value)
        timestamps.append(record.timestamp)
    for partition, (keys, values, timestamps) in columns.items():
        for first in range(0, len(keys), LOAD_RECORDS):
            part = slice(first, first + LOAD_RECORDS)
            producer.append(TopicPartition(topic, partition), keys[part], values[part], timestamps[part])
            await producer.drain()


async def process(transport: "Transport", admin: "Admin", config: "StreamsConfig", loaded: int) -> None:
    """Run the worker until everything is processed and committed."""
    import asyncio

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from streamlib.kafka_streams import KafkaStreams

    topology = _app("flights").topology
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, transient=True) as progress:
        bar = progress.add_task("Processing", total=loaded)
        async with KafkaStreams(topology, config, transport=_Shared(transport)) as streams:
            running = asyncio.ensure_future(streams.wait())
            while not running.done() and (lag := await uncommitted(admin, config.application_id)) != 0:
                done = streams.metrics.total("records_processed_total")
                progress.update(bar, completed=done, total=max(done + (lag or 0), loaded))
                await asyncio.wait([running], timeout=REFRESH_SECONDS)
            streams.stop()
            await running


class _Shared:
    """A transport that its borrower opens and closes without effect."""

    def __init__(self, transport: "Transport") -> None:
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    async def start(self) -> None:
        """It is open."""

    async def close(self) -> None:
        """Its owner closes it."""


async def uncommitted(admin: "Admin", group: str) -> int | None:
    """Records that the application has not committed; None before its first commit of every input."""
    from streamlib.record import TopicPartition

    counts = await admin.partition_counts()
    committed = await admin.group_offsets(group)
    internal = {topic for topic in counts if topic.startswith(f"{group}-") and topic.endswith("-repartition")}
    read = {tp.topic for tp in committed} | {"flights", "planes"} | internal
    tps = [TopicPartition(topic, number) for topic in read for number in range(counts.get(topic, 0))]
    ends = await admin.end_offsets(tps)
    if any(tp not in committed and ends[tp] > 0 for tp in tps):
        return None
    return sum(ends[tp] - committed[tp].offset for tp in tps if tp in committed)


async def report(transport: "Transport", admin: "Admin", seconds: float) -> None:
    """Print the table of airlines, read from the output topics."""
    import msgspec

    from streamlib.cli.output import say, say_table

    app = _app("flights")
    carriers = {
        key: msgspec.json.decode(value, type=app.CarrierDelay)
        for key, value in (await latest(transport, admin, app.DELAY_PER_CARRIER)).items()
    }
    rows = sorted(carriers.items(), key=lambda entry: -entry[1].flights)
    flights = sum(delay.flights for delay in carriers.values())
    say_table(
        ["carrier", "airline", "flights", "mean departure delay, min"],
        [(key.decode(), delay.airline, delay.flights, _minutes(delay.mean_delay_minutes)) for key, delay in rows],
        footer=["", "all", f"{flights:,}", ""],
    )
    hours = await latest(transport, admin, app.DEPARTURES_PER_HOUR)
    enriched = await _count(transport, admin, app.FLIGHTS_WITH_PLANES)
    say(f"{len(hours):,} hours with departures at an airport; {enriched:,} flights matched with their plane.")
    say(f"{flights:,} flights in {seconds:.1f} s: {flights / seconds:,.0f} flights/s through three sub-topologies.")


def _minutes(mean: float | None) -> str:
    return "-" if mean is None else f"{mean:.6f}"


async def latest(transport: "Transport", admin: "Admin", topic: str) -> Mapping[bytes, bytes]:
    """The newest value of each key of a topic."""
    latest: dict[bytes, bytes] = {}
    async for batch in batches(transport, admin, topic):
        latest.update(zip(batch.keys, batch.values, strict=True))
    return latest


async def _count(transport: "Transport", admin: "Admin", topic: str) -> int:
    return sum([len(batch) async for batch in batches(transport, admin, topic)])


async def batches(transport: "Transport", admin: "Admin", topic: str) -> "AsyncIterator[RecordBatch]":
    """All batches of a topic, up to the end it has now."""
    from streamlib.record import TopicPartition

    counts = await admin.partition_counts([topic])
    tps = [TopicPartition(topic, number) for number in range(counts[topic])]
    ends = await admin.end_offsets(tps)
    consumer = transport.consumer()
    await consumer.start()
    try:
        consumer.assign(dict.fromkeys(tps, 0))
        waiting = {tp for tp in tps if ends[tp] > 0}
        while waiting:
            polled = await consumer.poll(waiting, max_records=LOAD_RECORDS, timeout_ms=100)
            for batch in polled.values():
                yield batch
            waiting = {tp for tp in waiting if (consumer.position(tp) or 0) < ends[tp]}
    finally:
        await consumer.close()
