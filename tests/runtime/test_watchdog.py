"""A worker that does not get on although records wait mends itself, or ends; one that has to wait is left alone."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from streamlib import KafkaStreams, StreamsBuilder, serdes
from streamlib.errors import StalledError
from streamlib.record import TopicPartition
from streamlib.topology.topology import Topology
from streamlib.transport.base import TopicSpec
from streamlib.transport.memory import MemoryBroker, MemoryTransport
from tests.runtime.flaky import Faults, FlakyTransport

TIMEOUT_MS = 200
STUCK = TopicPartition("in", 1)


class StuckConsumer:
    """A member to which a broker gives nothing of one partition until something was done."""

    def __init__(self, real: Any, transport: "StuckTransport") -> None:
        self._real = real
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    async def poll(self, wanted: Any, **settings: Any) -> Any:
        hidden = {STUCK} if self._transport.stuck else set()
        return await self._real.poll([tp for tp in wanted if tp not in hidden], **settings)

    def lag(self, tp: TopicPartition) -> int | None:
        return None if tp == STUCK and self._transport.stuck else self._real.lag(tp)

    def seek(self, tp: TopicPartition, offset: int) -> None:
        if tp == STUCK and self._real.position(tp) == offset:
            self._transport.done("seek")
        self._real.seek(tp, offset)

    def rejoin(self) -> None:
        self._transport.done("rejoin")
        if self._transport.heals_by != "join":
            self._real.rejoin()

    async def start(self) -> None:
        if self._transport.heals_by != "join":
            await self._real.start()


class StuckTransport:
    def __init__(self, broker: MemoryBroker, heals_by: str) -> None:
        self._real = MemoryTransport(broker)
        self.heals_by = heals_by
        self.stuck = heals_by != "join"
        self.actions: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def done(self, action: str) -> None:
        self.actions.append(action)
        self.stuck = self.stuck and action != self.heals_by

    def consumer(self, group: Any = None, isolation: Any = "read_committed") -> Any:
        real = self._real.consumer(group, isolation)
        return real if group is None else StuckConsumer(real, self)


def copying() -> Topology:
    builder = StreamsBuilder("watched")
    builder.stream("in", serdes.STRING, serdes.STRING).to("out")
    return builder.build()


@pytest.fixture
async def broker() -> MemoryBroker:
    broker = MemoryBroker()
    admin = await MemoryTransport(broker).admin()
    await admin.create_topics([TopicSpec(topic, 2, 1) for topic in ("in", "other", "out")])
    await admin.close()
    return broker


async def write(broker: MemoryBroker, *tps: TopicPartition) -> None:
    producer = MemoryTransport(broker).producer()
    await producer.start()
    for tp in tps:
        producer.append(tp, [b"k"] * 10, [b"v"] * 10, [1] * 10)
    await producer.close()


def streams(topology: Topology, transport: Any, folder: Path, **settings: Any) -> KafkaStreams:
    defaults = {"state_dir": folder, "stall_timeout_ms": TIMEOUT_MS, "commit_interval_ms": 50}
    return KafkaStreams(topology, {**defaults, **settings}, transport=transport)


async def processed(streams: KafkaStreams, records: int) -> None:
    async with asyncio.timeout(20):
        while streams.metrics.total("records_processed_total") < records:
            await asyncio.sleep(0.01)
            assert not streams.failed


def steps(streams: KafkaStreams) -> dict[str, int]:
    names = ("refetch", "rejoin", "exit")
    found = {name: streams.metrics.total("watchdog_steps_total", step=name) for name in names}
    return {name: count for name, count in found.items() if count}


@pytest.mark.parametrize(("heals_by", "taken"), [("seek", {"refetch": 1}), ("rejoin", {"refetch": 1, "rejoin": 1})])
async def test_a_partition_goes_on_when_one_of_the_steps_heals_it(
    broker: MemoryBroker, tmp_path: Path, caplog: pytest.LogCaptureFixture, heals_by: str, taken: dict[str, int]
) -> None:
    transport = StuckTransport(broker, heals_by)
    caplog.set_level(logging.INFO)
    async with streams(copying(), transport, tmp_path) as running:
        await write(broker, STUCK, TopicPartition("in", 0))
        await processed(running, 20)
        assert steps(running) == taken
        async with asyncio.timeout(5):
            while not running.health().ready:
                await asyncio.sleep(0.01)
        assert running.health().stalled == ()
    assert transport.actions == [{"refetch": "seek", "rejoin": "rejoin"}[step] for step in taken]
    assert "task=0_1 topic=in partition=1 offset=0: no progress for" in caplog.text
    assert "task=0_1 topic=in partition=1 offset=10 goes on after" in caplog.text
    told = {(name, labels.get("partition")): value for name, labels, value in running.metrics}
    assert told["partition_stalled_seconds", "1"] == 0
    assert ("partition_stalled_seconds", "0") not in told


async def test_the_worker_ends_with_an_error_when_nothing_helps(broker: MemoryBroker, tmp_path: Path) -> None:
    seen = []
    running = streams(copying(), StuckTransport(broker, "nothing"), tmp_path)

    async def run() -> None:
        async with running:
            await write(broker, STUCK, TopicPartition("in", 0))
            while not running.failed:
                await asyncio.sleep(0.01)
                health = running.health()
                seen.append((health.alive, health.ready, *(each.step for each in health.stalled)))

    async with asyncio.timeout(20):
        with pytest.raises(StalledError, match=r"^task=0_1 topic=in partition=1 offset=0: no progress.*Start the work"):
            await run()
    assert (True, False, "refetch") in seen
    assert (False, False, "rejoin") in seen
    assert seen.index((True, False, "refetch")) < seen.index((False, False, "rejoin"))
    assert not seen[-1][0]
    assert steps(running) == {"refetch": 1, "rejoin": 1, "exit": 1}


async def test_the_worker_ends_with_an_error_when_the_group_never_decides(broker: MemoryBroker, tmp_path: Path) -> None:
    running = streams(copying(), StuckTransport(broker, "join"), tmp_path, rebalance_timeout_ms=100)

    async def run() -> None:
        async with running:
            await running.wait()

    async with asyncio.timeout(20):
        with pytest.raises(StalledError, match=r"^group=watched: no progress.* the group has not decided"):
            await run()


async def left_alone(running: KafkaStreams, timeouts: int = 6) -> None:
    for _ in range(timeouts * 10):
        await asyncio.sleep(TIMEOUT_MS / 1000 / 10)
        assert not running.failed
    assert steps(running) == {}
    assert running.health().alive


async def test_a_partition_is_left_alone_when_it_has_no_records(broker: MemoryBroker, tmp_path: Path) -> None:
    await write(broker, STUCK)
    async with streams(copying(), MemoryTransport(broker), tmp_path) as running:
        await processed(running, 10)
        await left_alone(running)
        assert running.health().ready


async def test_a_partition_is_left_alone_when_its_records_are_with_asynchronous_calls(
    broker: MemoryBroker, tmp_path: Path
) -> None:
    free = asyncio.Event()

    async def wait(value: str) -> str:
        await free.wait()
        return value

    builder = StreamsBuilder("watched")
    builder.stream("in", serdes.STRING, serdes.STRING).map_values_async(wait, concurrency=2).to("out")
    await write(broker, STUCK)
    async with streams(builder.build(), MemoryTransport(broker), tmp_path) as running:
        await left_alone(running)
        free.set()
        await processed(running, 10)


async def test_a_partition_is_left_alone_when_it_waits_for_another_input(broker: MemoryBroker, tmp_path: Path) -> None:
    builder = StreamsBuilder("watched")
    others = builder.table("other", serdes.STRING, serdes.STRING, store="others")
    builder.stream("in", serdes.STRING, serdes.STRING).join(others, lambda left, right: left + right).to("out")
    await write(broker, STUCK)
    async with streams(builder.build(), MemoryTransport(broker), tmp_path, max_task_idle_ms=60_000) as running:
        await left_alone(running)
        await write(broker, TopicPartition("other", 1))
        await processed(running, 1)


async def test_the_worker_is_left_alone_when_no_broker_answers(broker: MemoryBroker, tmp_path: Path) -> None:
    faults = Faults()
    async with streams(copying(), FlakyTransport(MemoryTransport(broker), faults), tmp_path) as running:
        await write(broker, STUCK)
        await processed(running, 10)
        for call in ("member.poll", "admin.end_offsets", "transport.admin"):
            faults.fail(call, times=1_000_000)
        await write(broker, STUCK)
        await left_alone(running)
        assert "no broker answers" in running.health().problems
        faults.fail("member.poll", times=1)
        faults.fail("transport.admin", times=1)
        faults.fail("admin.end_offsets", times=1)
        await processed(running, 20)


class StuckReader:
    """A reader without a group to which a broker gives nothing until something was done."""

    def __init__(self, real: Any, transport: "StuckRestore") -> None:
        self._real = real
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    async def poll(self, wanted: Any, **settings: Any) -> Any:
        return await self._real.poll([] if self._transport.stuck else wanted, **settings)


class RejoiningMember:
    def __init__(self, real: Any, transport: "StuckRestore") -> None:
        self._real = real
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def rejoin(self) -> None:
        self._transport.done("rejoin")
        self._real.rejoin()


class StuckRestore:
    """A transport whose readers are stuck until one is made anew, or the group is joined again, or for ever."""

    def __init__(self, broker: MemoryBroker, heals_by: str) -> None:
        self._real = MemoryTransport(broker)
        self._heals_by = heals_by
        self.stuck = True
        self.readers = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def done(self, action: str) -> None:
        self.stuck = self.stuck and action != self._heals_by

    def consumer(self, group: Any = None, isolation: Any = "read_committed") -> Any:
        real = self._real.consumer(group, isolation)
        if group is not None:
            return RejoiningMember(real, self)
        self.readers += 1
        if self.readers == 2:
            self.done("reader")
        return StuckReader(real, self)


def keeping() -> Topology:
    builder = StreamsBuilder("watched")
    builder.stream("in", serdes.STRING, serdes.STRING).group_by_key().count(store="counts").to_stream().to(
        "out", value_serde=serdes.INT64
    )
    return builder.build()


async def kept(broker: MemoryBroker, folder: Path) -> None:
    """Leave state in a changelog."""
    await write(broker, STUCK)
    async with streams(keeping(), MemoryTransport(broker), folder) as running:
        await processed(running, 10)


BRIEFLY = {"transaction_timeout_ms": 100}


@pytest.mark.parametrize(("heals_by", "taken"), [("reader", {"refetch": 1}), ("rejoin", {"refetch": 1, "rejoin": 1})])
async def test_restoring_goes_on_when_one_of_the_steps_heals_it(
    broker: MemoryBroker, tmp_path: Path, caplog: pytest.LogCaptureFixture, heals_by: str, taken: dict[str, int]
) -> None:
    await kept(broker, tmp_path / "first")
    caplog.set_level(logging.INFO)
    async with streams(keeping(), StuckRestore(broker, heals_by), tmp_path / "second", **BRIEFLY) as running:
        await write(broker, STUCK, TopicPartition("in", 0))
        await processed(running, 20)
        assert steps(running) == taken
        async with asyncio.timeout(5):
            while running.health().stalled:  # until the watchdog looks again
                await asyncio.sleep(0.01)
        told = {(name, labels.get("topic")): value for name, labels, value in running.metrics}
        assert told["partition_stalled_seconds", "watched-counts-changelog"] == 0
    where = "task=0_1 topic=watched-counts-changelog partition=1 offset=0: no progress for "
    assert where in caplog.text
    assert "up to 1 records are missing in store counts, which is being restored: fetching anew" in caplog.text


async def test_the_worker_ends_with_an_error_when_nothing_helps_restoring(broker: MemoryBroker, tmp_path: Path) -> None:
    await kept(broker, tmp_path / "first")
    transport, seen = StuckRestore(broker, "nothing"), set()
    running = streams(keeping(), transport, tmp_path / "second", **BRIEFLY)

    async def run() -> None:
        async with running:
            while not running.failed:
                await asyncio.sleep(0.01)
                seen.update((each.topic, each.step) for each in running.health().stalled)

    async with asyncio.timeout(20):
        with pytest.raises(
            StalledError, match=r"^task=0_1 topic=watched-counts-changelog partition=1 offset=0: no pro"
        ):
            await run()
    assert {("watched-counts-changelog", step) for step in ("refetch", "rejoin")} <= seen
    assert steps(running) == {"refetch": 1, "rejoin": 1, "exit": 1}
    assert transport.readers == 3


class SlowReader(StuckReader):
    async def poll(self, wanted: Any, **settings: Any) -> Any:
        await asyncio.sleep(TIMEOUT_MS / 1000 / 3)
        return await self._real.poll(wanted, **{**settings, "max_records": 1})


class SlowRestore(StuckRestore):
    def consumer(self, group: Any = None, isolation: Any = "read_committed") -> Any:
        real = self._real.consumer(group, isolation)
        return real if group is not None else SlowReader(real, self)


async def test_restoring_is_left_alone_when_it_gets_on_slowly(broker: MemoryBroker, tmp_path: Path) -> None:
    producer = MemoryTransport(broker).producer()
    await producer.start()
    for number in (0, 1):
        producer.append(TopicPartition("in", number), [b"%d" % key for key in range(10)], [b"v"] * 10, [1] * 10)
    await producer.close()
    async with streams(keeping(), MemoryTransport(broker), tmp_path / "first") as running:
        await processed(running, 20)
    async with streams(keeping(), SlowRestore(broker, "nothing"), tmp_path / "second", **BRIEFLY) as running:
        await write(broker, STUCK, TopicPartition("in", 0))
        await processed(running, 20)
        assert steps(running) == {}


async def test_restoring_is_left_alone_when_no_broker_answers(broker: MemoryBroker, tmp_path: Path) -> None:
    await kept(broker, tmp_path / "first")
    faults = Faults()
    faults.fail("reader.poll", times=1_000_000)
    async with streams(
        keeping(), FlakyTransport(MemoryTransport(broker), faults), tmp_path / "second", **BRIEFLY
    ) as running:
        faults.fail("admin.end_offsets", times=1_000_000)
        await left_alone(running)
        faults.fail("reader.poll", times=1)
        faults.fail("admin.end_offsets", times=1)
        await write(broker, STUCK)
        await processed(running, 10)


async def test_nothing_is_done_when_the_watchdog_is_off(broker: MemoryBroker, tmp_path: Path) -> None:
    transport = StuckTransport(broker, "nothing")
    async with streams(copying(), transport, tmp_path, stall_timeout_ms=0) as running:
        await write(broker, STUCK)
        await left_alone(running)
    assert transport.actions == []
