"""Exactly-once on the embedded broker: a worker process is killed again and again, and every record counts once."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from streamlib.record import TopicPartition
from streamlib.transport.base import TopicSpec, Transport
from streamlib.transport.local.transport import LocalTransport
from tests.integration.counting import APP, Worker

RECORDS = 60_000
WORDS = 100
TOPICS = ("once-in", "once-counts-repartition")
SETTINGS = (
    "processing_guarantee=exactly_once_v2",
    "commit_interval_ms=30",
    "statestore_cache_max_bytes=0",
    "session_timeout_ms=1000",
    "heartbeat_interval_ms=200",
)


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Transport]:
    transport = LocalTransport(folder)
    await transport.start()
    try:
        yield transport
    finally:
        await transport.close()


async def write(folder: Path) -> None:
    async with opened(folder) as transport:
        admin = await transport.admin()
        await admin.create_topics([TopicSpec(name, 2, 1) for name in ("once-in", "once-out")])
        producer = transport.producer()
        await producer.start()
        for partition in (0, 1):
            values: list[bytes | None] = [b"word-%d" % (number % WORDS) for number in range(partition, RECORDS, 2)]
            nothing = [None] * len(values)
            producer.append(TopicPartition("once-in", partition), nothing, values, list(range(len(values))))
        await producer.flush()
        await producer.close()
        await admin.close()


async def left(folder: Path) -> int:
    """Records that are not committed."""
    async with opened(folder) as transport:
        admin = await transport.admin()
        counts = await admin.partition_counts(TOPICS)
        tps = [TopicPartition(topic, number) for topic in counts for number in (0, 1)]
        ends = await admin.end_offsets(tps)
        held = await admin.group_offsets("once")
        await admin.close()
    return sum(ends[tp] - (held[tp].offset if tp in held else 0) for tp in tps)


async def counts(folder: Path) -> dict[str, list[int]]:
    """The counts of each word in the order of the output."""
    found: dict[str, list[int]] = {}
    async with opened(folder) as transport:
        admin = await transport.admin()
        tps = [TopicPartition("once-out", number) for number in (0, 1)]
        ends = await admin.end_offsets(tps)
        await admin.close()
        consumer = transport.consumer()
        await consumer.start()
        consumer.assign(dict.fromkeys(tps, 0))
        async with asyncio.timeout(30):
            while any((consumer.position(tp) or 0) < ends[tp] for tp in tps):
                for batch in (await consumer.poll(tps, max_records=100_000, timeout_ms=100)).values():
                    for key, value in zip(batch.keys, batch.values, strict=True):
                        assert key is not None
                        assert value is not None
                        found.setdefault(key.decode(), []).append(int.from_bytes(value, "big"))
        await consumer.close()
    return found


async def worked(worker: Worker, broker: Path, patience: int) -> None:
    """Return when a worker has got somewhere, later ones later; the last have time to finish."""
    before = last = await left(broker)
    while last > 0 and (last == before or patience > 5):
        assert worker.process.poll() is None, worker.text[-3000:]
        await asyncio.sleep(0.02 * patience)
        last = await left(broker)


async def test_every_record_counts_once_though_the_worker_is_killed_again_and_again(tmp_path: Path) -> None:
    broker = tmp_path / "broker"
    await write(broker)
    (tmp_path / "app.py").write_text(APP.format(name="once"))
    options = [part for pair in SETTINGS for part in ("--set", pair)]
    command = [sys.executable, "-m", "streamlib", "worker", "app:topology", "--broker", f"local:{broker}"]
    command += ["--state-dir", str(tmp_path / "state"), *options]
    workers: list[Worker] = []
    try:
        async with asyncio.timeout(120):
            while await left(broker):
                workers.append(Worker(command, tmp_path / "worker.log", tmp_path))
                await worked(workers[-1], broker, len(workers) - 1)
                workers[-1].process.kill()
                workers[-1].process.wait()
    finally:
        for worker in workers:
            worker.process.kill()
    assert len(workers) > 3
    assert await counts(broker) == {f"word-{n}": list(range(1, RECORDS // WORDS + 1)) for n in range(WORDS)}
