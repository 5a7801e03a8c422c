"""Copies of tasks: promoted when their worker goes, made before a task moves, kept where it was."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack

import pytest

from streamlib import StreamsBuilder, serdes
from streamlib.kafka_streams import KafkaStreams
from streamlib.record import TopicPartition

PARTITIONS = 4
KEYS = 400


def counting(*, in_memory: bool = False):
    builder = StreamsBuilder("counting")
    (
        builder.stream("in", serdes.STRING, serdes.STRING)
        .group_by_key()
        .count(store="counts", in_memory=in_memory)
        .to_stream()
        .to("out")
    )
    return builder.build()


def table():
    """A table whose changelog is its source topic."""
    builder = StreamsBuilder("counting")
    builder.table("in", serdes.STRING, serdes.STRING, store="rows").to_stream().to("out")
    return builder.build(optimization="all")


class Restored:
    """How many records were read from changelogs by tasks that were to run."""

    def __init__(self) -> None:
        self.records: Counter[int] = Counter()

    def started(self, tp: TopicPartition, store: str, start: int, end: int) -> None:
        pass

    def progressed(self, tp: TopicPartition, records: int) -> None:
        self.records[tp.partition] += records

    def finished(self, tp: TopicPartition) -> None:
        pass


async def until(happened, seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not happened():
            await asyncio.sleep(0.01)


class Workers:
    """Workers of one application, each with a name, a state directory and a count of what its tasks restored."""

    def __init__(self, app, topology, **settings) -> None:
        self.app = app
        self.running: dict[str, KafkaStreams] = {}
        self.restored: dict[str, Restored] = {}
        self._topology = topology
        self._settings = settings
        self._stacks: dict[str, AsyncExitStack] = {}

    async def start(self, name: str, **settings) -> None:
        streams = self.app.streams(self._topology, worker=name, **{**self._settings, **settings})
        self.restored[name] = streams._listener = Restored()
        self._stacks[name] = AsyncExitStack()
        self.running[name] = await self._stacks[name].enter_async_context(streams)

    async def stop(self, name: str) -> None:
        del self.running[name]
        await self._stacks.pop(name).aclose()

    async def close(self) -> None:
        for name in list(self.running):
            await self.stop(name)

    def tasks(self, name: str) -> set[str]:
        return {task for task, state in self.running[name].tasks.items() if state == "running"}

    async def run(self, **tasks: int) -> None:
        """Return when each worker runs so many tasks."""
        await until(lambda: all(len(self.tasks(name)) == count for name, count in tasks.items()))

    async def copies(self, name: str, count: int) -> None:
        """Return when a worker keeps so many copies, and they are complete.

        A copy's own lag is as old as its last look at the broker, so it may miss what was just written.
        """
        copies = self.running[name]._worker.manager.standbys.tasks
        await until(lambda: len(copies) == count)
        topics = {tp.topic for copy in copies.values() for tp in copy.stores.changelogs.values()}
        async with self.app.opened() as transport:
            admin = await transport.admin()
            ends = await admin.end_offsets([TopicPartition(topic, n) for topic in topics for n in range(PARTITIONS)])
            await admin.close()
        marker = self.app.guarantee == "exactly_once_v2"  # it ends a transaction; a copy may stand before it

        def complete(copy) -> bool:
            return copy.lag == 0 and all(ends[tp] - at <= marker for tp, at in copy.next_offsets.items())

        await until(lambda: len(copies) == count and all(complete(copy) for copy in copies.values()))

    async def produce(self, rounds: int = 1) -> None:
        await self.app.produce("in", [(f"k{n}", "x", n) for _ in range(rounds) for n in range(KEYS)])
        await self.app.drained(next(iter(self.running.values())), "in")


@pytest.fixture
async def workers(app):
    await app.create(PARTITIONS, "in", "out")
    made: list[Workers] = []

    def make(topology, **settings) -> Workers:
        made.append(Workers(app, topology, heartbeat_interval_ms=50, **settings))
        return made[-1]

    yield make
    for each in made:
        await each.close()


async def counted(app, rounds: int) -> None:
    newest = {key: int.from_bytes(value, "big") for key, value, _ in await app.read("out")}
    assert newest == {f"k{n}".encode(): rounds for n in range(KEYS)}


@pytest.mark.parametrize("in_memory", [False, True])
async def test_a_standby_goes_on_without_reading_the_changelog_again(app, workers, in_memory: bool) -> None:
    group = workers(counting(in_memory=in_memory), num_standby_replicas=1)
    await group.start("a")
    await group.produce()
    await group.start("b")
    await group.run(a=2, b=2)
    await group.produce()
    await group.copies("b", 2)
    before = sum(group.restored["b"].records.values())
    await group.stop("a")
    await group.run(b=4)
    assert sum(group.restored["b"].records.values()) == before
    await group.produce()
    await counted(app, 3)


async def test_a_task_moves_only_when_its_state_is_there(app, workers) -> None:
    group = workers(counting(), acceptable_recovery_lag=5)
    await group.start("a")
    await group.produce()
    await group.start("b")
    await group.run(a=2, b=2)  # long before the probing rebalance
    assert sum(group.restored["b"].records.values()) <= 2 * 5
    await group.produce()
    await counted(app, 2)


async def test_the_worker_that_gave_a_task_away_keeps_a_copy_of_it(app, workers) -> None:
    group = workers(counting(), num_standby_replicas=1)
    await group.start("a")
    await group.produce()
    await group.start("b")
    await group.run(a=2, b=2)
    await group.copies("a", 2)
    await group.produce()
    await group.copies("a", 2)
    await group.stop("b")
    await group.run(a=4)
    assert sum(group.restored["a"].records.values()) == 0
    await group.produce()
    await counted(app, 3)


async def test_a_copy_of_a_source_topic_stops_where_its_task_has_committed(app, workers) -> None:
    group = workers(table(), num_standby_replicas=1, commit_interval_ms=200)
    await group.start("a")
    await group.start("b")
    await group.run(a=2, b=2)
    await group.produce()
    await group.copies("b", 2)
    await group.produce()
    await group.stop("a")
    await group.run(b=4)
    await group.produce()
    assert len(await app.read("out")) == 3 * KEYS


async def test_standbys_are_in_other_racks(app, workers) -> None:
    group = workers(counting(), num_standby_replicas=1, rack_aware_assignment_tags=("rack",))
    for name, rack in (("a", "1"), ("b", "1"), ("c", "2")):
        await group.start(name, client_tags={"rack": rack})
    await group.produce()

    def copies(name: str) -> set[str]:
        return {str(task) for task in group.running[name]._worker.manager.standbys.tasks}

    await until(lambda: sum(len(group.tasks(name)) for name in "abc") == PARTITIONS)
    await until(lambda: sum(len(copies(name)) for name in "abc") == PARTITIONS)
    assert copies("c") == group.tasks("a") | group.tasks("b")
    assert copies("a") | copies("b") == group.tasks("c")


async def test_the_lag_of_each_copy_is_measured(app, workers) -> None:
    group = workers(counting(), num_standby_replicas=1)
    await group.start("a")
    await group.start("b")
    await group.run(a=2, b=2)
    await group.produce()
    await group.copies("b", 2)
    lags = {labels["task"]: lag for name, labels, lag in group.running["b"].metrics if name == "standby_lag_records"}
    assert lags == dict.fromkeys(group.tasks("a"), 0)


async def test_the_state_of_tasks_that_others_run_is_deleted_after_a_while(app, workers, monkeypatch) -> None:
    monkeypatch.setattr("streamlib.runtime.stored_tasks.CLEAN_UP_SECONDS", 0.1)
    group = workers(counting(), state_cleanup_delay_ms=1_000)
    await group.start("a")
    await group.produce()
    await group.start("b")
    await group.run(a=2, b=2)
    folder = app.state_dir / "a" / "counting"
    await until(lambda: {path.name for path in folder.glob("?_?")} == group.tasks("a"))
    await group.produce()
    await group.stop("b")
    await group.run(a=4)
    await group.produce()
    await counted(app, 3)
