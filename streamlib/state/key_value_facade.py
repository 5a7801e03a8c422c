"""Key-value stores as user code sees them: keys and values are objects, deletions are None, ranges are inclusive.

A facade belongs to one processor of one task, and is valid as long as that. Objects it gives are the caller's own; a
changed value must be put again. Iterators show what was there when they were made, so writing meanwhile is allowed.

Source: KeyValueStore, TimestampedKeyValueStore, ReadOnlyKeyValueStore. Next: `window_facade`.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from streamlib.serdes.base import AnySerde
from streamlib.state.facade import Facade, Stamp, after_prefix, raw_key
from streamlib.state.spec import StoreSpec

K = TypeVar("K")
V = TypeVar("V")


class Rows(Protocol):
    """What lies below a facade: rows by store key, as `state.base.TimestampedStore` has them."""

    def get(self, key: bytes) -> tuple[Any, int] | None:
        """Value and timestamp of a row."""

    def put_many(self, keys: list[bytes], values: list[Any], timestamps: list[int]) -> None:
        """Write rows and log them, in order; None deletes."""

    def scan(
        self, start: bytes | None = None, end: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, Any, int]]:
        """Rows with ``start <= key < end``, in key order."""


class ValueAndTimestamp(NamedTuple, Generic[V]):
    """A value, and when it became the value."""

    value: V
    timestamp: int


class ReadOnlyKeyValueStore(Facade[K, Rows], Generic[K, V]):
    """The latest value of each key; made by the runtime."""

    def get(self, key: K) -> V | None:
        """The value of a key; None when there is none.

        Raises:
            SerdeError: The key is None, or its serde refuses it.
        """
        row = self._rows.get(self._raw(key))
        return None if row is None else self._shown(row[0], row[1])

    def range(self, first: K | None = None, last: K | None = None) -> Iterator[tuple[K, V]]:
        """Keys and values from ``first`` to ``last``, both inclusive (None: no bound), by the keys' bytes."""
        return self._listed(first, last, reverse=False)

    def reverse_range(self, first: K | None = None, last: K | None = None) -> Iterator[tuple[K, V]]:
        """The same from ``last`` down to ``first``."""
        return self._listed(first, last, reverse=True)

    def all(self) -> Iterator[tuple[K, V]]:
        """All keys and values, in the order of the keys' bytes."""
        return self._listed(None, None, reverse=False)

    def reverse_all(self) -> Iterator[tuple[K, V]]:
        """The same backwards."""
        return self._listed(None, None, reverse=True)

    def prefix_scan(self, prefix: Any, prefix_serde: AnySerde | None = None) -> Iterator[tuple[K, V]]:
        """Keys whose bytes begin with those of ``prefix``, and their values, in the order of the bytes.

        Args:
            prefix: What they begin with.
            prefix_serde: How it becomes bytes, if not like a key.
        """
        start = raw_key(prefix_serde or self._spec.key_serde, prefix, self.name)
        return self._objects(self._rows.scan(start, after_prefix(start)))

    def approximate_num_entries(self) -> int:
        """How many keys there are; the whole store is read."""
        return sum(1 for _ in self._rows.scan())

    def _listed(self, first: K | None, last: K | None, *, reverse: bool) -> Iterator[tuple[K, V]]:
        start = None if first is None else self._raw(first)
        end = None if last is None else self._raw(last) + b"\x00"
        return self._objects(self._rows.scan(start, end, reverse=reverse))

    def _objects(self, rows: Iterator[tuple[bytes, Any, int]]) -> Iterator[tuple[K, V]]:
        deserialize, shown = self._spec.key_serde.deserialize, self._shown
        return ((deserialize(key), shown(value, timestamp)) for key, value, timestamp in rows)

    def _shown(self, value: Any, timestamp: int) -> V:
        shown: V = value
        return shown


class KeyValueStore(ReadOnlyKeyValueStore[K, V]):
    """The latest value of each key, to read and to write; made by the runtime.

    Writes are logged at the time of the record at hand.
    """

    def __init__(self, spec: StoreSpec, rows: Rows, stamp: Stamp) -> None:
        super().__init__(spec, rows)
        self._stamp = stamp

    def put(self, key: K, value: V | None) -> None:
        """Set the value of a key; None deletes it.

        Raises:
            SerdeError: The key is None, or a serde refuses key or value; nothing was written.
        """
        self._write([(key, value)])

    def put_if_absent(self, key: K, value: V | None) -> V | None:
        """Set the value of a key that has none; the value it has already, or None."""
        held = self.get(key)
        if held is None:
            self._write([(key, value)])
        return held

    def put_all(self, entries: Iterable[tuple[K, V | None]]) -> None:
        """Set several values, in order; all or none are written."""
        self._write(list(entries))

    def delete(self, key: K) -> V | None:
        """Delete a key; the value it had."""
        held = self.get(key)
        self._write([(key, None)])
        return held

    def _write(self, entries: list[tuple[K, V | None]]) -> None:
        keys = [self._raw(key) for key, _ in entries]
        now = self._stamp.timestamp
        self._rows.put_many(keys, [value for _, value in entries], [now] * len(keys))


class ReadOnlyTimestampedKeyValueStore(ReadOnlyKeyValueStore[K, ValueAndTimestamp[V]]):
    """A table's rows: the latest value of each key with its timestamp; made by the runtime."""

    def _shown(self, value: Any, timestamp: int) -> ValueAndTimestamp[V]:
        return ValueAndTimestamp(value, timestamp)


class TimestampedKeyValueStore(KeyValueStore[K, ValueAndTimestamp[V]]):
    """The same to read and to write. What is written here goes down the plan only if the table is cached."""

    def _shown(self, value: Any, timestamp: int) -> ValueAndTimestamp[V]:
        return ValueAndTimestamp(value, timestamp)

    def _write(self, entries: list[tuple[K, ValueAndTimestamp[V] | None]]) -> None:
        keys = [self._raw(key) for key, _ in entries]
        now = self._stamp.timestamp
        pairs = [(None, now) if entry is None else entry for _, entry in entries]
        self._rows.put_many(keys, [value for value, _ in pairs], [timestamp for _, timestamp in pairs])
