from collections.abc import Callable

import pytest

from streamlib.state.base import Engine
from streamlib.state.memory import MemoryEngine
from streamlib.state.rocksdb import RocksEngine
from streamlib.state.unmatched import (
    LEFT,
    RIGHT,
    JoinTime,
    UnmatchedStore,
    split_unmatched_key,
    unmatched_key,
    values_of,
)


def commit(store: UnmatchedStore, engine: Engine) -> None:
    writes = store.pending()
    for table in writes:
        engine.create(table)
    engine.write(writes, {})
    store.applied()


@pytest.mark.parametrize(
    ("timestamp", "side", "key", "digits"),
    [
        (0, LEFT, b"k", "0000000000000000016b"),
        (0, RIGHT, b"k", "0000000000000000006b"),
        (1700000000000, LEFT, b"k", "0000018bcfe56800016b"),
    ],
)
def test_a_store_key_has_the_bytes_of_kafka_streams(timestamp: int, side: int, key: bytes, digits: str) -> None:
    assert unmatched_key(timestamp, side, key).hex() == digits
    assert split_unmatched_key(bytes.fromhex(digits)) == (timestamp, side, key)


def test_a_list_has_the_bytes_of_kafka_streams_when_values_are_added(changelog, engine: Engine) -> None:
    store = UnmatchedStore("s", engine, changelog)
    store.add(10, LEFT, b"k", b"A")
    commit(store, engine)
    store.add(10, LEFT, b"k", b"A")
    for _ in range(3):
        store.add(10, RIGHT, b"k", b"bb")
    store.log()
    assert [row.hex() for _, row in store.rows()] == [
        "0100000003000000030062620000000300626200000003006262",
        "0100000002000000020141000000020141",
    ]
    assert [value.hex() for value in changelog.values[:2]] == [
        "0100000001000000020141",
        "0100000002000000020141000000020141",
    ]
    assert [list(values_of(row)) for _, row in store.rows()] == [[b"bb"] * 3, [b"A"] * 2]


def test_rows_come_by_time_then_the_right_side_first_then_by_key(engine: Engine) -> None:
    store = UnmatchedStore("s", engine)
    store.add(300, LEFT, b"a", b"1")
    store.add(2, LEFT, b"b", b"1")
    commit(store, engine)
    store.add(2, RIGHT, b"c", b"1")
    store.add(2, LEFT, b"a", b"1")
    keys = [split_unmatched_key(key) for key, _ in store.rows()]
    assert keys == [(2, RIGHT, b"c"), (2, LEFT, b"a"), (2, LEFT, b"b"), (300, LEFT, b"a")]
    assert [timestamp for _, _, timestamp in store.scan()] == [2, 2, 2, 300]


def test_a_match_is_logged_only_when_something_waits(changelog, engine: Engine) -> None:
    store = UnmatchedStore("s", engine, changelog)
    store.add(5, LEFT, b"k", b"A")
    commit(store, engine)
    store.matched(5, RIGHT, b"k", 7)
    store.matched(5, LEFT, b"k", 7)
    store.matched(5, LEFT, b"k", 8)
    store.log()
    assert changelog.records[1:] == [(unmatched_key(5, LEFT, b"k"), None, 7)]
    commit(store, engine)
    assert list(store.rows()) == []


def test_nothing_is_logged_twice_when_there_is_nothing_new(changelog) -> None:
    store = UnmatchedStore("s", MemoryEngine(), changelog)
    store.add(5, LEFT, b"k", b"A")
    store.log()
    store.log()
    assert len(changelog.records) == 1


def test_a_restored_store_has_the_rows_of_its_changelog(changelog) -> None:
    store = UnmatchedStore("s", MemoryEngine(), changelog)
    store.add(5, LEFT, b"k", b"A")
    store.add(6, RIGHT, b"k", b"b")
    store.matched(5, LEFT, b"k", 7)
    store.log()
    other = UnmatchedStore("s", MemoryEngine())
    other.restore(changelog.keys, changelog.values, changelog.timestamps)
    assert list(other.rows()) == list(store.rows())
    assert other.pending_rows == 2
    other.resume(9)
    assert (other.time.stream_time, other.time.min_time) == (9, 6)


def test_uncommitted_rows_and_the_time_are_forgotten_when_work_is_dropped(
    open_rocks: Callable[[], RocksEngine],
) -> None:
    engine = open_rocks()
    store = UnmatchedStore("s", engine, cache_bytes=10_000)
    store.add(5, LEFT, b"k", b"A")
    commit(store, engine)
    store.add(3, LEFT, b"k", b"B")
    store.time.stream_time = 8
    store.discard()
    assert [split_unmatched_key(key)[0] for key, _ in store.rows()] == [5]
    assert (store.time.stream_time, store.time.min_time) == (-1, None)
    assert UnmatchedStore("s", open_rocks()).pending_rows == 0


@pytest.mark.parametrize(
    ("min_time", "open_ms", "stream_time", "over"),
    [(None, 0, 5, False), (None, 1, 5, True), (0, 5, 5, False), (0, 4, 5, True)],
)
def test_a_look_is_worth_it_when_something_may_be_over(
    min_time: int | None, open_ms: int, stream_time: int, over: bool
) -> None:
    time = JoinTime()
    time.min_time, time.stream_time = min_time, stream_time
    assert time.may_be_over(open_ms) is over
