"""The buffer of a suppressed table: its order, what it logs and when, and what it has after a restart."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlib.errors import DeserializationError, SerdeError, StateStoreError
from streamlib.record import TopicPartition
from streamlib.serdes import INT64, JSON, STRING, AnySerde
from streamlib.state.base import Engine
from streamlib.state.buffered_rows import BufferedRow, Origin, decode, encode
from streamlib.state.change_buffer import END_OF_TIME, KEY, NAME, NEW, OLD, ORIGIN, PRIOR, TIME, ChangeBuffer
from streamlib.state.memory import MemoryEngine
from streamlib.state.rocksdb import RocksEngine
from tests.unit.state.conftest import RecordedChangelog

TP = TopicPartition("in", 0)
SERDES = pytest.mark.parametrize("serde", [INT64, JSON], ids=["immutable", "mutable"])


def origin(timestamp: int = 1) -> Origin:
    return timestamp, 7, TP, ()


def put(buffer: ChangeBuffer[Any], time: int, key: bytes, old: Any, new: Any, timestamp: int = 1) -> None:
    (before,), (after,) = buffer.encode_many([old]), buffer.encode_many([new])
    buffer.put(time, key, key.decode(), before, after, origin(timestamp))


def evicted(buffer: ChangeBuffer[Any]) -> tuple[Any, ...]:
    """Time, key, prior, old and new value, timestamp."""
    entry = buffer.evict()
    return (entry[TIME], entry[KEY], *buffer.decode_many([entry[PRIOR], entry[OLD], entry[NEW]]), entry[ORIGIN][0])


def commit(buffer: ChangeBuffer[Any], engine: Engine) -> None:
    buffer.log(0)
    engine.write(buffer.pending(), {buffer.name: 1})
    buffer.applied()


def rows(changelog: RecordedChangelog) -> list[tuple[bytes, BufferedRow | None]]:
    return [(key, None if value is None else decode(value)) for key, value, _ in changelog.records]


@SERDES
def test_updates_come_out_by_time_and_then_by_key_bytes(serde: AnySerde) -> None:
    buffer = ChangeBuffer("b", serde, MemoryEngine())
    for time, key in [(5, b"a"), (3, b"\xff"), (3, b"b"), (4, b"c")]:
        (new,) = buffer.encode_many([1])
        buffer.put(time, key, None, None, new, origin())
    order = []
    while len(buffer):
        order.append((buffer.min_time, *evicted(buffer)[:2]))
    assert order == [(3, 3, b"b"), (3, 3, b"\xff"), (4, 4, b"c"), (5, 5, b"a")]
    assert buffer.min_time == END_OF_TIME


@SERDES
def test_a_key_keeps_its_place_and_prior_value_when_it_is_updated_again(serde: AnySerde) -> None:
    buffer = ChangeBuffer("b", serde, MemoryEngine())
    put(buffer, 1, b"a", 10, 11, timestamp=1)
    put(buffer, 2, b"b", None, 20, timestamp=2)
    put(buffer, 9, b"a", 11, 12, timestamp=9)
    assert buffer.priors([b"a", b"b", b"c"], "missing") == [10, None, "missing"]
    assert evicted(buffer) == (1, b"a", 10, 11, 12, 9)
    put(buffer, 7, b"a", 12, None)
    assert [evicted(buffer), evicted(buffer)] == [(2, b"b", None, None, 20, 2), (7, b"a", 12, 12, None, 1)]


def test_a_value_waits_as_it_is_only_when_nobody_can_change_it() -> None:
    shared = {"n": 1}
    buffer = ChangeBuffer("b", JSON, MemoryEngine())
    put(buffer, 1, b"a", None, shared)
    shared["n"] = 2
    assert evicted(buffer)[4] == {"n": 1}
    assert ChangeBuffer("b", INT64, MemoryEngine()).encode_many([1, None]) == [1, None]


@SERDES
def test_the_last_update_of_each_key_is_logged_in_the_order_of_keys_when_it_is_committed(
    serde: AnySerde, changelog: RecordedChangelog
) -> None:
    buffer = ChangeBuffer("b", serde, MemoryEngine(), changelog)
    put(buffer, 3, b"c", None, 1)
    put(buffer, 1, b"a", None, 1)
    put(buffer, 2, b"b", None, 1)
    put(buffer, 9, b"b", 1, None, timestamp=9)
    buffer.evict()
    assert changelog.records == []
    assert buffer.log(77) == 0
    one, none = serde.serialize(1), None
    assert rows(changelog) == [
        (b"a", None),
        (b"b", BufferedRow(2, none, one, none, origin(9))),
        (b"c", BufferedRow(3, none, none, one, origin())),
    ]
    assert changelog.timestamps == [77] * 3
    assert [tuple(headers) for headers in changelog.headers] == [(), (("v", b"\x03"),), (("v", b"\x03"),)]
    buffer.log(78)
    assert len(changelog.records) == 3


def test_logging_goes_on_where_it_stopped_when_it_is_done_in_parts(changelog: RecordedChangelog) -> None:
    buffer = ChangeBuffer("b", INT64, MemoryEngine(), changelog)
    for key in [b"c", b"a", b"b", b"d", b"e"]:
        put(buffer, 1, key, None, 1)
    assert [buffer.log(0, 2), buffer.log(0, 2), buffer.log(0, 2), buffer.log(0, 2)] == [3, 1, 0, 0]
    assert changelog.keys == [b"a", b"b", b"c", b"d", b"e"]


@SERDES
def test_entries_are_back_when_the_store_is_opened_again(serde: AnySerde, engine: Engine) -> None:
    buffer = ChangeBuffer("b", serde, engine)
    put(buffer, 2, b"b", None, 20, timestamp=5)
    put(buffer, 1, b"a", 9, 10)
    put(buffer, 1, b"a", 10, 11)
    put(buffer, 0, b"gone", None, 1)
    buffer.evict()
    commit(buffer, engine)
    put(buffer, 0, b"uncommitted", None, 1)
    again = ChangeBuffer("b", serde, engine)
    again.load()
    assert (len(again), again.min_time, again.priors([b"a"], None)) == (2, 1, [9])
    assert again.log(0) == 0
    assert [evicted(again), evicted(again)] == [(1, b"a", 9, 10, 11, 1), (2, b"b", None, None, 20, 5)]


def test_many_entries_are_loaded_in_steps_and_once(engine: Engine) -> None:
    buffer, rows = ChangeBuffer("b", INT64, engine), 2_500
    for row in range(rows):
        put(buffer, row, b"%d" % row, None, row)
    commit(buffer, engine)
    again = ChangeBuffer("b", INT64, engine)
    assert len(list(again.loading())) == 3
    assert list(again.loading()) == []
    assert [evicted(again)[0] for _ in range(rows)] == list(range(rows))


def test_uncommitted_updates_are_gone_when_the_work_is_dropped(engine: Engine) -> None:
    buffer = ChangeBuffer("b", INT64, engine)
    put(buffer, 1, b"a", None, 1)
    commit(buffer, engine)
    put(buffer, 1, b"a", 1, 2)
    put(buffer, 2, b"b", None, 1)
    buffer.discard()
    assert len(buffer) == 0
    buffer.load()
    assert [evicted(buffer) for _ in range(len(buffer))] == [(1, b"a", None, None, 1, 1)]


def test_a_changelog_of_kafka_streams_is_taken_over_when_it_is_restored(engine: Engine) -> None:
    late = BufferedRow(8, None, None, INT64.serialize(1), origin())
    first = BufferedRow(5, INT64.serialize(3), INT64.serialize(4), INT64.serialize(5), origin(6))
    buffer = ChangeBuffer("b", INT64, engine)
    buffer.restore([b"x", b"y", b"z"], [encode(late), encode(late), encode(late)], [0, 0, 0])
    buffer.restore([b"z", b"y"], [None, encode(first)], [0, 0])
    assert buffer.pending_rows == 3
    buffer.load()
    assert [evicted(buffer) for _ in range(len(buffer))] == [(5, b"y", 3, 4, 5, 6), (8, b"x", None, None, 1, 1)]


def test_a_store_is_refused_when_a_row_of_its_changelog_is_not_one_of_a_buffer() -> None:
    buffer = ChangeBuffer("b", INT64, MemoryEngine())
    buffer.restore([b"k"], [b"\x00" * 7], [0])
    with pytest.raises(StateStoreError, match=r"store 'b': the row with key b'k' is no row of a buffer"):
        buffer.load()


def test_a_value_is_refused_when_it_does_not_fit_the_serde(changelog: RecordedChangelog) -> None:
    buffer: ChangeBuffer[Any] = ChangeBuffer("b", INT64, MemoryEngine(), changelog)
    put(buffer, 1, b"k", None, "text")
    with pytest.raises(SerdeError, match=r"store 'b': a value that waits is refused by its value serde int64"):
        buffer.log(0)
    buffer.restore([b"k"], [encode(BufferedRow(1, None, None, b"text", origin()))], [0])
    with pytest.raises(
        DeserializationError, match=r"store 'b': a value that waits is refused by its value serde int64"
    ):
        buffer.load()


@SERDES
def test_the_size_follows_every_update_when_it_is_measured(serde: AnySerde) -> None:
    one = len(serde.serialize(1))
    row = 8 + 16 + len(TP.topic) + 4
    buffer = ChangeBuffer("b", serde, MemoryEngine())
    buffer.measure()
    put(buffer, 1, b"a", None, 1)
    sizes = [buffer.size_bytes]
    put(buffer, 1, b"a", 1, 1)
    sizes.append(buffer.size_bytes)
    put(buffer, 1, b"bb", 1, 1)
    sizes.append(buffer.size_bytes)
    commit(buffer, buffer._engine)
    buffer.load()
    sizes.append(buffer.size_bytes)
    buffer.evict()
    sizes.append(buffer.size_bytes)
    buffer.evict()
    assert sizes == [row + 1 + one, row + 1 + 2 * one, *[2 * row + 3 + 4 * one] * 2, row + 2 + 2 * one]
    assert buffer.size_bytes == 0


def test_rows_survive_on_disk_when_they_were_applied(open_rocks: Callable[[], RocksEngine]) -> None:
    engine = open_rocks()
    buffer = ChangeBuffer("b", STRING, engine)
    put(buffer, 1, b"a", None, "x")
    commit(buffer, engine)
    again = ChangeBuffer("b", STRING, open_rocks())
    again.load()
    entry = again.evict()
    assert (entry[KEY], entry[NAME], entry[NEW]) == (b"a", None, "x")


steps = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from([b"a", b"b", b"ab", b"c"]), st.none() | st.integers(0, 3))
    | st.just("evict")
    | st.just("restart"),
    max_size=30,
)


@given(steps)
def test_a_buffer_is_what_a_sorted_list_would_be_whatever_happens(actions: list[Any]) -> None:
    engine, model = MemoryEngine(), dict[bytes, tuple[int, Any, Any, Any]]()
    buffer: ChangeBuffer[Any] = ChangeBuffer("b", JSON, engine)
    table: dict[bytes, Any] = {}
    for action in actions:
        if action == "restart":
            commit(buffer, engine)
            buffer = ChangeBuffer("b", JSON, engine)
            buffer.load()
        elif action == "evict":
            if model:
                key = min(model, key=lambda key: (model[key][0], key))
                time, prior, old, new = model.pop(key)
                assert evicted(buffer)[:5] == (time, key, prior, old, new)
        else:
            time, key, new = action
            old = table.get(key)
            first, prior, _, _ = model.get(key, (time, old, None, None))
            model[key] = first, prior, old, new
            put(buffer, time, key, old, new)
            table[key] = new
        assert len(buffer) == len(model)
        assert buffer.min_time == min((time for time, *_ in model.values()), default=END_OF_TIME)
