"""A copy holds what is committed in its changelogs, and nothing else."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from streamlib import StreamsBuilder, serdes
from streamlib.clock import SystemClock
from streamlib.config import StreamsConfig
from streamlib.metrics import Metrics
from streamlib.record import TopicPartition
from streamlib.runtime.free_space import FreeSpace
from streamlib.runtime.partitions import TaskId
from streamlib.runtime.standby import Standbys
from streamlib.runtime.stored_tasks import StoredTasks
from streamlib.runtime.task_stores import TaskStores
from streamlib.state.directory import StateDirectory
from streamlib.state.rocksdb import RocksMemory
from streamlib.state.spec import StoreSpec
from streamlib.state.stores import open_store
from streamlib.transport.base import OffsetAndMetadata, TopicSpec
from streamlib.transport.memory import MemoryTransport

TASK = TaskId(0, 0)
CHANGELOG = TopicPartition("app-store-changelog", 0)
SPEC = StoreSpec("store", "key_value", serdes.STRING, serdes.STRING)


class Opener:
    """Opens the store of the one task there is."""

    def __init__(self, directory: StateDirectory) -> None:
        self.directory = directory
        self.source_serdes = {}

    def open_stores(self, task_id: TaskId, cache_bytes: int) -> TaskStores:
        engine = self.directory.open_engine(str(task_id), persistent=True)
        store = open_store(SPEC, engine, cache_bytes=cache_bytes)
        return TaskStores({"store": store}, {"store": engine}, {"store": CHANGELOG}, (), self.source_serdes)


class Bench:
    """A broker with a changelog, and a worker's copies."""

    def __init__(self, transport: MemoryTransport, standbys: Standbys, opener: Opener, admin, space: FreeSpace) -> None:
        self.transport, self.standbys, self.opener, self.admin = transport, standbys, opener, admin
        self.space = space

    def keep(self, *tasks: TaskId, **handed_over) -> None:
        self.standbys.keep(self.opener, frozenset(tasks), handed_over, 0)

    async def write(self, first: int, count: int) -> None:
        producer = self.transport.producer()
        await producer.start()
        append(producer, first, count)
        await producer.flush()
        await producer.close()

    async def until(self, happened) -> None:
        async with asyncio.timeout(10):
            while not happened():
                await asyncio.sleep(0.005)

    def rows(self) -> int:
        copy = self.standbys.tasks.get(TASK)
        return -1 if copy is None else sum(1 for _ in copy.stores.stores["store"].scan())

    async def holds(self, rows: int) -> None:
        await self.until(lambda: self.rows() == rows and self.standbys.tasks[TASK].lag == 0)


def append(producer, first: int, count: int) -> None:
    keys = [f"k{number}".encode() for number in range(first, first + count)]
    producer.append(CHANGELOG, keys, [b"v"] * count, [1] * count)


@asynccontextmanager
async def following(transport: MemoryTransport, directory: StateDirectory) -> AsyncIterator[Bench]:
    admin = await transport.admin()
    clock = SystemClock()
    config = StreamsConfig("app", state_dir=directory.path.parent)
    space = FreeSpace(directory.path, 0, clock, Metrics())
    standbys = Standbys(transport, admin, config, clock, Metrics(), StoredTasks(directory, clock, 0), space)
    running = asyncio.ensure_future(standbys.follow())
    yield Bench(transport, standbys, Opener(directory), admin, space)
    if running.done():
        running.result()
    running.cancel()
    await asyncio.wait([running])
    await standbys.close()
    await admin.close()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    transport = MemoryTransport()
    await transport.start()
    admin = await transport.admin()
    await admin.create_topics([TopicSpec(CHANGELOG.topic, 1, 1)])
    await admin.close()
    directory = StateDirectory.open(tmp_path, "app", RocksMemory(1 << 23))
    async with following(transport, directory) as made:
        yield made
    directory.close()
    await transport.close()


async def test_a_copy_follows_its_changelog(bench: Bench) -> None:
    await bench.write(0, 100)
    bench.keep(TASK)
    await bench.holds(100)
    await bench.write(100, 50)
    await bench.holds(150)
    assert bench.standbys.tasks[TASK].stores.held == 150


async def test_a_copy_reads_nothing_while_there_is_no_room_for_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamlib.runtime.free_space.SECONDS", 0.02)
    bench.keep(TASK)
    await bench.write(0, 100)
    await bench.holds(100)
    bench.space.low = True
    await asyncio.sleep(0.3)  # a poll that had begun
    await bench.write(100, 50)
    await asyncio.sleep(0.3)
    assert bench.rows() == 100
    bench.space.low = False
    await bench.holds(150)


async def test_a_copy_never_has_what_is_not_committed(bench: Bench) -> None:
    bench.keep(TASK)
    await bench.holds(0)
    for outcome, rows in (("abort", 0), ("commit", 10)):
        producer = bench.transport.producer("writer")
        await producer.start()
        await producer.begin()
        append(producer, 0, 10)
        await producer.flush()
        await asyncio.sleep(0.5)  # more than two polls
        assert bench.rows() == 0
        await getattr(producer, outcome)()
        await producer.close()
        await bench.holds(rows)


async def test_what_is_given_away_is_whole_and_open(bench: Bench) -> None:
    await bench.write(0, 20_000)
    bench.keep(TASK)
    await bench.until(lambda: TASK in bench.standbys.tasks and bench.standbys.tasks[TASK].stores.held > 0)
    bench.keep()
    stores = await bench.standbys.release(TASK)
    assert stores is not None
    assert stores.held == sum(1 for _ in stores.stores["store"].scan())
    assert await bench.standbys.release(TASK) is None
    stores.close()


async def test_stores_that_are_handed_over_are_followed_from_where_they_are(bench: Bench) -> None:
    await bench.write(0, 10)
    bench.keep(TASK)
    await bench.holds(10)
    stores = await bench.standbys.release(TASK)
    assert stores is not None
    await bench.write(10, 5)
    bench.standbys.keep(bench.opener, frozenset([TASK]), {TASK: stores}, 0)
    await bench.holds(15)
    assert bench.standbys.tasks[TASK].stores is stores


async def test_a_copy_that_is_not_wanted_is_closed_and_its_offsets_are_known(bench: Bench) -> None:
    await bench.write(0, 10)
    bench.keep(TASK)
    await bench.holds(10)
    bench.keep()
    await bench.until(lambda: not bench.standbys.tasks)
    bench.opener.open_stores(TASK, 0).close()  # it would be refused if the engine were open
    assert bench.standbys.stored.offsets() == {TASK: 10}


async def test_a_copy_begins_anew_when_its_changelog_was_cut(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    await bench.write(0, 10)
    bench.keep(TASK)
    await bench.holds(10)
    bench.keep()
    await bench.until(lambda: not bench.standbys.tasks)
    await bench.write(10, 30)
    await bench.admin.delete_records({CHANGELOG: 25})
    bench.keep(TASK)
    await bench.holds(15)
    assert "the copy of task 0_0 stands at offset 10 of app-store-changelog-0, which holds [25, 40]" in caplog.text


async def test_a_copy_of_a_source_topic_goes_only_as_far_as_the_group_has_committed(bench: Bench) -> None:
    bench.opener.source_serdes = {"store": (serdes.STRING, serdes.STRING)}
    await bench.write(0, 10)
    await bench.admin.set_group_offsets("app", {CHANGELOG: OffsetAndMetadata(4)})
    bench.keep(TASK)
    await bench.holds(4)
    await asyncio.sleep(0.3)
    assert bench.rows() == 4
    await bench.admin.set_group_offsets("app", {CHANGELOG: OffsetAndMetadata(9)})
    await bench.holds(9)


async def test_what_is_on_disk_is_known_after_a_restart(tmp_path: Path) -> None:
    builder = StreamsBuilder("app")
    builder.stream("in", serdes.STRING, serdes.STRING).group_by_key().count(store="counts")
    directory = StateDirectory.open(tmp_path, "app", RocksMemory(1 << 23))
    for name, offset in (("0_0", 7), ("0_1", 9), ("5_0", 3)):
        engine = directory.open_engine(name, persistent=True)
        engine.write({}, {"counts": offset})
        engine.close()
    stored = await StoredTasks.look(directory, SystemClock(), 0, builder.build())
    assert stored.offsets() == {TaskId(0, 0): 7, TaskId(0, 1): 9}
    directory.close()
