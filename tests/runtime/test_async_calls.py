"""Asynchronous functions in workers: how fast, in which order, and what a crash, a stop or a rebalance leaves."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from streamlib import KafkaStreams, ProcessingError, Record, StreamsBuilder, Topology, serdes
from streamlib.transport.memory import MemoryTransport
from tests.runtime.conftest import Application

TEXT: dict[str, Any] = {"key_serde": serdes.STRING, "value_serde": serdes.STRING}
SHORT = {"session_timeout_ms": 1_000, "heartbeat_interval_ms": 100}


def calling(mapper: Callable[[str], Awaitable[str]], **options: Any) -> Topology:
    builder = StreamsBuilder("calls")
    builder.stream("in", **TEXT).map_values_async(mapper, **options).to("out")
    return builder.build()


def numbered(count: int, keys: int = 10) -> list[tuple[str, str, int]]:
    return [(f"k{n % keys}", str(n), n) for n in range(count)]


async def values(app: Application, topic: str = "out") -> list[str]:
    return [value.decode() for _, value, _ in await app.read(topic) if value is not None]


async def until(holds: Callable[[], Any], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not await holds():
            await asyncio.sleep(0.005)


async def crash(streams: KafkaStreams, transport: MemoryTransport) -> None:
    """What ``kill -9`` does: nothing is delivered or committed any more."""
    await transport.kill()
    assert streams._running is not None
    streams._running.cancel()
    with suppress(asyncio.CancelledError, Exception):
        await streams._close()


class Gate:
    """An asynchronous function whose calls end when they are let go."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.cancelled: list[str] = []
        self._open: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._all = False

    async def __call__(self, value: str) -> str:
        self.begun.append(value)
        try:
            if not self._all:
                await self._open[value].wait()
        except asyncio.CancelledError:
            self.cancelled.append(value)
            raise
        return f"{value}!"

    def let_go(self, *chosen: str) -> None:
        for value in chosen:
            self._open[value].set()

    def let_all_go(self) -> None:
        self._all = True
        self.let_go(*self._open)

    async def reached(self, count: int) -> None:
        async def enough() -> bool:
            return len(self.begun) >= count

        await until(enough)


@pytest.mark.alone
@pytest.mark.parametrize("ordered", [True, False])
async def test_a_thousand_calls_of_50_ms_take_little_more_than_their_share_when_64_run_at_once(
    app: Application, ordered: bool
) -> None:
    running, most, ended = 0, 0, 0
    times: list[float] = []

    async def call(value: str) -> str:
        nonlocal running, most, ended
        if not times:
            times.append(time.perf_counter())
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.05)
        running -= 1
        return value

    def arrived(key: str, value: str) -> None:
        nonlocal ended
        ended += 1
        if ended == 1_000:
            times.append(time.perf_counter())

    builder = StreamsBuilder("calls")
    builder.stream("in", **TEXT).map_values_async(call, ordered=ordered).peek(arrived).to("out")
    await app.create(1, "in", "out")
    await app.produce("in", numbered(1_000))
    await app.run(builder.build(), "in")
    rows = await app.read("out")
    by_key: defaultdict[bytes | None, list[int]] = defaultdict(list)
    for key, value, _ in rows:
        assert value is not None
        by_key[key].append(int(value))
    assert by_key == {f"k{n}".encode(): list(range(n, 1_000, 10)) for n in range(10)}
    if ordered:
        assert [value for _, value, _ in rows] == [str(n).encode() for n in range(1_000)]
    assert most == 64
    assert times[1] - times[0] < 1.2


async def test_nothing_is_lost_when_a_worker_crashes_between_the_end_of_a_call_and_the_commit(
    app: Application,
) -> None:
    gate = Gate()
    await app.create(1, "in", "out")
    await app.produce("in", numbered(20))
    transport = MemoryTransport(app.broker)
    settings = {"state_dir": app.state_dir / "crashes", "commit_interval_ms": 20, **SHORT}
    streams = KafkaStreams(calling(gate, ordered=False), settings, transport=transport)
    await streams.__aenter__()
    gate.let_go(*(str(n) for n in range(20) if n not in (5, 11)))

    async def all_others_are_out() -> bool:
        return {*await values(app)} == {f"{n}!" for n in range(20) if n % 10 not in (5, 1) or n in (1,)}

    async def prefix_is_committed() -> bool:
        return await app.lag("calls", ["in"]) == 15

    await until(all_others_are_out)
    await until(prefix_is_committed)
    await asyncio.sleep(0.1)
    assert await app.lag("calls", ["in"]) == 15
    await crash(streams, transport)
    gate.let_all_go()
    await app.run(calling(gate, ordered=False), "in", worker="next", **SHORT)
    counts = Counter(await values(app))
    assert counts.keys() == {f"{n}!" for n in range(20)}
    assert all(counts[f"{n}!"] == 1 for n in range(5))
    assert (gate.begun.count("4"), gate.begun.count("6")) == (1, 2)


async def test_random_crashes_lose_nothing_and_keep_the_order_of_each_key(app: Application) -> None:
    async def call(value: str) -> str:
        await asyncio.sleep(int(value) * 7 % 5 / 1_000)
        return value

    await app.create(2, "in", "out")
    await app.produce("in", numbered(600))
    for life in range(4):
        transport = MemoryTransport(app.broker)
        settings = {"state_dir": app.state_dir / f"life{life}", "commit_interval_ms": 5, **SHORT}
        streams = KafkaStreams(calling(call, concurrency=8, ordered=life % 2 == 0), settings, transport=transport)
        await streams.__aenter__()
        before = len(await values(app))

        async def some_are_out(before: int = before) -> bool:
            return len(await values(app)) >= before + 60

        await until(some_are_out)
        await crash(streams, transport)
    await app.run(calling(call, concurrency=8), "in", worker="last", **SHORT)
    last: dict[bytes | None, list[int]] = {}
    for key, value, _ in await app.read("out"):
        assert value is not None
        rows = last.setdefault(key, [])
        del rows[next((at for at, earlier in enumerate(rows) if earlier >= int(value)), len(rows)) :]  # done again
        rows.append(int(value))
    assert last == {f"k{n}".encode(): list(range(n, 600, 10)) for n in range(10)}


async def test_a_task_stops_taking_records_when_four_for_each_place_wait(app: Application) -> None:
    gate = Gate()
    seen: list[str] = []
    builder = StreamsBuilder("calls")
    builder.stream("in", **TEXT).peek(lambda k, v: seen.append(v)).map_values_async(gate, concurrency=3).to("out")
    await app.create(1, "in", "out")
    await app.produce("in", numbered(100))
    async with app.streams(builder.build()) as streams:
        await gate.reached(3)
        await asyncio.sleep(0.1)
        assert (len(seen), len(gate.begun)) == (12, 3)
        gate.let_all_go()
        await app.drained(streams, "in")
    assert await values(app) == [f"{n}!" for n in range(100)]


async def test_a_waiting_worker_does_not_spin(app: Application) -> None:
    gate = Gate()
    await app.create(1, "in", "out")
    await app.produce("in", numbered(100))
    async with app.streams(calling(gate, concurrency=3), commit_interval_ms=60_000) as streams:
        await gate.reached(3)
        worker = streams._worker
        assert worker is not None
        turns = 0
        poll = worker._poll

        async def counted(*arguments: Any) -> Any:
            nonlocal turns
            turns += 1
            return await poll(*arguments)

        worker._poll = counted  # type: ignore[method-assign]
        await asyncio.sleep(0.5)
        assert 1 <= turns <= 12
        gate.let_all_go()


async def test_a_stop_waits_for_calls_and_commits_what_they_gave(app: Application) -> None:
    gate = Gate()
    await app.create(1, "in", "out")
    await app.produce("in", numbered(10))
    async with app.streams(calling(gate), commit_interval_ms=60_000) as streams:
        await gate.reached(10)
        streams.stop()
        await asyncio.sleep(0.05)
        gate.let_all_go()
    assert await values(app) == [f"{n}!" for n in range(10)]
    assert await app.lag("calls", ["in"]) == 0


@pytest.mark.parametrize("app", ["at_least_once"], indirect=True)
async def test_a_stop_leaves_calls_uncommitted_when_they_outlast_it(app: Application) -> None:
    gate = Gate()
    gate.let_go("0", "1", "3")
    await app.create(1, "in", "out")
    await app.produce("in", numbered(6, keys=6))
    async with app.streams(calling(gate, ordered=False), commit_interval_ms=60_000, shutdown_timeout_ms=400):
        await gate.reached(6)
    assert await values(app) == ["0!", "1!", "3!"]
    assert await app.lag("calls", ["in"]) == 4
    assert sorted(gate.cancelled) == ["2", "4", "5"]


@pytest.mark.parametrize("app", ["at_least_once"], indirect=True)
async def test_calls_go_on_when_a_rebalance_leaves_their_task_where_it_is(app: Application) -> None:
    gate = Gate()
    await app.create(2, "in", "out")
    await app.produce("in", numbered(20))
    topology = calling(gate)
    options = {"rebalance_timeout_ms": 800, "commit_interval_ms": 20}
    async with app.streams(topology, worker="first", **options) as first:
        await gate.reached(20)
        async with app.streams(topology, worker="second", **options) as second:

            async def shared() -> bool:
                return len(first.tasks) == len(second.tasks) == 1 and "running" in first.tasks.values()

            await until(shared)
            await gate.reached(25)
            assert 0 < len(gate.cancelled) < 20
            gate.let_all_go()
            await app.drained(first, "in")
    assert sorted(await values(app)) == sorted(f"{n}!" for n in range(20))
    assert len(gate.begun) == 20 + len(gate.cancelled)


async def test_a_rebalance_waits_for_calls_that_end_in_time(app: Application) -> None:
    async def call(value: str) -> str:
        begun.append(value)
        await asyncio.sleep(0.15)
        return value

    begun: list[str] = []
    await app.create(2, "in", "out")
    await app.produce("in", numbered(20))
    topology = calling(call)
    async with app.streams(topology, worker="first", commit_interval_ms=60_000) as first:

        async def all_begun() -> bool:
            return len(begun) == 20

        await until(all_begun)
        async with app.streams(topology, worker="second") as second:

            async def shared() -> bool:
                return len(first.tasks) == len(second.tasks) == 1

            await until(shared)
            await app.drained(first, "in")
    assert Counter(await values(app)) == Counter(str(n) for n in range(20))
    assert len(begun) == 20


@pytest.mark.parametrize("app", ["at_least_once"], indirect=True)
@pytest.mark.parametrize("cache", [0, 1 << 20])
async def test_a_commit_waits_for_calls_behind_a_store_since_their_rows_would_not_come_back(
    app: Application, cache: int
) -> None:
    gate = Gate()
    builder = StreamsBuilder("calls")
    (
        builder.stream("in", **TEXT)
        .group_by_key()
        .count(store="counts")
        .to_stream()
        .map_values(lambda key, n: f"{key}={n}", with_key=True, value_serde=serdes.STRING)
        .map_values_async(gate, concurrency=2, ordered=False)
        .to("out")
    )
    topology = builder.build()
    await app.create(1, "in", "out")
    await app.produce("in", [(f"k{n}", "x", n) for n in range(10)] + [("k0", "x", 10)])
    async with app.streams(topology, commit_interval_ms=10, statestore_cache_max_bytes=cache) as streams:
        gate.let_go("k0=2", *(f"k{n}=1" for n in range(10) if n != 5))

        async def others_are_out() -> bool:
            return {"k1=1!", "k2=1!", "k3=1!", "k4=1!", "k6=1!", "k7=1!"} <= {*await values(app)}

        await until(others_are_out)
        await asyncio.sleep(0.1)
        assert await app.lag("calls", ["in"]) is None
        gate.let_all_go()
        await app.drained(streams, "in")
    rows = {key: value for key, value, _ in await app.read("out")}
    assert rows == {f"k{n}".encode(): f"k{n}={2 if n == 0 else 1}!".encode() for n in range(10)}


async def test_a_failing_call_stops_the_worker_and_nothing_behind_it_is_committed(app: Application) -> None:
    async def call(value: str) -> str:
        await asyncio.sleep(0.001)
        return str(10 // (int(value) - 3))

    await app.create(1, "in", "out")
    await app.produce("in", numbered(6))
    with pytest.raises(ProcessingError, match=r"ZeroDivisionError.* task=0_0 .*topic=in partition=0 offset=3 "):
        async with app.streams(calling(call), commit_interval_ms=1) as streams:
            await streams.wait()
    lag = await app.lag("calls", ["in"])
    assert lag is None or lag >= 3


async def test_failing_calls_are_left_out_and_counted_when_the_policy_is_to_skip(app: Application) -> None:
    async def call(value: str) -> str:
        return str(10 // (int(value) - 3))

    await app.create(1, "in", "out")
    await app.produce("in", numbered(6))
    streams = await app.run(calling(call), "in", processing_exception_handler="skip")
    assert await values(app) == ["-4", "-5", "-10", "10", "5"]
    assert streams.metrics.total("dropped_records_total", reason="processing-error") == 1


@pytest.mark.parametrize("app", ["at_least_once"], indirect=True)
async def test_several_inputs_are_committed_each_up_to_its_own_first_call(app: Application) -> None:
    gate = Gate()
    builder = StreamsBuilder("calls")
    left, right = (builder.stream(topic, **TEXT) for topic in ("left", "right"))
    words = left.merge(right).flat_map_values(str.split, value_serde=serdes.STRING)
    words.map_values_async(gate, ordered=False).to("out")
    await app.create(1, "left", "right", "out")
    await app.produce("left", [("a", "l0 l1", 0), ("b", "l2 l3", 1), ("c", "l4", 2)])
    await app.produce("right", [("d", "r0", 0), ("e", "r1 r2", 1), ("f", "r3 r4 r5", 2)])
    gate.let_go("l0", "l1", "l2", "l4", "r0", "r1", "r2", "r3", "r5")
    async with app.streams(builder.build(), commit_interval_ms=10) as streams:

        async def committed() -> bool:
            return await app.lag("calls", ["left"]) == 2 and await app.lag("calls", ["right"]) == 1

        await until(committed)
        await asyncio.sleep(0.05)
        assert await committed()
        gate.let_all_go()
        await app.drained(streams, "left", "right")
    assert sorted(await values(app)) == sorted([f"l{n}!" for n in range(5)] + [f"r{n}!" for n in range(6)])


async def test_records_that_a_call_gives_are_repartitioned_by_their_new_keys(app: Application) -> None:
    async def split(record: Record[str, str]) -> list[Record[str, str]]:
        await asyncio.sleep(0.001)
        return [record.with_key(word).with_value(word) for word in record.value.split()]

    builder = StreamsBuilder("calls")
    (
        builder.stream("in", **TEXT)
        .process_async(split, timeout=timedelta(seconds=5))
        .group_by_key()
        .count(store="counts")
        .to_stream()
        .to("out", value_serde=serdes.INT64)
    )
    await app.create(3, "in", "out")
    await app.produce("in", [(f"k{n}", "to be or not to be", n) for n in range(50)])
    await app.run(builder.build(), "in", "calls-counts-repartition")
    assert {key: int.from_bytes(value or b"", "big") for key, value, _ in await app.read("out")} == {
        b"to": 100,
        b"be": 100,
        b"or": 50,
        b"not": 50,
    }
