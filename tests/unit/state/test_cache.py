from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlib.errors import SerdeError
from streamlib.serdes.base import Serde
from streamlib.serdes.primitives import INT64
from streamlib.state.base import Engine
from streamlib.state.cache import WriteCache
from streamlib.state.cache_memory import CacheMemory
from streamlib.state.key_value import KeyValueTimestampedStore
from streamlib.state.lru import LruKeyValueStore
from streamlib.state.memory import MemoryEngine
from streamlib.state.window import WindowTimestampedStore, window_store_key

LISTS: Serde[list[int]] = Serde("lists", bytes, list)
"""Values that can be changed in place."""


@pytest.fixture
def counts(engine: Engine, changelog) -> KeyValueTimestampedStore[int]:
    return KeyValueTimestampedStore("counts", INT64, engine, changelog)


@pytest.fixture
def cache(counts: KeyValueTimestampedStore[int]) -> WriteCache[int]:
    return WriteCache(counts, INT64, memory=CacheMemory(100_000))


@pytest.fixture
def old_sending_cache(counts: KeyValueTimestampedStore[int]) -> WriteCache[int]:
    return WriteCache(counts, INT64, memory=CacheMemory(100_000), send_old=True)


def rows(changes: Any) -> list[tuple[Any, ...]]:
    columns = [changes.keys, changes.values, changes.timestamps]
    if changes.olds is not None:
        columns.append(changes.olds)
    return list(zip(*columns, strict=True))


def test_one_update_per_key_goes_down_when_flushed(
    cache: WriteCache[int], counts: KeyValueTimestampedStore[int], changelog
) -> None:
    for number, key in enumerate("abcab"):
        cache.put(key.encode(), number, 100 + number, key)
    assert counts.get(b"a") is None
    changes = cache.flush()
    # In the order of the last update, with its value and timestamp.
    assert rows(changes) == [("c", 2, 102), ("a", 3, 103), ("b", 4, 104)]
    assert changelog.records == [(key.encode(), INT64.serialize(value), ts) for key, value, ts in rows(changes)]
    assert counts.get_many([b"a", b"b", b"c"]) == [(3, 103), (4, 104), (2, 102)]
    assert changes is not None
    assert (changes.olds, changes.headers, changes.offsets, changes.latest) == (None, None, None, None)
    assert cache.flush() is None


def test_get_sees_dirty_rows_before_those_of_the_store(
    cache: WriteCache[int], counts: KeyValueTimestampedStore[int]
) -> None:
    counts.put_many([b"a", b"b", b"c"], [1, 2, 3], [10, 20, 30])
    cache.put(b"a", 5, 50, "a")
    cache.put(b"b", None, 50, "b")
    for _ in range(2):
        assert [cache.get(key) for key in (b"a", b"b", b"c", b"d")] == [(5, 50), None, (3, 30), None]
        cache.entries_of([b"a", b"b", b"c", b"d", b"c"])


def test_old_values_are_those_of_the_store_when_they_are_sent(
    old_sending_cache: WriteCache[int], counts: KeyValueTimestampedStore[int]
) -> None:
    counts.put_many([b"a", b"b"], [1, 2], [10, 20])
    for key, value in (("a", 5), ("c", 6), ("a", 7)):
        old_sending_cache.put(key.encode(), value, 50, key)
    old_sending_cache.put(b"b", None, 51, "b")
    assert rows(old_sending_cache.flush()) == [("c", 6, 50, None), ("a", 7, 50, 1), ("b", None, 51, 2)]
    old_sending_cache.put(b"a", 9, 60, "a")
    assert rows(old_sending_cache.flush()) == [("a", 9, 60, 7)]


@pytest.mark.parametrize("send_old", [False, True])
def test_nothing_is_written_or_sent_when_a_missing_row_is_deleted(
    counts: KeyValueTimestampedStore[int], changelog, send_old: bool
) -> None:
    cache = WriteCache(counts, INT64, memory=CacheMemory(1000), send_old=send_old)
    cache.put(b"a", 1, 10, "a")
    cache.put(b"a", None, 11, "a")
    assert cache.flush() is None
    cache.put(b"b", None, 12, "b")
    cache.put(b"c", 3, 13, "c")
    changes = cache.flush()
    assert changes is not None
    assert (changes.keys, changes.values, changes.olds) == (["c"], [3], [None] if send_old else None)
    assert [key for key, _, _ in changelog.records] == [b"c"]
    assert [cache.get(key) for key in (b"a", b"b", b"c")] == [None, None, (3, 13)]


def test_deletion_goes_down_without_the_old_value_when_old_values_are_not_sent(
    cache: WriteCache[int], counts: KeyValueTimestampedStore[int], changelog
) -> None:
    counts.put_many([b"a"], [1], [10])
    cache.put(b"a", None, 20, "a")
    changes = cache.flush()
    assert changes is not None
    assert (rows(changes), changes.olds) == ([("a", None, 20)], None)
    assert changelog.records[-1] == (b"a", None, 20)
    assert counts.get(b"a") is None


def test_headers_are_those_of_the_last_update(cache: WriteCache[int]) -> None:
    cache.put(b"a", 1, 1, "a", [("first", b"1")])
    cache.put(b"b", 1, 1, "b")
    cache.put(b"a", 2, 2, "a", [("second", None)])
    changes = cache.flush()
    assert changes is not None
    assert list(zip(changes.keys, changes.headers or [], strict=True)) == [("b", ()), ("a", [("second", None)])]
    cache.put(b"a", 3, 3, "a", [])
    again = cache.flush()
    assert again is not None
    assert again.headers is None


def test_flush_goes_in_parts_when_limited(cache: WriteCache[int], counts: KeyValueTimestampedStore[int]) -> None:
    for key in "abcde":
        cache.put(key.encode(), 1, 1, key)
    first = cache.flush(limit=2)
    cache.put(b"a", 2, 2, "a")
    assert counts.get_many([b"a", b"b", b"c"]) == [(1, 1), (1, 1), None]
    assert [cache.get(key) for key in (b"a", b"b", b"c")] == [(2, 2), (1, 1), (1, 1)]
    second = cache.flush(limit=3)
    third = cache.flush(limit=3)
    assert [rows(part) for part in (first, second, third)] == [
        [("a", 1, 1), ("b", 1, 1)],
        [("c", 1, 1), ("d", 1, 1), ("e", 1, 1)],
        [("a", 2, 2)],
    ]


class CountedStore(KeyValueTimestampedStore[Any]):
    """Counts the keys that are looked for."""

    reads = 0

    def get_many(self, keys: list[bytes]) -> list[tuple[Any, int] | None]:
        self.reads += len(keys)
        return super().get_many(keys)


def test_store_is_asked_once_per_key_when_a_batch_is_prefetched() -> None:
    store = CountedStore("counts", INT64, MemoryEngine())
    store.put_many([b"a"], [1], [10])
    cache: WriteCache[int] = WriteCache(store, INT64, memory=CacheMemory(100_000))
    cache.put(b"dirty", 1, 1, "dirty")
    cache.entries_of([b"a", b"b", b"a", b"dirty", b"b"])
    assert store.reads == 2
    cache.entries_of([b"a", b"b"])
    assert [cache.get(key) for key in (b"a", b"b")] == [(1, 10), None]
    assert store.reads == 2
    cache.put(b"a", 2, 20, "a")
    cache.flush()
    assert cache.get(b"a") == (2, 20)  # immutable, so it may be kept
    assert store.reads == 2


def test_rows_that_nobody_reads_do_not_stay() -> None:
    cache: WriteCache[int] = WriteCache(
        CountedStore("counts", INT64, MemoryEngine()), INT64, memory=CacheMemory(60_000)
    )
    cache.put_many([b"a", b"b"], [1, 2], [1, 2], [b"a", b"b"])
    cache.flush()
    assert len(cache) == 0
    cache.entries_of([b"a"])
    cache.put_many([b"a", b"b"], [1, 2], [1, 2], [b"a", b"b"])
    cache.flush()
    assert len(cache) == 2


@pytest.mark.parametrize("read_first", [True, False])
def test_clean_rows_are_let_go_when_they_are_too_many(*, read_first: bool) -> None:
    store = CountedStore("counts", INT64, MemoryEngine())
    cache: WriteCache[int] = WriteCache(store, INT64, memory=CacheMemory(60_000))
    for first in range(0, 10_000, 50):
        keys = [number.to_bytes(4, "big") for number in range(first, first + 50)]
        if read_first:
            cache.entries_of(keys)
        for key in keys:
            cache.put(key, 1, 1, key)
        cache.flush()
        assert len(cache) <= 300


def test_the_latest_updates_stay_when_loaded_rows_are_too_many() -> None:
    store = CountedStore("counts", INT64, MemoryEngine())
    cache: WriteCache[int] = WriteCache(store, INT64, memory=CacheMemory(60_000))  # about 100 entries
    updated = [b"new%d" % number for number in range(80)]
    cache.entries_of(updated)
    for key in updated:
        cache.put(key, 1, 1, key)
    cache.flush()
    for first in range(0, 10_000, 100):
        cache.entries_of([b"%d" % number for number in range(first, first + 100)])
    assert len(cache) <= 400
    reads = store.reads
    cache.entries_of(updated[-20:])
    assert store.reads == reads


def test_the_store_is_not_asked_for_old_values_when_the_cache_has_had_them() -> None:
    store = CountedStore("counts", INT64, MemoryEngine())
    store.put_many([b"a", b"b"], [1, 2], [10, 10])
    cache: WriteCache[int] = WriteCache(store, INT64, memory=CacheMemory(100_000), send_old=True)
    cache.entries_of([b"a", b"none"])
    for key in (b"a", b"b", b"none", b"a"):
        cache.put(key, 5, 20, key)
    reads = store.reads
    changes = cache.flush()
    assert rows(changes) == [(b"b", 5, 20, 2), (b"none", 5, 20, None), (b"a", 5, 20, 1)]
    assert store.reads == reads + 1  # of b
    cache.put(b"a", 6, 30, b"a")
    cache.put(b"b", None, 30, b"b")
    assert rows(cache.flush()) == [(b"a", 6, 30, 5), (b"b", None, 30, 5)]
    assert store.reads == reads + 1


def test_old_values_are_those_the_store_has_when_it_forgets_by_itself() -> None:
    store = LruKeyValueStore("counts", INT64, MemoryEngine(), None, max_entries=1)
    cache: WriteCache[int] = WriteCache(store, INT64, memory=CacheMemory(100_000), send_old=True)
    cache.put_many([b"a", b"b"], [1, 2], [10, 10], ["a", "b"])
    cache.flush()
    cache.put(b"a", 3, 20, "a")
    assert rows(cache.flush()) == [("a", 3, 20, None)]


def test_dirty_values_may_be_changed_in_place_but_flushed_ones_are_read_anew(engine: Engine) -> None:
    store = KeyValueTimestampedStore("lists", LISTS, engine)
    cache = WriteCache(store, LISTS, memory=CacheMemory(100_000), send_old=True)
    value = [1]
    cache.put(b"a", value, 1, "a")
    row = cache.get(b"a")
    assert row is not None
    assert row[0] is value
    row[0].append(2)
    cache.put(b"a", row[0], 2, "a")
    first = cache.flush()
    value.append(99)  # whoever got it downstream changes it
    cache.entries_of([b"a"])
    again = cache.get(b"a")
    assert again == ([1, 2], 2)
    assert again is not None
    again[0].append(3)  # a function changes it and fails, so there is no put
    assert cache.get(b"a") == ([1, 2], 2)
    assert first is not None
    assert first.olds == [None]
    cache.put(b"a", [7], 3, "a")
    second = cache.flush()
    assert second is not None
    assert second.olds == [[1, 2]]


def test_loaded_row_is_not_shown_when_the_store_has_a_newer_one(engine: Engine) -> None:
    cache = WriteCache(KeyValueTimestampedStore("lists", LISTS, engine), LISTS, memory=CacheMemory(100_000))
    cache.entries_of([b"a", b"b"])
    cache.put(b"a", [1], 1, "a")
    cache.flush()
    assert cache.get(b"a") == ([1], 1)
    assert cache.get(b"b") is None


def test_cache_is_full_when_its_entries_outgrow_its_bytes(counts: KeyValueTimestampedStore[int]) -> None:
    cache = WriteCache(counts, INT64, memory=CacheMemory(40_000))
    entries = 0
    for _ in range(3):
        assert not cache.is_full()
        entries = 0
        while not cache.is_full():
            cache.put(entries.to_bytes(8, "big"), entries, 0, entries)
            entries += 1
        cache.flush()
    assert 80 < entries < 120  # of about 380 bytes each


def test_entries_count_with_their_values_and_headers_when_they_are_large(engine: Engine) -> None:
    store = KeyValueTimestampedStore("lists", LISTS, engine)
    for value, headers in (([1] * 10_000, None), ([1], [("h", bytes(10_000))])):
        cache = WriteCache(store, LISTS, memory=CacheMemory(1_000_000))
        cache.put(b"a", value, 0, "a", headers)
        cache.flush()
        assert 80 < cache.max_entries < 100


def test_every_entry_fills_the_cache_when_it_has_no_bytes(counts: KeyValueTimestampedStore[int]) -> None:
    cache = WriteCache(counts, INT64, memory=CacheMemory(0))
    assert not cache.is_full()
    cache.put(b"a", 1, 1, "a")
    assert cache.is_full()
    cache.entries_of([b"a", b"b"])
    assert cache.get(b"a") == (1, 1)


def test_rows_are_those_of_the_store_when_the_work_was_discarded(
    cache: WriteCache[int], counts: KeyValueTimestampedStore[int], engine: Engine
) -> None:
    cache.put(b"a", 1, 1, "a")
    cache.flush()
    engine.write(counts.pending(), {})
    counts.applied()
    cache.put(b"a", 2, 2, "a")
    cache.flush()
    cache.put(b"a", 3, 3, "a")
    counts.discard()
    cache.discard()
    assert cache.get(b"a") == (1, 1)
    assert cache.flush() is None


def test_expired_windows_are_forwarded_though_the_store_ignores_them(engine: Engine, changelog) -> None:
    store = WindowTimestampedStore("w", INT64, engine, changelog, retention_ms=60_000)
    cache = WriteCache(store, INT64, memory=CacheMemory(10_000), send_old=True)
    early, late = window_store_key(b"k", 0), window_store_key(b"k", 500_000)
    cache.put(late, 1, 500_000, "late")
    cache.put(early, 2, 0, "early")
    assert rows(cache.flush()) == [("late", 1, 500_000, None), ("early", 2, 0, None)]
    assert store.expired == 1
    assert store.get(early) is None


def test_error_tells_the_value_when_it_cannot_be_serialized(counts: KeyValueTimestampedStore[Any]) -> None:
    cache = WriteCache(counts, INT64, memory=CacheMemory(100_000))
    cache.put(b"good", 1, 0, "good")
    cache.put(b"bad", "text", 0, "bad")
    with pytest.raises(SerdeError, match="key b'bad', a str"):
        cache.flush()


updates = st.lists(
    st.tuples(st.sampled_from([b"a", b"b", b"c", b"d"]), st.none() | st.integers(0, 255), st.booleans(), st.booleans())
)


@given(updates, st.booleans(), st.booleans())
def test_cached_and_uncached_end_alike_whatever_is_put(
    steps: list[tuple[bytes, int | None, bool, bool]], mutable: bool, send_old: bool
) -> None:
    serde: Serde[Any] = LISTS if mutable else INT64
    store = KeyValueTimestampedStore("s", serde, MemoryEngine())
    cache = WriteCache(store, serde, memory=CacheMemory(2000), send_old=send_old)
    model: dict[bytes, Any] = {}
    seen: dict[bytes, Any] = {}  # what downstream has been told
    for timestamp, (key, number, prefetching, flushing) in enumerate(steps):
        if prefetching:
            cache.entries_of([key, b"a"])
        assert cache.get(key) == model.get(key)
        if number is None:
            value = None
            model.pop(key, None)
        else:
            value = [number] if mutable else number
            model[key] = ([number] if mutable else number, timestamp)
        cache.put(key, value, timestamp, key)
        if flushing or cache.is_full():
            changes = cache.flush()
            for position in range(0 if changes is None else len(changes)):
                assert changes is not None
                changed = changes.keys[position]
                if send_old:
                    assert changes.olds is not None
                    assert changes.olds[position] == seen.get(changed)
                seen[changed] = changes.values[position]
            assert {key: value for key, value, _ in store.scan()} == {key: row[0] for key, row in model.items()}
            assert {key: value for key, value in seen.items() if value is not None} == {
                key: row[0] for key, row in model.items()
            }
