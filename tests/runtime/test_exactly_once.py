"""What a worker promises under exactly_once_v2: all of a commit or nothing of it, and little to read again."""

import asyncio
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from streamlib import PunctuationType, Record, Stores, StreamsBuilder, serdes
from streamlib.config import StreamsConfig
from streamlib.errors import CommitError, ConfigError, DeliveryError
from streamlib.kafka_streams import KafkaStreams
from streamlib.record import TopicPartition
from streamlib.runtime.restore import Restorer
from streamlib.topology.processor_api import Processor
from streamlib.topology.topology import Topology
from streamlib.transport.base import OffsetAndMetadata
from streamlib.transport.embedded.producer import EmbeddedProducer
from streamlib.transport.memory import MemoryTransport
from tests.runtime.conftest import Application
from tests.runtime.flaky import Faults, FlakyTransport
from tests.runtime.test_worker_faults import Impatient

TEXT: Any = {"key_serde": serdes.STRING, "value_serde": serdes.STRING}
pytestmark = pytest.mark.parametrize("app", ["exactly_once_v2"], indirect=True)


def counting() -> Topology:
    """Each record gives the count of its key so far, with a repartition topic on the way."""
    builder = StreamsBuilder("counting")
    words = builder.stream("in", **TEXT).group_by(lambda _, word: word)
    words.count(store="counts").to_stream().to("out", value_serde=serdes.INT64)
    return builder.build()


async def counts(app: Application) -> dict[str, list[int]]:
    """The counts of each key in the order of the output."""
    found: dict[str, list[int]] = {}
    for key, value, _ in await app.read("out"):
        assert key is not None
        assert value is not None
        found.setdefault(key.decode(), []).append(int.from_bytes(value, "big"))
    return found


def flaky(app: Application, faults: Faults, **settings: Any) -> KafkaStreams:
    pairs = {
        "processing_guarantee": app.guarantee,
        "commit_interval_ms": 30,
        "statestore_cache_max_bytes": 0,
        "state_dir": app.state_dir / "flaky",
        **settings,
    }
    return KafkaStreams(counting(), pairs, transport=FlakyTransport(app.transport(), faults), clock=Impatient())


async def test_nobody_sees_a_record_before_its_commit(app: Application) -> None:
    await app.create(1, "in", "out")
    await app.produce("in", [(None, "a", n) for n in range(10)])
    async with app.streams(counting(), commit_interval_ms=60_000):
        async with app.opened() as transport, asyncio.timeout(20):
            admin = await transport.admin()
            tp = TopicPartition("counting-counts-repartition", 0)
            while (await admin.end_offsets([tp]))[tp] < 10:  # they are in the log
                await asyncio.sleep(0.02)
        with pytest.raises(TimeoutError):  # a reader of committed records waits for them
            async with asyncio.timeout(0.3):
                await app.read("counting-counts-repartition")
    assert await app.lag("counting", ["in"]) == 0
    assert len(await app.read("counting-counts-repartition")) == 10


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("producer.flush", DeliveryError("refused")),
        ("producer.send_offsets", CommitError("the group has moved on")),
        ("producer.send_offsets", DeliveryError("no answer")),
        ("producer.commit", DeliveryError("no answer")),
        ("producer.commit", CommitError("fenced")),
        ("producer.begin", DeliveryError("no answer")),
    ],
)
async def test_every_record_counts_once_whatever_step_of_a_commit_fails(
    app: Application, call: str, error: Exception, after: bool
) -> None:
    await app.create(2, "in", "out")
    faults = Faults()
    async with flaky(app, faults) as streams:
        for _ in range(4):
            faults.fail(call, 1, error, after=after)
            await app.produce("in", [(None, f"w{n % 5}", n) for n in range(100)])
            await app.drained(streams, "in", "counting-counts-repartition")
    assert faults.calls["producer.start"] > 4
    assert await counts(app) == {f"w{n}": list(range(1, 81)) for n in range(5)}


class Counted:
    """Hears of restoring, and adds up."""

    def __init__(self) -> None:
        self.records = 0

    def started(self, tp: TopicPartition, store: str, start: int, end: int) -> None:
        pass

    def progressed(self, tp: TopicPartition, records: int) -> None:
        self.records += records

    def finished(self, tp: TopicPartition) -> None:
        pass


async def crash(streams: KafkaStreams, transport: MemoryTransport) -> None:
    """Take the broker away from under a worker, and end it as a signal would: no last commit."""
    await transport.kill()
    streams._running.cancel()  # type: ignore[union-attr]
    with pytest.raises((asyncio.CancelledError, Exception)):
        await streams._running  # type: ignore[misc]
    await streams._stack.aclose()


async def test_a_crashed_worker_leaves_nothing_behind_and_replays_one_transaction_at_most(app: Application) -> None:
    await app.create(1, "in", "out")
    restored = Counted()
    for round_number in range(5):
        transport = MemoryTransport(app.broker)
        config = StreamsConfig(
            "counting",
            app.state_dir / "w",
            processing_guarantee="exactly_once_v2",
            commit_interval_ms=40,
            statestore_cache_max_bytes=0,
            session_timeout_ms=300,
            heartbeat_interval_ms=50,
        )
        await app.produce("in", [(None, f"w{n % 5}", n) for n in range(200)])
        streams = KafkaStreams(counting(), config, transport=transport, listener=restored)
        await streams.__aenter__()
        if round_number:
            await app.drained(streams, "in", "counting-counts-repartition")
            await app.produce("in", [(None, f"w{n % 5}", n) for n in range(50)])
        await asyncio.sleep(0.02 * round_number)
        await crash(streams, transport)
    last = await app.run(counting(), "in", "counting-counts-repartition", worker="w", statestore_cache_max_bytes=0)
    assert not last.failed
    assert await counts(app) == {f"w{n}": list(range(1, 241)) for n in range(5)}
    assert restored.records <= 5 * 200


async def test_a_worker_that_the_group_has_expelled_commits_nothing(app: Application) -> None:
    await app.create(1, "in", "out")
    faults = Faults()
    async with flaky(app, faults) as streams:
        await app.produce("in", [(None, "a", n) for n in range(10)])
        await app.drained(streams, "in", "counting-counts-repartition")
        manager = streams._worker.manager  # type: ignore[union-attr]
        (task, *_) = manager.tasks.values()
        assert manager.group is not None
        stale = replace(manager.group, generation=manager.group.generation - 1)
        producer = app.transport().producer("other")
        await producer.start()
        await producer.begin()
        producer.append(TopicPartition("out", 0), [b"zombie"], [b"1"], [1])
        with pytest.raises(CommitError):
            await producer.send_offsets({tp: OffsetAndMetadata(0) for tp in task.queues}, stale)
        await producer.close()
    assert "zombie" not in await counts(app)


class Ticks(Processor[str, str, str, str]):
    """Writes by the wall clock only."""

    def init(self, context: Any) -> None:
        super().init(context)
        context.schedule(timedelta(milliseconds=20), PunctuationType.WALL_CLOCK_TIME, self.tick)

    def process(self, record: Record[str, str]) -> None:
        raise AssertionError("there are no records")

    def tick(self, now: int) -> None:
        self.context.forward(Record("tick", str(now), now))


async def test_what_a_timer_writes_is_committed_with_an_offset_of_its_task(app: Application) -> None:
    builder = StreamsBuilder("ticking")
    builder.stream("in", **TEXT).process(Ticks).to("out", **TEXT)
    await app.create(2, "in", "out")
    faults = Faults()
    sent: list[set[int]] = []
    transport = FlakyTransport(app.transport(), faults)
    config = {
        "processing_guarantee": app.guarantee,
        "commit_interval_ms": 30,
        "state_dir": app.state_dir / "ticks",
    }
    async with KafkaStreams(builder.build(), config, transport=transport) as streams:
        producer = streams._worker._producer.current  # type: ignore[union-attr]
        real = producer._real.send_offsets

        async def seen(offsets: Any, group: Any) -> None:
            sent.append({tp.partition for tp in offsets})
            await real(offsets, group)

        producer._real.send_offsets = seen
        async with asyncio.timeout(10):
            while len(await app.read("out")) < 10:
                await asyncio.sleep(0.02)
    assert sent
    assert all(partitions <= {0, 1} and partitions for partitions in sent)
    assert {0, 1} in sent


async def test_calls_under_way_at_a_rebalance_leave_nothing_of_their_transaction(app: Application) -> None:
    gate = asyncio.Event()

    async def call(value: str) -> str:
        if value == "slow" and not gate.is_set():
            await gate.wait()
        return f"{value}!"

    builder = StreamsBuilder("calls")
    builder.stream("in", **TEXT).map_values_async(call, ordered=False).to("out")
    topology = builder.build()
    await app.create(2, "in", "out")
    await app.produce("in", [(f"k{n}", "slow" if n == 3 else "quick", n) for n in range(20)])
    options = {"rebalance_timeout_ms": 800, "commit_interval_ms": 20}
    async with app.streams(topology, worker="first", **options) as first:
        await asyncio.sleep(0.2)
        assert await app.lag("calls", ["in"]) is None
        async with app.streams(topology, worker="second", **options) as second:
            async with asyncio.timeout(20):
                while not len(first.tasks) == len(second.tasks) == 1:
                    await asyncio.sleep(0.02)
            gate.set()
            await app.drained(first, "in")
    written = sorted((key, value) for key, value, _ in await app.read("out"))
    assert written == sorted((f"k{n}".encode(), b"slow!" if n == 3 else b"quick!") for n in range(20))


async def test_calls_that_outlast_a_stop_leave_nothing_in_the_stores_above_them(app: Application) -> None:
    gate = asyncio.Event()

    async def call(value: str) -> str:
        if not gate.is_set():
            await gate.wait()
        return f"{value}!"

    builder = StreamsBuilder("calls")
    counted = builder.stream("in", **TEXT).group_by_key().count(store="counts").to_stream()
    counted.map_values(str, value_serde=serdes.STRING).map_values_async(call).to("out")
    topology = builder.build()
    await app.create(1, "in", "out")
    await app.produce("in", [("a", "x", n) for n in range(10)])
    settings = {"commit_interval_ms": 20, "statestore_cache_max_bytes": 0}
    async with app.streams(topology, shutdown_timeout_ms=400, **settings) as streams:
        async with asyncio.timeout(20):
            while streams.metrics.total("records_processed_total") < 10:
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.2)  # the changelog has the rows, in a transaction that is not committed
    assert await app.read("out") == []
    gate.set()
    await app.run(topology, "in", **settings)
    assert [value for _, value, _ in await app.read("out")] == [b"%d!" % n for n in range(1, 11)]


async def test_what_a_task_writes_when_it_starts_is_not_in_the_commit_that_is_being_made(
    app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Starting(Processor[str, str, str, str]):
        @staticmethod
        def stores() -> list[Any]:
            return [Stores.key_value_store("starts", serdes.STRING, serdes.INT64)]

        def init(self, context: Any) -> None:
            super().init(context)
            store = context.get_state_store("starts")
            store.put("starts", (store.get("starts") or 0) + 1)
            context.forward(Record("start", str(store.get("starts")), 0))

        def process(self, record: Record[str, str]) -> None:
            self.context.forward(record)

    builder = StreamsBuilder("starting")
    builder.stream("busy", **TEXT).to("out")
    builder.stream("quiet", **TEXT).process(Starting).to("starts")
    topology = builder.build()
    await app.create(1, "busy", "quiet", "out", "starts")
    await app.produce("quiet", [("k", "v", 1)])
    await app.run(topology, "quiet")

    sent, restored = asyncio.Event(), asyncio.Event()
    send_offsets, complete = EmbeddedProducer.send_offsets, Restorer._complete

    async def send_and_wait(self: EmbeddedProducer, *arguments: Any) -> None:
        await send_offsets(self, *arguments)
        sent.set()
        await restored.wait()
        await asyncio.sleep(0.1)

    async def wait_and_complete(self: Restorer, *arguments: Any) -> None:
        await sent.wait()
        await complete(self, *arguments)
        restored.set()

    monkeypatch.setattr(EmbeddedProducer, "send_offsets", send_and_wait)
    monkeypatch.setattr(Restorer, "_complete", wait_and_complete)
    await app.produce("busy", [("k", "v", n) for n in range(10)])
    await app.produce("quiet", [("k", "w", 2)])
    await app.run(topology, "busy", "quiet", worker="another")
    assert restored.is_set()
    assert [value for _, value, _ in await app.read("starts")] == [b"1", b"v", b"2", b"w"]


async def test_what_an_aborted_transaction_leaves_in_an_input_is_stepped_over(app: Application) -> None:
    await app.create(1, "in", "out")
    async with app.opened() as transport:
        for abort in (False, True):
            producer = transport.producer("elsewhere")
            await producer.start()
            await producer.begin()
            producer.append(TopicPartition("in", 0), [None] * 5, [b"a"] * 5, [1] * 5)
            await producer.flush()
            await (producer.abort() if abort else producer.commit())
            await producer.close()
    await app.run(counting(), "in", "counting-counts-repartition")  # until nothing lags
    assert (await counts(app))["a"][-1] == 5


async def test_a_commit_interval_that_no_transaction_lasts_is_refused(app: Application) -> None:
    with pytest.raises(ConfigError, match="is not below transaction_timeout_ms=5000"):
        app.streams(counting(), commit_interval_ms=6_000, transaction_timeout_ms=5_000)


async def test_calls_that_no_transaction_lasts_for_are_refused(app: Application) -> None:
    async def call(value: str) -> str:
        return value

    builder = StreamsBuilder("calls")
    builder.stream("in", **TEXT).map_values_async(
        call, name="ask", timeout=timedelta(seconds=4), retries=2, backoff=timedelta(milliseconds=200)
    ).to("out")
    await app.create(1, "in", "out")
    with pytest.raises(ConfigError, match=r"calls of ask may take 12600 ms .* above 12700"):
        await app.run(builder.build(), "in", commit_interval_ms=100, transaction_timeout_ms=12_700)
    await app.run(builder.build(), "in", commit_interval_ms=100, transaction_timeout_ms=12_701)


def test_a_worker_without_asserts_is_refused(app: Application) -> None:
    program = """
import asyncio
from streamlib import KafkaStreams, StreamsBuilder
builder = StreamsBuilder("words")
builder.stream("in").to("out")
async def main():
    async with KafkaStreams(builder.build(), {"processing_guarantee": "exactly_once_v2"}, broker="local:nowhere"):
        pass
asyncio.run(main())
"""
    del app
    told = subprocess.run([sys.executable, "-O", "-c", program], capture_output=True, text=True, check=False)
    assert told.returncode != 0
    assert "exactly_once_v2 needs Python's assert statements" in told.stderr


async def test_the_transactional_id_stays_with_the_state_directory(app: Application) -> None:
    await app.create(1, "in", "out")
    files = []
    for _ in range(2):
        await app.run(counting(), "in", "counting-counts-repartition", worker="w")
        files.append((app.state_dir / "w" / "counting" / "process.id").read_text())
    assert files[0] == files[1]
