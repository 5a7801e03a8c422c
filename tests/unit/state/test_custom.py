"""Stores that users write: what they are told and when, after commits, crashes and dropped work."""

from collections.abc import Iterator
from typing import Any

import pytest

from streamlib import (
    CustomStore,
    CustomStoreContext,
    FixedKeyProcessor,
    FixedKeyRecord,
    KTable,
    Processor,
    Record,
    StateStoreError,
    Stores,
    StreamsBuilder,
    TopologyBuilder,
    TopologyError,
    ValueTransformerWithKey,
    serdes,
)
from streamlib.runtime.task_state import TaskState
from streamlib.state.custom import CustomEngine, CustomStateStore
from streamlib.testing.topics import Row
from streamlib.testing.topology_test_driver import TopologyTestDriver

S = serdes.STRING
NOBODY: list["Highest"] = []


class Highest(CustomStore):
    """The keys with the highest numbers: a store that has more to ask than a value for a key."""

    made = NOBODY

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.flushed = 0
        self.closed = False
        self.made.append(self)

    def put(self, key: str, number: int, timestamp: int) -> None:
        self.numbers[key] = number
        self.context.log(key.encode(), str(number).encode(), timestamp)

    def delete(self, key: str, timestamp: int) -> None:
        del self.numbers[key]
        self.context.log(key.encode(), None, timestamp)

    def first(self) -> str:
        return max(self.numbers, key=lambda key: self.numbers[key], default="nobody")

    def restore(self, keys: list[bytes], values: list[bytes | None], timestamps: list[int]) -> None:
        for key, value in zip(keys, values, strict=True):
            if value is None:
                self.numbers.pop(key.decode(), None)
            else:
                self.numbers[key.decode()] = int(value)

    def flush(self) -> None:
        self.flushed += 1

    def close(self) -> None:
        self.closed = True


class Rank(Processor[str, str, str, str]):
    """Forwards who is first after each record."""

    def process(self, record: Record[str, str]) -> None:
        if record.value == "stop":
            raise RuntimeError("stop")
        highest: Highest = self.context.get_state_store("highest")
        if record.value is None:
            highest.delete(record.key, record.timestamp)
        else:
            highest.put(record.key, int(record.value), record.timestamp)
        self.context.forward(record.with_value(highest.first()))


@pytest.fixture
def made() -> Iterator[list[Highest]]:
    """The stores that were made, in order."""
    Highest.made = []
    yield Highest.made
    Highest.made = NOBODY


def ranking(**settings: Any) -> StreamsBuilder:
    builder = StreamsBuilder("app")
    builder.add_state_store(Stores.custom_store("highest", Highest, **settings))
    builder.stream("in", S, S).process(Rank, "highest", name="rank").to("out")
    return builder


def pipe(driver: TopologyTestDriver, *rows: tuple[str, str | None]) -> list[str]:
    """Who is first after each row."""
    topic, out = driver.create_input_topic("in", S, S), driver.create_output_topic("out", S, S)
    for key, value in rows:
        topic.pipe_input(key, value, 7)
    return out.read_values_to_list()


def test_processors_use_the_store_itself(made: list[Highest]) -> None:
    with TopologyTestDriver(ranking().build()) as driver:
        assert pipe(driver, ("a", "1"), ("b", "3"), ("c", "2"), ("b", None)) == ["a", "b", "b", "c"]
        assert driver.get_state_store("highest") is made[-1]
        assert driver.get_all_state_stores() == {"highest": made[-1]}
        assert [(made[-1].context.name, made[-1].context.task_id)] == [("highest", "0_0")]
    assert made[-1].closed
    assert len(made) == 1


def test_updates_are_logged_as_they_are(made: list[Highest]) -> None:
    with TopologyTestDriver(ranking().build()) as driver:
        pipe(driver, ("a", "1"), ("a", None))
        assert driver.logs.topics["app-highest-changelog"] == [Row(b"a", b"1", 7, ()), Row(b"a", None, 7, ())]


def test_the_changelog_brings_back_all_after_a_crash(made: list[Highest]) -> None:
    with TopologyTestDriver(ranking().build()) as driver:
        pipe(driver, ("a", "1"), ("b", "3"), ("c", "2"), ("b", None))
        driver.crash()
        assert made[0].closed
        driver.restart()
        assert made[1].numbers == {"a": 1, "c": 2}
        assert pipe(driver, ("d", "0")) == ["c"]


def test_nothing_comes_back_when_there_is_no_changelog(made: list[Highest]) -> None:
    with TopologyTestDriver(ranking(logging=False).build()) as driver:
        assert driver.topology.changelog_topic("highest", "app") is None
        pipe(driver, ("a", "1"))
        driver.crash()
        driver.restart()
        assert made[1].numbers == {}
        assert set(driver.logs.topics) == {"in", "out"}


def test_the_store_is_flushed_at_each_commit_and_what_it_logs_then_is_part_of_it(made: list[Highest]) -> None:
    class Late(Highest):
        def put(self, key: str, number: int, timestamp: int) -> None:
            self.numbers[key] = number

        def flush(self) -> None:
            super().flush()
            self.context.log_many([b"sum"], [str(sum(self.numbers.values())).encode()], [9])

    builder = StreamsBuilder("app")
    builder.add_state_store(Stores.custom_store("highest", Late))
    builder.stream("in", S, S).process(Rank, "highest", name="rank").to("out")
    with TopologyTestDriver(builder.build(), batch_rows=2, commit_rows=2) as driver:
        driver.pipe_rows("in", [Row(b"a", b"1", 0, ()), Row(b"b", b"2", 0, ()), Row(b"c", b"3", 0, ())])
        assert made[0].flushed == 2
        assert [row.value for row in driver.logs.topics["app-highest-changelog"]] == [b"3", b"6"]


def test_a_new_store_takes_the_place_when_work_is_dropped(made: list[Highest]) -> None:
    with TopologyTestDriver(ranking().build()) as driver:
        pipe(driver, ("a", "1"))
        task, rows = driver.task, driver.logs.topics["app-highest-changelog"]
        made[0].put("b", 5, 8)  # not committed
        task.drop_work()
        assert made[0].closed
        assert made[1].numbers == {}
        task.stores.discard()  # as before each restoring
        assert len(made) == 2
        task.stores.restore("highest", [row.key for row in rows], [row.value for row in rows], [7])
        task.start({})
        task.transition(TaskState.RUNNING)
        assert pipe(driver, ("c", "0")) == ["a"]
        assert made[1].numbers == {"a": 1, "c": 0}
        assert [row.key for row in rows] == [b"a", b"c"]


def test_a_closed_store_cannot_log(made: list[Highest]) -> None:
    with TopologyTestDriver(ranking().build()) as driver:
        pipe(driver, ("a", "1"))
        driver.task.drop_work()
        with pytest.raises(StateStoreError, match='the store "highest" is closed and cannot log: task=0_0'):
            made[0].put("b", 1, 0)


def test_stores_of_a_state_say_what_raised() -> None:
    class Broken(Highest):
        def init(self, context: CustomStoreContext) -> None:
            raise OSError("no disk")

    class Unrestorable(Highest):
        def restore(self, keys: list[bytes], values: list[bytes | None], timestamps: list[int]) -> None:
            raise ValueError("version 2")

    class Unflushable(Highest):
        def flush(self) -> None:
            raise OSError("full")

        def close(self) -> None:
            raise OSError("gone")  # only logged

    def driver(store: type[Highest]) -> TopologyTestDriver:
        builder = StreamsBuilder("app")
        builder.add_state_store(Stores.custom_store("highest", store))
        builder.stream("in", S, S).process(Rank, "highest", name="rank").to("out")
        return TopologyTestDriver(builder.build())

    with pytest.raises(StateStoreError, match=r'"highest" could not begin, OSError\(.no disk.\): task=0_0'):
        driver(Broken)
    with driver(Unrestorable) as run:
        pipe(run, ("a", "1"))
        run.crash()
        with pytest.raises(StateStoreError, match="could not take what its changelog has, ValueError"):
            run.restart()
    with driver(Unflushable) as run, pytest.raises(StateStoreError, match="could not flush, OSError"):
        pipe(run, ("a", "1"))


class First(FixedKeyProcessor[str, str, str]):
    def process(self, record: FixedKeyRecord[str, str]) -> None:
        self.context.forward(record.with_value(self.context.get_state_store("highest").first()))


class FirstOfTable(ValueTransformerWithKey[str, str, str]):
    def transform(self, key: str, value: str | None) -> str:
        first: str = self.context.get_state_store("highest").first()
        return first


@pytest.mark.filterwarnings("ignore::streamlib.UnstableNameWarning")
def test_other_operations_share_the_store(made: list[Highest]) -> None:
    builder = ranking()
    builder.stream("values", S, S).process_values(First, "highest").to("firsts")
    table: KTable[str, str] = builder.table("table", S, S).transform_values(FirstOfTable, "highest")
    table.to_stream().to("of-table")
    topology = builder.build()
    assert "(stores: [highest])" in topology.describe()
    with TopologyTestDriver(topology) as driver:
        pipe(driver, ("a", "1"))
        for topic, out in (("values", "firsts"), ("table", "of-table")):
            driver.create_input_topic(topic, S, S).pipe_input("k", "v", 1)
            assert driver.create_output_topic(out, S, S).read_values_to_list() == ["a"]
    assert len(made) == 1


def test_a_topology_of_processors_has_such_stores_too(made: list[Highest]) -> None:
    builder = TopologyBuilder("app", default_key_serde=S, default_value_serde=S)
    builder.add_source("s", "in").add_processor("rank", Rank, "s").add_sink("out", "out", "rank")
    builder.add_state_store(Stores.custom_store("highest", Highest), "rank")
    with TopologyTestDriver(builder.build()) as driver:
        assert pipe(driver, ("a", "1")) == ["a"]


def test_a_custom_store_that_is_no_store_or_global_is_refused() -> None:
    with pytest.raises(TypeError, match="needs a function that makes one"):
        Stores.custom_store("s", 5)  # type: ignore[arg-type]
    builder = StreamsBuilder()
    builder.add_global_store(Stores.custom_store("s", Highest), "topic", Rank)
    with pytest.raises(TopologyError, match='the custom store "s" cannot be filled from the topic "topic"'):
        builder.build()


def test_a_standby_goes_on_from_where_its_copy_is(made: list[Highest]) -> None:
    store = CustomStateStore("highest", Highest, "0_0", None)
    engine = CustomEngine(store)

    def applied(offset: int) -> None:
        for _ in engine.write_chunks(store.pending(), {"highest": offset}):
            pass
        store.applied()

    store.restore([b"a"], [b"1"], [0])
    applied(1)
    store.discard()  # what was restored is committed
    assert (len(made), engine.offsets()) == (1, {"highest": 1})
    store.restore([b"b"], [b"2"], [0])
    store.discard()  # the offset does not tell of the second row
    assert (len(made), engine.offsets()) == (2, {})
    store.restore([b"a", b"b"], [b"1", b"2"], [0, 0])
    applied(2)
    store.user.delete("a", 5)
    applied(3)
    store.discard()
    assert (len(made), engine.offsets()) == (3, {})
