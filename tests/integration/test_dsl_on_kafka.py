"""Operations that a broker has a part in, on a real Kafka with two partitions: calls, optimized topics, caches."""

import asyncio
import uuid
import warnings
from collections import defaultdict
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from streamlib import ConfigError, SessionWindows, StreamsBuilder, Topology, UnstableNameWarning, serdes
from streamlib.transport.kafka.transport import KafkaTransport
from streamlib.transport.memory import MemoryBroker
from tests.runtime.conftest import Application, Row

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

S, INT64 = serdes.STRING, serdes.INT64
GAP_MS = 50


class OnKafka(Application):
    """An application whose topics begin with its id."""

    def __init__(self, address: str, state_dir: Path) -> None:
        super().__init__(MemoryBroker(), state_dir, "at_least_once")
        self.id = f"dsl-{uuid.uuid4().hex[:8]}"
        self._address = address

    def transport(self) -> KafkaTransport:
        return KafkaTransport(self._address)

    def builder(self) -> StreamsBuilder:
        return StreamsBuilder(self.id)

    def topic(self, name: str) -> str:
        return f"{self.id}-{name}"

    async def internal_topics(self) -> set[str]:
        """The internal topics there are, without the application id."""
        async with self.opened() as transport:
            admin = await transport.admin()
            names = await admin.partition_counts(None)
            await admin.close()
        own = {name.removeprefix(f"{self.id}-") for name in names if name.startswith(f"{self.id}-")}
        return {name for name in own if name.endswith(("-repartition", "-changelog"))}

    async def last(self, topic: str) -> dict[bytes | None, bytes | None]:
        """The last value of each key."""
        return {key: value for key, value, _ in await self.read(self.topic(topic))}


@pytest.fixture
def app(kafka_broker: str, tmp_path: Path) -> OnKafka:
    return OnKafka(kafka_broker.removeprefix("kafka://"), tmp_path)


def built(builder: StreamsBuilder, **options: Any) -> Topology:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnstableNameWarning)
        return builder.build(**options)


async def test_asynchronous_calls_lose_nothing_and_keep_the_order_of_keys_when_workers_change(app: OnKafka) -> None:
    failed: set[str] = set()

    async def looked_up(value: str) -> str:
        await asyncio.sleep(int(value) % 7 / 1_000)
        if int(value) % 10 == 0 and value not in failed:
            failed.add(value)
            raise ConnectionError(value)
        return f"<{value}>"

    builder = app.builder()
    calls = {"ordered": False, "concurrency": 16, "retries": 2, "backoff": timedelta(milliseconds=1)}
    stream = builder.stream(app.topic("in"), S, S)
    stream.map_values_async(looked_up, name="calls", **calls).to(app.topic("out"))
    await app.create(2, app.topic("in"), app.topic("out"))
    rows: list[Row] = [(f"k{number % 12}", str(number), number) for number in range(400)]
    async with app.streams(builder.build()) as first:
        await app.produce(app.topic("in"), rows[:200])
        await app.drained(first, app.topic("in"))
        await app.produce(app.topic("in"), rows[200:])
    await app.run(builder.build(), app.topic("in"), worker="w1")

    found: dict[Any, list[int]] = defaultdict(list)
    for key, value, _ in await app.read(app.topic("out")):
        assert key is not None
        assert value is not None
        found[key.decode()].append(int(value.strip(b"<>")))
    assert {key: numbers for key, numbers in found.items() if numbers != sorted(numbers)} == {}
    assert sorted(number for numbers in found.values() for number in numbers) == list(range(400))
    assert len(failed) == 40


async def test_another_topology_is_refused_until_it_is_accepted(app: OnKafka) -> None:
    def counting(store: str) -> Topology:
        builder = app.builder()
        builder.stream(app.topic("in"), S, S).group_by_key().count(store=store).to_stream().to(app.topic("out"))
        return builder.build()

    await app.create(2, app.topic("in"), app.topic("out"))
    await app.produce(app.topic("in"), [("a", "x", 1), ("b", "x", 2)])
    await app.run(counting("counts"), app.topic("in"))
    with pytest.raises(ConfigError, match="not that which ran last"):
        await app.run(counting("totals"), app.topic("in"), worker="w1")
    assert await app.internal_topics() == {"counts-changelog"}
    await app.produce(app.topic("in"), [("a", "x", 3)])
    await app.run(counting("totals"), app.topic("in"), worker="w1", accept_topology_change=True)
    assert await app.internal_topics() == {"counts-changelog", "totals-changelog"}
    assert await app.last("out") == {b"a": INT64.serialize(1), b"b": INT64.serialize(1)}


async def test_optimized_streams_share_a_topic_and_a_table_comes_back_from_its_source(app: OnKafka) -> None:
    def topology() -> Topology:
        builder = app.builder()
        users = builder.table(app.topic("users"), S, S, store="users")
        by_value = builder.stream(app.topic("in"), S, S).select_key(lambda _, value: value, name="by-value")
        by_value.group_by_key(name="counted").count(store="counts").to_stream().to(app.topic("counts"))
        by_value.left_join(users, lambda value, user: f"{value}:{user}", name="joined").to(app.topic("out"))
        return built(builder, optimization="all")

    await app.create(2, app.topic("in"), app.topic("out"), app.topic("counts"))
    await app.create(2, app.topic("users"), **{"cleanup.policy": "compact"})
    await app.produce(app.topic("users"), [(name, name.upper(), 1) for name in ("ann", "bob", "cy")])
    await app.run(topology(), app.topic("users"))
    internal = await app.internal_topics()
    assert {name for name in internal if name.endswith("-changelog")} == {"counts-changelog"}
    assert len({name for name in internal if name.endswith("-repartition")}) == 1

    async def pipe(worker: str, expected: int) -> None:
        await app.produce(app.topic("in"), [(str(n), name, 10) for n, name in enumerate(("ann", "bob", "dan"))])
        async with app.streams(topology(), worker=worker) as streams, asyncio.timeout(20):
            while len(await app.read(app.topic("out"))) < expected:
                await asyncio.sleep(0.1)
            await app.drained(streams, app.topic("in"))

    await pipe("w0", 3)
    await pipe("fresh", 6)
    outs = sorted(value for _, value, _ in await app.read(app.topic("out")) if value is not None)
    assert outs == [b"ann:ANN"] * 2 + [b"bob:BOB"] * 2 + [b"dan:None"] * 2
    assert await app.last("counts") == {name: INT64.serialize(2) for name in (b"ann", b"bob", b"dan")}


async def test_cogrouped_sessions_are_whole_when_caches_are_flushed_between_their_records(app: OnKafka) -> None:
    builder = app.builder()
    adder: Callable[[str, str, str], str] = lambda _, value, total: f"{total}{value}"  # noqa: E731
    clicks, views = (builder.stream(app.topic(name), S, S).group_by_key() for name in ("clicks", "views"))
    windows = SessionWindows.of(timedelta(milliseconds=GAP_MS), grace=timedelta(days=1))
    both = clicks.cogroup(adder).cogroup(views, adder).windowed_by(windows)
    sessions = both.aggregate(str, lambda _, one, other: one + other, value_serde=S, store="sessions")
    sessions.to_stream(lambda window, _: f"{window.key}@{window.start}-{window.end}", key_serde=S).to(app.topic("out"))
    topology = builder.build()
    topics = app.topic("clicks"), app.topic("views")
    await app.create(2, *topics, app.topic("out"))
    times = {f"k{key}": [number * number * (key % 3 + 1) % 997 for number in range(24)] for key in range(10)}
    for portion in range(3):
        async with app.streams(topology, worker=f"w{portion // 2}", commit_interval_ms=150) as streams:
            for topic, value in zip(topics, "cv", strict=True):
                half = slice(portion * 8 + (value == "v") * 4, portion * 8 + (value == "v") * 4 + 4)
                await app.produce(topic, [(key, value, time) for key in times for time in times[key][half]])
                await asyncio.sleep(0.2)  # another commit
            await app.drained(streams, *topics)

    found: dict[str, tuple[int, int]] = {}
    for key, value in (await app.last("out")).items():
        if key is not None and value is not None:
            found[key.decode()] = value.count(b"c"), value.count(b"v")
    assert found == expected_sessions(times)
    assert len(await app.read(app.topic("out"))) < sum(map(len, times.values()))  # caching left some out


def expected_sessions(times: dict[str, list[int]]) -> dict[str, tuple[int, int]]:
    """How many clicks and views each session has: of eight records the first four are clicks."""
    sessions = {}
    for key, all_times in times.items():
        rows = sorted((time, number % 8 < 4) for number, time in enumerate(all_times))
        breaks = [0, *(n for n, (one, two) in enumerate(pairwise(rows), 1) if two[0] - one[0] > GAP_MS), len(rows)]
        for begin, end in pairwise(breaks):
            session = rows[begin:end]
            clicks = sum(click for _, click in session)
            sessions[f"{key}@{session[0][0]}-{session[-1][0]}"] = clicks, len(session) - clicks
    return sessions
