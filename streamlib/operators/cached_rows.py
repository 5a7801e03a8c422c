"""A table's rows for user code: those of the write cache over those of the store, to read by range and to write.

Joins look up single keys, `table_rows` does that; a processor may scan. Source: CachingKeyValueStore,
MergedSortedCacheKeyValueBytesStoreIterator. Next: `store_access`, which hands stores to processors.
"""

from collections.abc import Iterator
from typing import Any, cast

from streamlib.operators.table_rows import TableRows, isolated
from streamlib.state.cache import STORE_KEY, TIMESTAMP, VALUE, Entry, WriteCache
from streamlib.state.window import WindowTimestampedStore, split_window_store_key


class CachedRows:
    """Rows by store key; implements `state.window_facade.WindowRows`, of which a key-value store needs a part.

    Args:
        rows: The store and its cache.
        cache: That cache.
    """

    def __init__(self, rows: TableRows, cache: WriteCache[Any]) -> None:
        self._rows = rows
        self._cache = cache
        self._isolated = isolated(rows.spec.value_serde)

    def get(self, key: bytes) -> tuple[Any, int] | None:
        """Value and timestamp of a row."""
        row = self._rows.get_many([key])[0]
        return None if row is None else (row[0], row[1])

    def put_many(self, keys: list[bytes], values: list[Any], timestamps: list[int]) -> None:
        """Update rows in the cache; the next flush writes them and sends them down the plan."""
        spec = self._rows.spec
        plain = [split_window_store_key(key)[0] for key in keys] if spec.kind == "window" else keys
        self._cache.put_many(keys, values, timestamps, map(spec.key_serde.deserialize, plain))

    def scan(
        self, start: bytes | None = None, end: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, Any, int]]:
        """Rows with ``start <= key < end``, in key order."""
        stored = self._rows.store.scan(start, end, reverse=reverse)
        dirty = self._dirty(start, end)
        return iter(sorted(self._over(dirty, stored), key=_store_key, reverse=reverse)) if dirty else stored

    def fetch(
        self, key: bytes, time_from: int, time_to: int, *, reverse: bool = False
    ) -> Iterator[tuple[int, Any, int]]:
        """The windows of one key as (window start, value, timestamp), in the order of time."""
        for store_key, value, timestamp in self.fetch_all(time_from, time_to, reverse=reverse):
            own, start = split_window_store_key(store_key)
            if own == key:
                yield start, value, timestamp

    def fetch_all(self, time_from: int, time_to: int, *, reverse: bool = False) -> Iterator[tuple[bytes, Any, int]]:
        """All windows that start in ``[time_from, time_to]``, in the order of time and then of their keys."""
        store = cast("WindowTimestampedStore[Any]", self._rows.store)
        dirty = {
            key: entry
            for key, entry in self._dirty(None, None).items()
            if time_from <= split_window_store_key(key)[1] <= time_to
        }
        rows = self._over(dirty, store.fetch_all(time_from, time_to))
        return iter(sorted(rows, key=_time_and_key, reverse=reverse))

    def _dirty(self, start: bytes | None, end: bytes | None) -> dict[bytes, Entry]:
        return {
            entry[STORE_KEY]: entry
            for entry in self._cache.dirty
            if (start is None or entry[STORE_KEY] >= start) and (end is None or entry[STORE_KEY] < end)
        }

    def _over(
        self, dirty: dict[bytes, Entry], stored: Iterator[tuple[bytes, Any, int]]
    ) -> Iterator[tuple[bytes, Any, int]]:
        yield from (row for row in stored if row[0] not in dirty)
        for key, entry in dirty.items():
            if entry[VALUE] is not None:
                yield key, self._isolated(entry[VALUE]), entry[TIMESTAMP]


def _store_key(row: tuple[bytes, Any, int]) -> bytes:
    return row[0]


def _time_and_key(row: tuple[bytes, Any, int]) -> tuple[int, bytes]:
    key, start = split_window_store_key(row[0])
    return start, key
