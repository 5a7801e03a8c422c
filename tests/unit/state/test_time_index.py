from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from streamlib.serdes.primitives import STRING
from streamlib.state.base import Engine
from streamlib.state.memory import MemoryEngine
from streamlib.state.rocksdb import RocksEngine
from streamlib.state.spec import StoreSpec
from streamlib.state.stores import open_store
from streamlib.state.time_index import key_first, time_first
from streamlib.state.window import WindowTimestampedStore, window_store_key

RETENTION_MS = 120_000  # so that a segment is 60,000 ms long
MAX_TIME = 2**63 - 1

Store = WindowTimestampedStore[str]


class CountingEngine(MemoryEngine):
    """An engine that counts the rows which scans give."""

    scanned = 0

    def scan(self, *args: Any, **options: Any) -> Iterator[tuple[bytes, bytes]]:
        for row in super().scan(*args, **options):
            self.scanned += 1
            yield row


def opened(engine: Engine, *, time_ordered: bool = True, **settings: Any) -> Store:
    return WindowTimestampedStore(
        "w", STRING, engine, **{"retention_ms": RETENTION_MS, "time_ordered": time_ordered, **settings}
    )


def commit(store: Store, engine: Engine) -> None:
    engine.write(store.pending(), {})
    store.applied()


def put(store: Store, *rows: tuple[str, int, str | None]) -> None:
    keys = [window_store_key(key.encode(), start) for key, start, _ in rows]
    store.put_many(keys, [value for _, _, value in rows], [start for _, start, _ in rows])


def fetched(store: Store, first: int = 0, last: int = MAX_TIME) -> list[tuple[str, int, str]]:
    rows = [(key_first(time_first(raw)), value) for raw, value, _ in store.fetch_all(first, last)]
    return [(raw[:-12].decode(), int.from_bytes(raw[-12:-4]), value) for raw, value in rows]


def test_a_key_has_its_time_in_front_when_it_is_indexed() -> None:
    # Java's base key but for the byte in front that tells it from its index keys.
    assert time_first(window_store_key(b"k", 1000, 5)).hex() == "00000000000003e86b00000005"
    assert key_first(bytes.fromhex("00000000000003e86b00000005")) == window_store_key(b"k", 1000, 5)


@pytest.mark.parametrize("committed", [False, True])
def test_rows_come_by_time_then_by_key_when_all_keys_are_fetched(engine: Engine, committed: bool) -> None:
    store = opened(engine)
    put(store, ("b", 5, "1"), ("aa", 5, "2"), ("a", 5, "3"), ("z", 1, "4"), ("a", 61_000, "5"), ("b", 60_000, "6"))
    if committed:
        commit(store, engine)
    put(store, ("c", 5, "7"), ("b", 5, None), ("a", 5, "8"))
    expected = [("z", 1, "4"), ("a", 5, "8"), ("aa", 5, "2"), ("c", 5, "7"), ("b", 60_000, "6"), ("a", 61_000, "5")]
    assert fetched(store) == expected
    assert fetched(store, 5, 60_000) == expected[1:5]
    assert fetched(store, 6, 59_999) == []
    assert fetched(store, 7, 6) == []


def test_rows_are_found_when_a_commit_is_under_way(engine: Engine) -> None:
    store = opened(engine)
    put(store, ("a", 1, "1"), ("b", 1, "1"))
    writes = store.pending()
    put(store, ("a", 1, "2"), ("b", 1, None), ("c", 0, "2"))
    assert fetched(store) == [("c", 0, "2"), ("a", 1, "2")]
    engine.write(writes, {})
    store.applied()
    assert fetched(store) == [("c", 0, "2"), ("a", 1, "2")]


def test_uncommitted_rows_are_gone_when_they_are_discarded(engine: Engine) -> None:
    store = opened(engine)
    put(store, ("a", 1, "1"))
    commit(store, engine)
    put(store, ("a", 1, None), ("b", 2, "2"), ("c", 70_000, "3"))
    store.discard()
    assert fetched(store) == [("a", 1, "1")]


def test_the_order_of_time_is_there_when_the_engine_is_opened_again(open_rocks: Callable[[], RocksEngine]) -> None:
    engine = open_rocks()
    store = opened(engine)
    put(store, ("b", 5, "1"), ("a", 7, "2"), ("a", 61_000, "3"))
    commit(store, engine)
    assert fetched(opened(open_rocks())) == [("b", 5, "1"), ("a", 7, "2"), ("a", 61_000, "3")]


def test_restored_rows_are_in_the_order_of_time(engine: Engine) -> None:
    store = opened(engine)
    keys = [window_store_key(b"b", 5), window_store_key(b"a", 9), window_store_key(b"a", 5), window_store_key(b"b", 5)]
    store.restore(keys, [b"1", b"2", b"3", None], [5, 9, 5, 5])
    assert fetched(store) == [("a", 5, "3"), ("a", 9, "2")]


@pytest.mark.parametrize("inclusive", [True, False])
def test_a_row_is_readable_a_millisecond_longer_when_retention_is_inclusive(engine: Engine, inclusive: bool) -> None:
    spec = StoreSpec("w", "window", STRING, STRING, retention_ms=RETENTION_MS, time_ordered=True)
    store = open_store(replace(spec, inclusive_retention=inclusive), engine)
    assert isinstance(store, WindowTimestampedStore)
    put(store, ("a", 9, "1"), ("a", 10, "2"), ("a", 11, "3"), ("a", 10 + RETENTION_MS, "4"))
    starts = [10, 11, 10 + RETENTION_MS] if inclusive else [11, 10 + RETENTION_MS]
    assert [start for _, start, _ in fetched(store)] == starts
    assert store.get(window_store_key(b"a", 10)) == (("2", 10) if inclusive else None)
    assert store.get(window_store_key(b"a", 9)) is None


def test_the_index_goes_when_its_segment_expires(engine: Engine) -> None:
    store = opened(engine)
    put(store, ("a", 1, "1"))
    commit(store, engine)
    put(store, ("a", 240_000, "2"), ("a", 2, "too late"))
    commit(store, engine)
    assert fetched(store) == [("a", 240_000, "2")]
    assert sorted(engine.tables()) == ["w/60000/4", "w:time/60000/4"]
    assert store.expired == 1


def test_an_index_is_made_when_the_store_had_none(engine: Engine) -> None:
    before = opened(engine, time_ordered=False)
    put(before, ("b", 5, "1"), ("a", 5, "2"), ("a", 61_000, "3"))
    commit(before, engine)
    store = opened(engine)
    assert fetched(store) == [("a", 5, "2"), ("b", 5, "1"), ("a", 61_000, "3")]


def test_an_index_is_dropped_when_the_store_has_none_any_more(engine: Engine) -> None:
    store = opened(engine)
    put(store, ("a", 5, "1"))
    commit(store, engine)
    without = opened(engine, time_ordered=False)
    assert engine.tables() == ["w/60000/0"]
    put(without, ("b", 4, "2"))
    commit(without, engine)
    assert fetched(opened(engine)) == [("b", 4, "2"), ("a", 5, "1")]


def test_an_index_is_made_anew_when_making_it_was_cut_short(engine: Engine) -> None:
    before = opened(engine, time_ordered=False)
    put(before, ("a", 5, "1"), ("b", 5, "2"))
    commit(before, engine)
    engine.create("w:time/60000/0")
    engine.write({"w:time/60000/0": {time_first(window_store_key(b"b", 5)): b""}}, {})
    assert fetched(opened(engine)) == [("a", 5, "1"), ("b", 5, "2")]


def test_an_index_is_made_anew_when_the_retention_changes(engine: Engine) -> None:
    store = opened(engine)
    put(store, ("a", 5, "1"), ("b", 61_000, "2"))
    commit(store, engine)
    assert fetched(opened(engine, retention_ms=1_000_000)) == [("a", 5, "1"), ("b", 61_000, "2")]
    assert sorted(engine.tables()) == ["w/500000/0", "w:time/500000/0"]


def test_few_rows_are_read_when_the_store_holds_many() -> None:
    engine = CountingEngine()
    store = opened(engine)
    put(store, *((f"k{number}", number, "v") for number in range(10_000)))
    commit(store, engine)
    engine.scanned = 0
    assert len(fetched(store, 5_000, 5_009)) == 10
    assert engine.scanned == 10
