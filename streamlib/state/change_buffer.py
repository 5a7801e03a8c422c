"""The buffer behind a suppressed table: for each key the last update, in the order of time, until it is evicted.

All of it lives in memory. What changed since the last commit goes to the engine and to the changelog with the next one,
one record for each key, a tombstone where the key was evicted; `load` brings it back. The order is that of (time, key
bytes); a key keeps the place of its first update. Next: `operators/suppress`, which fills and empties it.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from heapq import heapify, heappop, heappush
from itertools import islice
from typing import Any, Generic, TypeVar

from streamlib.errors import DeserializationError, SerdeError, StateStoreError
from streamlib.serdes.base import Serde
from streamlib.state.base import ChangelogWriter, Engine
from streamlib.state.buffered_rows import VERSION_HEADER, BufferedRow, Origin, decode, encode, size_bytes
from streamlib.state.one_table import OneTableStore

V = TypeVar("V")

END_OF_TIME = 1 << 63
_STEP_ROWS = 1_000

TIME, KEY, NAME, PRIOR, OLD, NEW, ORIGIN = range(7)

Entry = list[Any]
"""An update that waits: ``TIME`` and ``KEY`` are its place; ``NAME`` is the key object, None after a restart; then the
three values of a `BufferedRow`, as `ChangeBuffer.encoded` says, and the `Origin` of the last update."""


class ChangeBuffer(OneTableStore, Generic[V]):
    """A store of kind ``buffer``.

    Args:
        name: The store's name.
        value_serde: Of the values.
        engine: Where committed rows live.
        changelog: Where updates are logged; None for a store without logging.

    Attributes:
        expired: Nothing comes too late for a buffer.
        encoded: Whether values wait as bytes. Values that nobody can change wait as they are, and those that are gone
            before the next commit are never serialized.
        min_time: Time of the first entry; the end of time when there is none.
        size_bytes: Memory of all entries by Java's estimate, once `measure` was called.
        is_read: Whether a join reads the table, which finds an update waiting until it was passed on.
        leaving: By key, the updates that were taken out and are being passed on.

    Source: Kafka's ``InMemoryTimeOrderedKeyValueChangeBuffer``.
    """

    min_time: int
    size_bytes: int
    _entries: dict[bytes, Entry]
    _order: list[tuple[int, bytes]]  # a heap
    _dirty: set[bytes]  # keys that changed since the last commit
    _loaded: bool
    _unlogged: deque[bytes]  # those of a commit that is being made, in order

    def __init__(
        self, name: str, value_serde: Serde[V], engine: Engine, changelog: ChangelogWriter | None = None
    ) -> None:
        super().__init__(name, engine)
        self.encoded = not value_serde.immutable
        self.is_read = False
        self.leaving: dict[bytes, Entry] = {}
        self._measuring = False
        self._serde = value_serde
        self._changelog = changelog
        self._open()

    def __len__(self) -> int:
        return len(self._entries)

    # ---- updates -----------------------------------------------------------------------------------------

    def measure(self) -> None:
        """Keep `size_bytes`, for which values must wait as bytes; to be called before the buffer is loaded."""
        self._measuring = self.encoded = True

    def encode_many(self, values: list[V | None]) -> list[Any]:
        """Values as they wait.

        Raises:
            SerdeError: The value serde refuses one.
        """
        return self._serialized(values) if self.encoded else values

    def decode_many(self, values: list[Any]) -> list[V | None]:
        """Values from the form in which they wait.

        Raises:
            DeserializationError: The value serde refuses one.
        """
        return self._deserialized(values) if self.encoded else values

    def put(self, time: int, key: bytes, name: Any, old: Any, new: Any, origin: Origin) -> None:
        """Take an update; one of a key that waits already takes that one's place.

        Args:
            time: Its place, unless the key waits already.
            key: Its key as bytes.
            name: Its key.
            old: The value before it, from `encode_many`.
            new: The value after it, from `encode_many`.
            origin: Where it came from.
        """
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = [time, key, name, old, old, new, origin]
            heappush(self._order, (time, key))
            if time < self.min_time:
                self.min_time = time
        else:
            if self._measuring:
                self.size_bytes -= _size(entry)
            entry[NAME], entry[OLD], entry[NEW], entry[ORIGIN] = name, old, new, origin
        if self._measuring:
            self.size_bytes += _size(entry)
        self._dirty.add(key)

    def evict(self) -> Entry:
        """Take out the first entry; there must be one."""
        _, key = heappop(self._order)
        entry = self._entries.pop(key)
        self.min_time = self._order[0][0] if self._order else END_OF_TIME
        if self._measuring:
            self.size_bytes -= _size(entry)
        self._dirty.add(key)
        return entry

    def priors(self, keys: list[bytes], missing: Any) -> list[Any]:
        """For each key that waits or is leaving the value before its first update, else ``missing``.

        Raises:
            DeserializationError: The value serde refuses one.
        """
        entries = [self._entries.get(key) or self.leaving.get(key) for key in keys]
        values = iter(self.decode_many([entry[PRIOR] for entry in entries if entry is not None]))
        return [missing if entry is None else next(values) for entry in entries]

    # ---- commits and restarts ----------------------------------------------------------------------------

    def log(self, now_ms: int, rows_max: int | None = None) -> int:
        """Write what changed to the overlay and to the changelog, in the order of keys; returns how many are left.

        Args:
            now_ms: Wall-clock time: the timestamp of the changelog records, since theirs is in their value.
            rows_max: At most so many; None for all.
        """
        if not self._unlogged and self._dirty:
            self._unlogged = deque(sorted(self._dirty))
            self._dirty = set()
        count = len(self._unlogged) if rows_max is None else min(rows_max, len(self._unlogged))
        keys = [self._unlogged.popleft() for _ in range(count)]
        if not keys:
            return 0
        waiting = [entry for key in keys if (entry := self._entries.get(key)) is not None]
        encoded = iter(self._encoded(waiting))
        rows = [next(encoded) if key in self._entries else None for key in keys]
        self._table.rows.update(zip(keys, rows, strict=True))
        if self._changelog is not None:
            headers = [() if row is None else VERSION_HEADER for row in rows]
            self._changelog.append(keys, rows, [now_ms] * len(keys), headers)
        return len(self._unlogged) + len(self._dirty)

    def load(self) -> None:
        """Take all entries from the engine and the overlay: the store is complete, nothing waits to be logged.

        Nothing is left to do when `loading` has come to its end. Raises as that.
        """
        for _ in self.loading():
            pass

    def loading(self) -> Iterator[None]:
        """The same in steps; nothing may be put before the last.

        Raises:
            StateStoreError: A row is not one of a buffer.
            DeserializationError: The value serde refuses a value.
        """
        if self._loaded:
            return
        self._forget()
        rows = self._table.scan(None, None)
        while part := list(islice(rows, _STEP_ROWS)):
            self._load(part)
            yield
        self._loaded = True
        heapify(self._order)
        if self._order:
            self.min_time = self._order[0][0]

    def restore(self, keys: list[bytes], values: list[bytes | None], timestamps: list[int]) -> None:
        """Apply changelog records to the overlay; `load` takes them from there."""
        self._loaded = False
        self._table.rows.update(zip(keys, values, strict=True))

    # ---- inside ------------------------------------------------------------------------------------------

    def _open(self) -> None:
        super()._open()
        self._forget()

    def _forget(self) -> None:
        self._loaded = False
        self._entries = {}
        self._order = []
        self._dirty = set()
        self._unlogged = deque()
        self.min_time = END_OF_TIME
        self.size_bytes = 0

    def _load(self, stored: list[tuple[bytes, bytes]]) -> None:
        rows = [(key, self._decoded(key, row)) for key, row in stored]
        columns = [[getattr(row, part) for _, row in rows] for part in ("prior", "old", "new")]
        if not self.encoded:
            columns = [list(self._deserialized(column)) for column in columns]
        for (key, row), prior, old, new in zip(rows, *columns, strict=True):
            entry = self._entries[key] = [row.time, key, None, prior, old, new, row.origin]
            self._order.append((row.time, key))
            if self._measuring:
                self.size_bytes += _size(entry)

    def _encoded(self, entries: list[Entry]) -> Iterable[bytes]:
        columns = [[entry[part] for entry in entries] for part in (PRIOR, OLD, NEW)]
        if not self.encoded:
            columns = [self._serialized(column) for column in columns]
        for entry, prior, old, new in zip(entries, *columns, strict=True):
            yield encode(BufferedRow(entry[TIME], prior, old, new, entry[ORIGIN]))

    def _decoded(self, key: bytes, row: bytes) -> BufferedRow:
        try:
            return decode(row)
        except DeserializationError as error:
            msg = (
                f"store {self._name!r}: the row with key {key!r} is {error}; reset the application, or rename the store"
            )
            raise StateStoreError(msg) from error

    def _serialized(self, values: list[V | None]) -> list[bytes | None]:
        try:
            return self._serde.serialize_many(values)
        except Exception as error:
            msg = (
                f"store {self._name!r}: a value that waits is refused by its value serde {self._serde.name}: {error}; "
                "give the operation that makes the table the value_serde of its values"
            )
            raise SerdeError(msg) from error

    def _deserialized(self, values: list[bytes | None]) -> list[V | None]:
        try:
            return self._serde.deserialize_many(values)
        except Exception as error:
            msg = (
                f"store {self._name!r}: a value that waits is refused by its value serde {self._serde.name}: {error}; "
                "a table whose value type changed needs a new name for its suppression, or a reset of the application"
            )
            raise DeserializationError(msg) from error


def _size(entry: Entry) -> int:
    time, key, _, prior, old, new, origin = entry
    return size_bytes(key, BufferedRow(time, prior, old, new, origin))
