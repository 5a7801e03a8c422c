"""The rows of one table in one task: its store, and the write cache over it when there is one.

The operator that owns the table writes; joins read through the same object, so they see rows that only the cache
knows yet. Rows are addressed by store key.

Next: `materialized`, with which `aggregate`, `table_source` and `table` own tables; `getters`, for joins.
"""

from collections.abc import Callable, Sequence
from typing import Any

from streamlib.operators.cached_origins import CachedOrigins
from streamlib.serdes.base import AnySerde
from streamlib.state.base import TimestampedStore
from streamlib.state.cache import VALUE, WriteCache
from streamlib.state.spec import StoreSpec
from streamlib.state.window import window_store_key

ABSENT: Any = object()

Row = Sequence[Any]
"""Value and timestamp; what may follow them is of no concern. To be read at once: a cached row changes in place."""


class TableRows:
    """Rows by store key.

    Attributes:
        spec: What the store is.
        store: The store itself.
        cache: Its write cache, or None: then updates are written and passed on at once.
        cached_starts: Window stores: by serialized plain key, the starts of windows that the cache may hold, ascending;
            kept by operators that look for the windows around a time.
        origins: Where cached updates came from, if somebody may ask.
    """

    def __init__(self, spec: StoreSpec, store: TimestampedStore[Any], cache: WriteCache[Any] | None) -> None:
        self.spec = spec
        self.store = store
        self.cache = cache
        self.cached_starts: dict[bytes, list[int]] = {}
        self.origins: CachedOrigins | None = None

    def raw_keys(self, keys: list[Any]) -> list[bytes]:
        """The store keys of table keys, none of which is None; of a window store: of `Windowed` keys, sequence 0."""
        if self.spec.kind == "window":
            plain: list[Any] = self.spec.key_serde.serialize_many([key.key for key in keys])
            return [window_store_key(raw, key.start) for raw, key in zip(plain, keys, strict=True)]
        raws: list[Any] = self.spec.key_serde.serialize_many(keys)
        return raws

    def get_many(self, keys: list[bytes]) -> Sequence[Row | None]:
        """Rows as they are now, in the order of ``keys``.

        Values that can be changed in place are the caller's own.
        """
        cache = self.cache
        if cache is None:
            return self.store.get_many(keys)
        if self.spec.value_serde.immutable:
            return [None if entry[VALUE] is None else entry for entry in cache.entries_of(keys)]
        isolate = isolated(self.spec.value_serde)
        cached = [cache.get(key) if cache.is_dirty(key) else ABSENT for key in keys]
        stored = iter(self.store.get_many([key for key, row in zip(keys, cached, strict=True) if row is ABSENT]))
        return [next(stored) if row is ABSENT else None if row is None else (isolate(row[0]), row[1]) for row in cached]

    def discard(self) -> None:
        """Forget what the write cache holds."""
        if self.cache is not None:
            self.cache.discard()


def isolated(serde: AnySerde) -> Callable[[Any], Any]:
    """A function that gives a copy of a value, never None, which nobody else holds."""
    encode, decode = serde.serialize, serde.deserialize
    return lambda value: decode(encode(value))
