"""Rows that expire: when, what the changelog and those downstream are told, and after restarts."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from streamlib import KeyValueStore, Processor, ProcessorContext, Record, Stores, StreamsBuilder, TopologyError, serdes
from streamlib.state.expiring import SPANS, ExpiringKeyValueStore
from streamlib.state.memory import MemoryEngine
from streamlib.testing.topics import Row
from streamlib.testing.topology_test_driver import TopologyTestDriver

pytestmark = pytest.mark.filterwarnings("ignore::streamlib.UnstableNameWarning")
S, I = serdes.STRING, serdes.INT64  # noqa: E741
TEN = timedelta(milliseconds=10)


def table(**options: Any) -> StreamsBuilder:
    builder = StreamsBuilder("app")
    builder.table("in", S, S, store="rows", ttl=TEN, **options).to_stream().to("out")
    return builder


def counted() -> StreamsBuilder:
    builder = StreamsBuilder("app")
    counts = builder.stream("in", S, S).group_by_key().count(store="rows", ttl=TEN)
    counts.to_stream().map_values(text, value_serde=S).to("out")
    return builder


def text(count: Any) -> Any:
    """As a string, but for no count at all."""
    return None if count is None else str(count)


def pipe(run: TopologyTestDriver, *rows: tuple[str, str | None, int]) -> list[tuple[Any, Any, int]]:
    """What comes out."""
    first = len(run.logs.topics["out"])
    run.pipe_rows(
        "in", [Row(key.encode(), None if value is None else value.encode(), at, ()) for key, value, at in rows]
    )
    return plain(run.logs.topics["out"][first:])


def plain(rows: list[Row]) -> list[tuple[Any, Any, int]]:
    return [(row.key and row.key.decode(), row.value and row.value.decode(), row.timestamp_ms) for row in rows]


def stored(run: TopologyTestDriver) -> dict[str, Any]:
    return dict(run.get_key_value_store("rows").all())


@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize("cache", [0, 1_000_000])
def test_a_row_is_deleted_everywhere_once_stream_time_is_later_by_more_than_its_time(
    in_memory: bool, cache: int
) -> None:
    config = {"statestore_cache_max_bytes": cache}
    with TopologyTestDriver(table(in_memory=in_memory).build(), config) as run:
        assert pipe(run, ("a", "1", 100), ("b", "2", 110)) == [("a", "1", 100), ("b", "2", 110)]
        assert stored(run) == {"a": "1", "b": "2"}
        assert pipe(run, ("c", "3", 111)) == [("c", "3", 111), ("a", None, 111)]
        assert stored(run) == {"b": "2", "c": "3"}
        assert plain(run.logs.topics["app-rows-changelog"])[-1] == ("a", None, 111)


def test_a_row_lives_on_from_its_last_update() -> None:
    with TopologyTestDriver(table().build()) as run:
        pipe(run, ("a", "1", 100), ("a", "2", 108), ("b", "1", 100), ("b", None, 105))
        assert pipe(run, ("c", "3", 115)) == [("c", "3", 115)]
        assert pipe(run, ("c", "3", 130)) == [("c", "3", 130), ("a", None, 130)]


def test_a_row_that_comes_too_late_is_deleted_at_once() -> None:
    with TopologyTestDriver(table().build()) as run:
        assert pipe(run, ("a", "1", 100), ("b", "2", 50)) == [("a", "1", 100), ("b", "2", 50), ("b", None, 100)]
        assert stored(run) == {"a": "1"}


@pytest.mark.parametrize("builder", [table, counted])
def test_batches_give_what_single_records_give(builder: Any) -> None:
    times = [100, 101, 120, 103, 121, 140, 139, 128, 160, 300, 100, 301, 300, 310, 312, 290, 311]
    rows = [("abc"[number % 3], str(number), time) for number, time in enumerate(times)]
    found = []
    for batch_rows in (1, 4, 100):
        with TopologyTestDriver(builder().build(), {"statestore_cache_max_bytes": 0}, batch_rows=batch_rows) as run:
            found.append((pipe(run, *rows), stored(run), plain(run.logs.topics["app-rows-changelog"])))
            assert any(value is None for _, value, _ in found[-1][0])
    assert found[0] == found[1] == found[2]


def test_an_aggregation_begins_anew_when_its_row_has_expired() -> None:
    with TopologyTestDriver(counted().build()) as run:
        pipe(run, ("a", "x", 100), ("a", "x", 105))
        assert pipe(run, ("b", "x", 116), ("a", "x", 117)) == [("b", "1", 116), ("a", None, 116), ("a", "1", 117)]


def test_what_is_below_a_table_is_told_the_value_that_has_expired() -> None:
    builder = StreamsBuilder("app")
    source = builder.table("in", S, S, store="rows", ttl=TEN)
    totals = source.group_by(lambda key, value: (value, value)).count(store="per-value")
    totals.to_stream().map_values(text, value_serde=S).to("out")
    with TopologyTestDriver(builder.build(), {"statestore_cache_max_bytes": 0}) as run:
        assert pipe(run, ("a", "x", 100), ("b", "x", 101)) == [("x", "1", 100), ("x", "2", 101)]
        assert pipe(run, ("c", "y", 120))[-2:] == [("x", "1", 120), ("x", "0", 120)]


@pytest.mark.parametrize("in_memory", [False, True])
def test_rows_expire_after_a_crash_when_their_time_is_over(in_memory: bool) -> None:
    with TopologyTestDriver(table(in_memory=in_memory).build()) as run:
        pipe(run, ("a", "1", 100), ("b", "2", 105))
        run.crash()
        run.restart()
        assert stored(run) == {"a": "1", "b": "2"}
        assert pipe(run, ("c", "3", 111)) == [("c", "3", 111), ("a", None, 111)]
        run.crash()
        run.restart()
        assert stored(run) == {"b": "2", "c": "3"}
        assert pipe(run, ("d", "4", 90)) == [("d", "4", 90), ("d", None, 111)]


def test_a_table_whose_rows_expire_keeps_its_own_changelog_when_topics_are_reused() -> None:
    topology = table().build(optimization="all")
    assert topology.changelog_topic("rows", "app") == "app-rows-changelog"


class Remember(Processor[str, str, str, str]):
    """Writes what it gets, and says what is there."""

    store: KeyValueStore[str, str]

    @staticmethod
    def stores() -> Iterator[Any]:
        yield Stores.key_value_store("rows", S, S, ttl=TEN)

    def init(self, context: ProcessorContext[str, str]) -> None:
        super().init(context)
        self.store = context.get_state_store("rows")

    def process(self, record: Record[str, str]) -> None:
        self.store.put(record.key, record.value)
        self.context.forward(record.with_value(",".join(key for key, _ in self.store.all())))


@pytest.mark.parametrize("batch_rows", [1, 100])
def test_values_of_a_processors_store_expire_when_it_writes(batch_rows: int) -> None:
    builder = StreamsBuilder("app")
    builder.stream("in", S, S).process(Remember).to("out")
    with TopologyTestDriver(builder.build(), batch_rows=batch_rows) as run:
        rows = [("a", "1", 100), ("b", "2", 105), ("c", "3", 111), ("d", "4", 120)]
        assert [value for _, value, _ in pipe(run, *rows)] == ["a", "a,b", "b,c", "c,d"]
        run.crash()
        run.restart()
        assert stored(run) == {"c": "3", "d": "4"}
        assert [value for _, value, _ in pipe(run, ("e", "5", 122))] == ["d,e"]


def test_an_index_is_made_anew_when_the_time_to_live_has_changed() -> None:
    engine = MemoryEngine()

    def opened(ttl_ms: int) -> ExpiringKeyValueStore[str]:
        return ExpiringKeyValueStore("rows", S, engine, ttl_ms=ttl_ms)

    def commit(store: ExpiringKeyValueStore[str]) -> None:
        engine.write(store.pending(), {})
        store.applied()

    store = opened(10)
    store.put_many([b"a", b"b"], ["1", "2"], [1_000, 1_005])
    commit(store)
    store = opened(100 * SPANS)
    assert store.due == 1_000 // 100 * 100 + 100 + 100 * SPANS
    store.put_many([b"c"], ["3"], [7_399])
    assert store.get(b"a") == ("1", 1_000)
    commit(store)
    store = opened(100 * SPANS)
    assert store.observed == 7_399
    store.put_many([b"d"], ["4"], [7_500])
    assert [key for key, _, _ in store.scan()] == [b"c", b"d"]
    store.discard()
    assert [key for key, _, _ in store.scan()] == [b"a", b"b", b"c"]


def test_a_hot_key_has_few_entries_in_the_index() -> None:
    store: ExpiringKeyValueStore[str] = ExpiringKeyValueStore("rows", S, MemoryEngine(), ttl_ms=64_000)
    for time in range(0, 200_000, 100):
        store.put_many([b"a"], ["1"], [time])
    alive = [entry for entry in store.pending()["rows/times-1000"].values() if entry is not None]
    assert len(alive) <= SPANS + 3


@pytest.mark.parametrize(
    ("options", "mend"),
    [
        ({"store": "rows", "ttl": timedelta()}, "1 ms or more"),
        ({"ttl": TEN}, "needs a name"),
        ({"store": "rows", "ttl": TEN, "versioned": TEN}, "leave out ttl"),
    ],
)
def test_a_time_to_live_that_cannot_be_is_refused(options: dict[str, Any], mend: str) -> None:
    builder = StreamsBuilder("app")
    builder.table("in", S, S, **options).to_stream().to("out")
    with pytest.raises(TopologyError, match=mend):
        builder.build()


def test_rows_of_global_tables_do_not_expire() -> None:
    builder = StreamsBuilder("app")
    builder.global_table("in", S, S, store="rows", ttl=TEN)
    with pytest.raises(TopologyError, match="leave out ttl"):
        builder.build()


def test_a_store_of_values_that_live_for_no_time_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 ms"):
        Stores.key_value_store("rows", S, I, ttl=timedelta())


@pytest.mark.parametrize("commit_every", [1, 3, 50])
def test_rows_expire_alike_however_often_they_are_written_to_the_engine(commit_every: int) -> None:
    engine, told = MemoryEngine(), []
    store: ExpiringKeyValueStore[str] = ExpiringKeyValueStore("rows", S, engine, ttl_ms=20)
    store.asked = True
    for step in range(200):
        time = step * 3 - 40 * (step % 7 == 0)
        store.put_many([b"%d" % (step % 11)], ["x"], [max(time, 0)])
        if step % 5:  # not after every row
            told += [(step, key) for key, _ in store.expire()]
        if step % commit_every == 0:
            engine.write(store.pending(), {})
            store.applied()
    store.put_many([b"end"], ["x"], [10_000])
    told += [(200, key) for key, _ in store.expire()]
    assert [key for key, _, _ in store.scan()] == [b"end"]
    engine.write(store.pending(), {})
    store.applied()
    assert len(list(engine.scan("rows/times-1", b"\x00\x00", None))) == 1
    reference: list[tuple[int, bytes]] = []
    rows: dict[bytes, int] = {}
    observed = -1
    for step in range(200):
        time = max(step * 3 - 40 * (step % 7 == 0), 0)
        rows[b"%d" % (step % 11)] = time
        observed = max(observed, time)
        if step % 5:
            gone = sorted((at, key) for key, at in rows.items() if observed > at + 20)
            reference += [(step, key) for _, key in gone]
            rows = {key: at for key, at in rows.items() if observed <= at + 20}
    reference += [(200, key) for _, key in sorted((at, key) for key, at in rows.items())]
    assert told == reference
