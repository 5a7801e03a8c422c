"""What a worker does when calls to the broker fail: wait, or drop and restore, and never lose a record."""

import asyncio
import logging

import pytest

from streamlib import KafkaStreams, StreamsBuilder, serdes
from streamlib.clock import SystemClock
from streamlib.errors import (
    AuthorizationError,
    BrokerUnavailableError,
    CommitError,
    DeliveryError,
    MissingTopicError,
    OffsetOutOfRangeError,
    ProcessingError,
    TransportError,
)
from streamlib.transport.memory import MemoryTransport
from tests.runtime.flaky import Faults, FlakyTransport

TEXT = {"key_serde": serdes.STRING, "value_serde": serdes.STRING}


def counting():
    builder = StreamsBuilder("counting")
    (
        builder.stream("in", **TEXT)
        .group_by(lambda _, word: word)
        .count(store="counts")
        .to_stream()
        .to("out", value_serde=serdes.INT64)
    )
    return builder.build()


class Impatient(SystemClock):
    """Pauses between tries take no time worth mentioning."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, 0.01))


class Hasty(Impatient):
    """Time passes a hundred times as fast."""

    def monotonic(self) -> float:
        return super().monotonic() * 100


def flaky(app, faults: Faults, **settings) -> KafkaStreams:
    pairs = {
        "commit_interval_ms": 50,
        "state_dir": app.state_dir / "flaky",
        "processing_guarantee": app.guarantee,
        **settings,
    }
    return KafkaStreams(counting(), pairs, transport=FlakyTransport(app.transport(), faults), clock=Impatient())


async def counts(app) -> dict[str, int]:
    return {key.decode(): int.from_bytes(value, "big") for key, value, _ in await app.read("out")}


async def prepared(app, records: int = 100) -> None:
    await app.create(2, "in", "out")
    await app.produce("in", [(None, f"w{n % 5}", n) for n in range(records)])


START_CALLS = (
    "transport.start",
    "transport.admin",
    "admin.partition_counts",
    "admin.create_topics",
    "admin.topic_configs",
    "producer.start",
    "member.start",
)


async def started_at_the_third_try(app, call: str, caplog: pytest.LogCaptureFixture, *failure: Exception) -> None:
    await prepared(app)
    faults = Faults()
    if call == "admin.topic_configs":  # asked for topics that exist already
        await app.run(counting(), "in")
    faults.fail(call, 2, *failure)
    with caplog.at_level(logging.WARNING):
        async with flaky(app, faults) as streams:
            await app.drained(streams, "in", "counting-counts-repartition")
    assert faults.calls[call] >= 3
    assert await counts(app) == dict.fromkeys(("w0", "w1", "w2", "w3", "w4"), 20)


@pytest.mark.parametrize("call", START_CALLS)
async def test_a_start_is_tried_again_whichever_call_finds_no_broker(app, call: str, caplog) -> None:
    await started_at_the_third_try(app, call, caplog)
    assert [record.getMessage() for record in caplog.records] == [
        f"waiting for the broker at memory:: {call} found no broker"
    ]


@pytest.mark.parametrize("call", START_CALLS)
async def test_a_start_that_is_given_up_leaves_nothing_behind(app, call: str) -> None:
    await prepared(app)
    if call == "admin.topic_configs":
        await app.run(counting(), "in")
    faults, before = Faults(), asyncio.all_tasks()
    faults.fail(call, 1000)
    with pytest.raises(BrokerUnavailableError, match=call):
        async with flaky(app, faults, broker_start_timeout_ms=0):
            pass
    assert asyncio.all_tasks() == before
    async with flaky(app, Faults()) as streams:  # the state directory is free, the group empty
        await app.drained(streams, "in", "counting-counts-repartition")


@pytest.mark.parametrize(
    "call", ["member.poll", "member.commit", "producer.flush", "producer.drain", "member.committed"]
)
async def test_every_record_counts_once_when_the_broker_does_not_answer_for_a_while(app, call: str) -> None:
    await prepared(app)
    faults = Faults()
    async with flaky(app, faults, statestore_cache_max_bytes=0) as streams:
        await app.drained(streams, "in", "counting-counts-repartition")
        for _ in range(3):
            faults.fail(call, 3)
            await app.produce("in", [(None, f"w{n % 5}", n) for n in range(100)])
            await app.drained(streams, "in", "counting-counts-repartition")
    assert await counts(app) == dict.fromkeys(("w0", "w1", "w2", "w3", "w4"), 80)


@pytest.mark.parametrize(
    ("app", "call", "error"),
    [
        ("at_least_once", "producer.flush", DeliveryError("refused")),
        ("at_least_once", "member.commit", CommitError("the group has moved on")),
        ("exactly_once_v2", "producer.flush", DeliveryError("refused")),
        ("exactly_once_v2", "producer.send_offsets", CommitError("the group has moved on")),
        ("exactly_once_v2", "producer.commit", DeliveryError("no answer")),
        ("exactly_once_v2", "producer.begin", DeliveryError("no answer")),
    ],
    indirect=["app"],
)
@pytest.mark.parametrize("after", [False, True])
async def test_no_record_is_lost_when_a_record_or_a_commit_is_refused(
    app, call: str, error: Exception, after: bool
) -> None:
    await prepared(app)
    faults = Faults()
    async with flaky(app, faults) as streams:
        await app.drained(streams, "in", "counting-counts-repartition")
        for _ in range(3):
            faults.fail(call, 1, error, after=after)
            await app.produce("in", [(None, f"w{n % 5}", n) for n in range(100)])
            await app.drained(streams, "in", "counting-counts-repartition")
    assert faults.calls["producer.start"] > 1
    assert all(count >= 80 for count in (await counts(app)).values())


NOT_PERMITTED = AuthorizationError("alice may not")
RUN_CALLS = (
    *("member.poll", "member.committed", "producer.drain", "producer.flush", "producer.start"),
    *("reader.start", "reader.poll", "admin.end_offsets", "admin.partition_counts", "admin.topic_ids"),
)


@pytest.mark.parametrize("call", START_CALLS)
async def test_a_start_is_tried_again_whichever_call_is_not_permitted_at_first(app, call: str, caplog) -> None:
    await started_at_the_third_try(app, call, caplog, NOT_PERMITTED)
    assert [record.getMessage() for record in caplog.records] == ["waiting up to 60 s for a permission: alice may not"]


@pytest.mark.parametrize("call", RUN_CALLS)
async def test_no_record_is_lost_when_a_call_is_not_permitted_for_a_while(app, call: str, caplog) -> None:
    await prepared(app)
    await app.run(counting(), "in", "counting-counts-repartition")
    faults = Faults()
    if call.startswith(("reader", "admin.end", "producer.start", "member.committed")):
        faults.fail("member.poll", 1, DeliveryError("restore"))
    async with flaky(app, faults, statestore_cache_max_bytes=0) as streams:
        faults.fail(call, 3, NOT_PERMITTED)
        await app.produce("in", [(None, f"w{n % 5}", n) for n in range(100)])
        await app.drained(streams, "in", "counting-counts-repartition")
    assert faults.calls[call] > 3
    told = [record.getMessage() for record in caplog.records if "for a permission" in record.getMessage()]
    assert told == ["waiting up to 60 s for a permission: alice may not"]
    found = await counts(app)
    assert found.keys() == {"w0", "w1", "w2", "w3", "w4"}
    assert all(count >= 40 for count in found.values())
    assert app.guarantee == "at_least_once" or set(found.values()) == {40}


@pytest.mark.parametrize("call", ["admin.partition_counts", "member.poll", "producer.flush"])
async def test_a_worker_stops_with_what_it_may_not_do_when_that_is_not_granted_in_a_minute(app, call: str) -> None:
    await prepared(app)
    faults = Faults()
    faults.fail(call, 1_000_000, NOT_PERMITTED)
    settings = {"commit_interval_ms": 50, "state_dir": app.state_dir / "flaky", "processing_guarantee": app.guarantee}
    clock = Hasty()
    began = clock.monotonic()
    async with asyncio.timeout(20):
        with pytest.raises(AuthorizationError, match="alice may not"):
            async with KafkaStreams(
                counting(), settings, transport=FlakyTransport(app.transport(), faults), clock=clock
            ) as streams:
                await streams.wait()
    assert clock.monotonic() - began >= 60
    assert faults.calls[call] > 3


async def test_a_long_outage_is_told_in_one_line(app, caplog) -> None:
    await prepared(app)
    faults = Faults()
    async with flaky(app, faults) as streams:
        await app.drained(streams, "in", "counting-counts-repartition")
        with caplog.at_level(logging.WARNING):
            faults.fail("member.poll", 20)
            last = faults.calls["member.poll"] + 25
            async with asyncio.timeout(20):
                while faults.calls["member.poll"] < last:
                    await asyncio.sleep(0.02)
        told = [record.getMessage() for record in caplog.records]
        assert told == ["waiting for the broker at memory:: member.poll found no broker"]


@pytest.mark.slow
async def test_a_worker_that_alone_finds_no_broker_gives_up_in_the_end(app) -> None:
    await prepared(app)
    faults = Faults()
    faults.fail("member.commit", 1_000_000)
    settings = {"commit_interval_ms": 50, "state_dir": app.state_dir / "flaky"}
    transport = FlakyTransport(app.transport(), faults)
    streams = KafkaStreams(counting(), settings, transport=transport, clock=Hasty())
    await streams.__aenter__()
    async with asyncio.timeout(20):
        with pytest.raises(TransportError, match=r"cannot go on, although .* answers new connections.*member.commit"):
            await streams.wait()
    with pytest.raises(TransportError):
        await streams.__aexit__()


async def test_a_stop_does_not_wait_for_a_broker_that_is_away(app) -> None:
    await prepared(app)
    faults = Faults()
    async with flaky(app, faults, shutdown_timeout_ms=500) as streams:
        await app.drained(streams, "in", "counting-counts-repartition")
        faults.fail("member.poll", 1_000_000)
        faults.fail("transport.admin", 1_000_000)
        async with asyncio.timeout(20):
            while faults.calls["member.poll"] < 5:
                await asyncio.sleep(0.02)
        loop = asyncio.get_running_loop()
        began = loop.time()
        streams.stop()
        await streams.wait()
        assert loop.time() - began < 2


async def test_committed_rows_of_a_store_without_changelog_survive_dropped_work(app) -> None:
    builder = StreamsBuilder("unlogged")
    (
        builder.stream("in", **TEXT)
        .map_values(lambda text: 100 // int(text), name="divide", value_serde=serdes.INT64)
        .group_by_key()
        .reduce(lambda total, n: total + n, store="sums", logging=False)
        .to_stream()
        .to("out")
    )
    topology = builder.build()

    async def run_into_a_zero() -> None:
        async with app.streams(topology) as streams:
            await app.drained(streams, "in")
            await app.produce("in", [("a", "0", 2), ("a", "20", 3)])
            await streams.wait()

    await app.create(1, "in", "out")
    await app.produce("in", [("a", "10", 1)])
    with pytest.raises(ProcessingError):
        await run_into_a_zero()
    await app.run(topology, "in", processing_exception_handler="skip")
    assert await counts(app) == {"a": 15}


@pytest.mark.parametrize(
    ("topic", "message"),
    [
        ("in", 'the source topic "in" does not exist any more. Create it again, or take it out of the topology'),
        ("out", 'the sink topic "out" does not exist any more. Create it again'),
        (
            "counting-counts-repartition",
            'the repartition topic "counting-counts-repartition" does not exist any more. Records',
        ),
        ("counting-counts-changelog", 'the changelog topic "counting-counts-changelog" .*streamlib reset'),
    ],
)
async def test_a_deleted_topic_stops_the_worker_with_its_name_and_the_mend(app, topic: str, message: str) -> None:
    async def run_into_a_deletion() -> None:
        async with app.opened() as transport, flaky(app, Faults()) as streams:
            await app.drained(streams, "in", "counting-counts-repartition")
            admin = await transport.admin()
            await admin.delete_topics([topic])
            await admin.close()
            async with asyncio.timeout(20):
                await streams.wait()

    await prepared(app)
    with pytest.raises(MissingTopicError, match=message):
        await run_into_a_deletion()


@pytest.mark.parametrize(
    "error", [OffsetOutOfRangeError("cut"), BrokerUnavailableError("away"), MissingTopicError("new")]
)
async def test_restoring_begins_again_after_a_passing_error(app, error: Exception) -> None:
    await prepared(app)
    await app.run(counting(), "in", "counting-counts-repartition", worker="first")
    await app.produce("in", [(None, f"w{n % 5}", n) for n in range(100)])
    faults = Faults()
    faults.fail("reader.poll", 2, error)
    async with flaky(app, faults) as streams:
        await app.drained(streams, "in", "counting-counts-repartition")
    assert faults.calls["reader.poll"] > 2
    assert await counts(app) == dict.fromkeys(("w0", "w1", "w2", "w3", "w4"), 40)


class Freezable(SystemClock):
    """Time of a process that may be stopped: nothing that waits on it goes on until it is let go."""

    def __init__(self) -> None:
        self._runs = asyncio.Event()
        self._runs.set()

    def freeze(self) -> None:
        self._runs.clear()

    def thaw(self) -> None:
        self._runs.set()

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds)
        await self._runs.wait()


@pytest.mark.slow
async def test_a_worker_that_was_expelled_while_idle_does_not_go_on_where_it_stood(app) -> None:
    await prepared(app)
    quick = {"session_timeout_ms": 300, "heartbeat_interval_ms": 50, "repartition_purge_interval_ms": 0}
    topics, clock = ("in", "counting-counts-repartition"), Freezable()
    settings = {"commit_interval_ms": 50, "state_dir": app.state_dir / "frozen", **quick}
    async with KafkaStreams(counting(), settings, transport=MemoryTransport(app.broker, clock), clock=clock) as frozen:
        await app.drained(frozen, *topics)
        clock.freeze()
        async with app.streams(counting(), worker="other", **quick) as other:
            await app.produce("in", [(None, f"w{n % 5}", n) for n in range(100)])
            await app.drained(other, *topics)
            assert await counts(app) == dict.fromkeys(("w0", "w1", "w2", "w3", "w4"), 40)
            await asyncio.sleep(0.3)  # the other one deletes what it has read
            clock.thaw()
        await app.produce("in", [(None, f"w{n % 5}", n) for n in range(100)])
        await app.drained(frozen, *topics)
    for word, count in (await counts(app)).items():
        told = [int.from_bytes(value, "big") for key, value, _ in await app.read("out") if key == word.encode()]
        assert count == 60
        assert told == sorted(told), "a count went back"
