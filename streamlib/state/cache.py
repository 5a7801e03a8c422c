"""The write cache: one store write, one changelog record and one update downstream per changed key and commit.

Entries are objects, not bytes, so an aggregation that hits the same key a thousand times serializes once. Next:
`stores`, which opens what lies below; the aggregations in `operators`, which work on ``dirty`` in their own loops.
"""

from collections.abc import Iterable
from itertools import islice
from typing import Any, Generic, TypeVar

from streamlib.record import ChangeBatch, Headers
from streamlib.serdes.base import Serde
from streamlib.state.base import TimestampedStore

V = TypeVar("V")

DirtyEntry = tuple[V | None, int, Any, Headers | None]
"""New value (None deletes), its timestamp, the key object of the record, the headers of the last update."""

_ENTRY_OVERHEAD_BYTES = 350  # dict entry, tuple, int, and the headers of the bytes and value objects
_SAMPLED_ENTRIES = 32
_ASSUMED_ENTRY_BYTES = 600


class WriteCache(Generic[V]):
    """Updates of one store since the last flush, over what the store has.

    ``get`` and ``put`` are the whole semantics. A hot loop may do the same inline, one batch at a time: take ``dirty``
    and ``loaded`` into locals after `prefetch`, look a key up in the one and then in the other, and to update it
    ``dirty.pop(key, None)`` before ``dirty[key] = (value, timestamp, key_object, headers)``, since flushes go in the
    order of the last update. Take both anew after every `flush`, which may replace them. Unless the serde is
    immutable, take an entry out of ``loaded`` with ``pop``: its object may be used once.

    Values may be changed in place between `get` and `put`: after a flush an object is never handed out again, unless
    the value serde is immutable. A user function that changes a value in place and then raises leaves its change in
    ``dirty``, if the key was there already.

    Args:
        store: What lies below.
        serde: The store's value serde; tells whether values are immutable, and measures them.
        max_bytes: When the entries are estimated to take more, `is_full`.
        send_old: Whether `flush` gives the values before the update.

    Attributes:
        dirty: Entries by store key, in the order of their last update.
        loaded: Rows as the store has them, None for those it does not have.
        max_entries: How many dirty entries fit; estimated anew at each flush.

    Source: Kafka's ``CachingKeyValueStore``, ``CachingWindowStore``, ``NamedCache``.
    """

    def __init__(self, store: TimestampedStore[V], serde: Serde[V], *, max_bytes: int, send_old: bool = False) -> None:
        self.dirty: dict[bytes, DirtyEntry[V]] = {}
        self.loaded: dict[bytes, tuple[Any, ...] | None] = {}
        self.max_entries = max_bytes // _ASSUMED_ENTRY_BYTES
        self._store = store
        self._serde = serde
        self._max_bytes = max_bytes
        self._send_old = send_old

    def get(self, key: bytes) -> tuple[V, int] | None:
        """Value and timestamp of a row: the dirty one, else the store's."""
        entry: tuple[Any, ...] | None = self.dirty.get(key)
        if entry is None:
            if key not in self.loaded:
                return self._store.get(key)
            entry = self.loaded[key] if self._serde.immutable else self.loaded.pop(key)
        return None if entry is None or entry[0] is None else (entry[0], entry[1])

    def put(self, key: bytes, value: V | None, timestamp: int, key_object: Any, headers: Headers | None = None) -> None:
        """Update a row, or delete it (None); nothing below hears of it before the next flush.

        Args:
            key: The store key.
            value: The new value.
            timestamp: Of the new value; of the record that deletes.
            key_object: What `flush` gives as the key.
            headers: Of the record that updates.
        """
        self.dirty.pop(key, None)
        self.dirty[key] = (value, timestamp, key_object, headers)

    def prefetch(self, keys: Iterable[bytes]) -> None:
        """Load the rows that are neither dirty nor loaded, in one read; repeated keys are read once."""
        if len(self.loaded) > self.max_entries:
            self.loaded = {}
        missing = list(set(keys).difference(self.dirty, self.loaded))
        if missing:
            self.loaded.update(zip(missing, self._store.get_many(missing), strict=True))

    def is_full(self) -> bool:
        """Whether the entries are estimated to take more than ``max_bytes``: then flush. Ask once per batch."""
        return len(self.dirty) > self.max_entries

    def flush(self, limit: int | None = None) -> ChangeBatch | None:
        """Write dirty entries to the store and its changelog; the changes to forward, None when there are none.

        Changes come in the order of the last update of their keys. A deletion of a row that the store does not have
        is neither written nor forwarded. The old values are those the store had, None for new rows.

        Args:
            limit: Flush the first so many entries only, so that an event loop can be let go in between; None for all.
        """
        part = self._take(limit)
        olds = self._olds(part)
        if olds:
            for key in [key for key, entry in part.items() if entry[0] is None and olds[key] is None]:
                del part[key]
        if not part:
            return None
        entries = part.values()
        values = [entry[0] for entry in entries]
        timestamps = [entry[1] for entry in entries]
        headers = [entry[3] or () for entry in entries]
        self._store.put_many(list(part), values, timestamps)
        self._measure(part)
        old_values = None
        if self._send_old:
            old_values = [None if (row := olds[key]) is None else row[0] for key in part]
        return ChangeBatch(
            [entry[2] for entry in entries],
            values,
            timestamps,
            headers=headers if any(headers) else None,
            olds=old_values,
        )

    def discard(self) -> None:
        """Forget everything: for when the work since the last commit is dropped, together with the store's own."""
        self.dirty = {}
        self.loaded = {}

    def _take(self, limit: int | None) -> dict[bytes, DirtyEntry[V]]:
        """Remove the entries to flush; immutable values stay loaded, since they are what the store has afterwards."""
        if limit is None or limit >= len(self.dirty):
            part, self.dirty = self.dirty, {}
        else:
            part = dict(islice(self.dirty.items(), limit))
            for key in part:
                del self.dirty[key]
        if not self._serde.immutable:
            self.loaded = {}
        elif len(self.loaded) > self.max_entries:
            self.loaded = dict(part)
        else:
            self.loaded.update(part)
        return part

    def _olds(self, part: dict[bytes, DirtyEntry[V]]) -> dict[bytes, tuple[V, int] | None]:
        """The store's rows that the flush needs: all of them, or those about to be deleted."""
        keys = list(part) if self._send_old else [key for key, entry in part.items() if entry[0] is None]
        return dict(zip(keys, self._store.get_many(keys), strict=True)) if keys else {}

    def _measure(self, part: dict[bytes, DirtyEntry[V]]) -> None:
        """Estimate the size of an entry from a few of them."""
        sample = list(islice(part.items(), _SAMPLED_ENTRIES))
        size_bytes = 0
        for key, (value, _, _, headers) in sample:
            size_bytes += 2 * len(key) + _ENTRY_OVERHEAD_BYTES
            if value is not None:
                size_bytes += len(self._serde.serialize(value))
            if headers:
                size_bytes += sum(len(name) + len(content or b"") for name, content in headers)
        self.max_entries = self._max_bytes * len(sample) // size_bytes
