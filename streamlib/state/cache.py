"""The write cache: one store write, one changelog record and one update downstream per changed key and commit.

Entries are objects, not bytes, so an aggregation that hits the same key a thousand times serializes once. They are
changed in place: a record costs one look-up. Next: `stores`, which opens what lies below; the aggregations in
`operators`, which change entries in their own loops.
"""

from collections.abc import Iterable
from itertools import compress, repeat
from operator import itemgetter
from typing import Any, Generic, TypeVar

from streamlib.record import ChangeBatch, Headers
from streamlib.serdes.base import Serde, any_none
from streamlib.state.base import TimestampedStore
from streamlib.state.cache_memory import CacheMemory
from streamlib.state.key_value import KeyValueTimestampedStore
from streamlib.state.rows import MISSING

V = TypeVar("V")

VALUE, TIMESTAMP, NAME, HEADERS, TURN, STORE_KEY = range(6)

Entry = list[Any]
"""A row, changed in place.

``VALUE`` (None: there is no such row) and ``TIMESTAMP``; ``NAME``, the key object that `WriteCache.flush` gives, of any
update since the last flush; ``HEADERS`` of the last update; ``TURN``, the number of the last update; ``STORE_KEY``. It
is clean when its turn is not above `WriteCache.flushed_turn`.
"""

_ENTRY_OVERHEAD_BYTES = 350  # dict entry, list, ints, and the headers of the bytes and value objects
_SAMPLED_ENTRIES = 32
_ASSUMED_ENTRY_BYTES = 600

_NO_HEADERS: Iterable[Headers | None] = repeat(None)
_turn_of = itemgetter(TURN)


class WriteCache(Generic[V]):
    """Updates of one store since the last flush, over what the store has.

    ``get`` and ``put`` are the whole semantics. A hot loop may do the same inline for a batch: take the entry of each
    key from `entries_of`; for an update set its fields, add 1 to a copy of ``turn``, append the entry to ``dirty`` and
    set its ``NAME`` if its ``TURN`` is not above ``flushed_turn``, set that to the copy; and give the copy back to
    ``turn`` at the end. What need not be written should not be: objects of many keys lie far apart in memory.

    Values may be changed in place between reading and writing: after a flush an object is never handed out again,
    unless the value serde is immutable. After a user function has raised, `reload` its entry.

    Args:
        store: What lies below.
        serde: The store's value serde; tells whether values are immutable, and measures them.
        memory: A share of it is this cache's: when the dirty entries are estimated to take more, `is_full`.
        send_old: Whether `flush` gives the values before the update.

    Attributes:
        dirty: Entries updated since the last flush, each once, in the order of their first update.
        turn: Number of the last update.
        flushed_turn: Number of the last update that was flushed.
        flushed_turns: The numbers of the updates that the last flush gave.

    Source: Kafka's ``CachingKeyValueStore``, ``CachingWindowStore``, ``NamedCache``.
    """

    def __init__(
        self, store: TimestampedStore[V], serde: Serde[V], *, memory: CacheMemory, send_old: bool = False
    ) -> None:
        self.dirty: list[Entry] = []
        self.turn = 0
        self.flushed_turn = 0
        self.flushed_turns: list[int] = []
        self._sorted_turn = 0
        self._entries: dict[bytes, Entry] = {}
        self._stored: dict[bytes, V | None] = {}  # what the store has of dirty rows, as far as it is known
        keeps_all = isinstance(store, KeyValueTimestampedStore) and store.keeps_all
        self._knows_stored = send_old and serde.immutable and keeps_all
        self._store = store
        self._serde = serde
        self._send_old = send_old
        self._share = memory.share(_ASSUMED_ENTRY_BYTES)
        self._useful = self._knows_stored  # clean entries: somebody reads them

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def max_entries(self) -> int:
        """How many dirty entries fit, and how many clean ones beside them; their size is estimated at each flush."""
        return self._share.max_entries

    def get(self, key: bytes) -> tuple[V, int] | None:
        """Value and timestamp of a row: the dirty one, else the store's."""
        entry = self._entries.get(key)
        if entry is None or not (entry[TURN] > self.flushed_turn or self._serde.immutable):
            return self._store.get(key)
        return None if entry[VALUE] is None else (entry[VALUE], entry[TIMESTAMP])

    def is_dirty(self, key: bytes) -> bool:
        """Whether a row was updated since the last flush."""
        entry = self._entries.get(key)
        return entry is not None and entry[TURN] > self.flushed_turn

    def put(self, key: bytes, value: V | None, timestamp: int, key_object: Any, headers: Headers | None = None) -> None:
        """Update a row, or delete it (None); nothing below hears of it before the next flush.

        Args:
            key: The store key.
            value: The new value.
            timestamp: Of the new value; of the record that deletes.
            key_object: What `flush` gives as the key.
            headers: Of the record that updates.
        """
        self.put_many([key], [value], [timestamp], [key_object], None if headers is None else [headers])

    def put_many(
        self,
        keys: Iterable[bytes],
        values: Iterable[V | None],
        timestamps: Iterable[int],
        key_objects: Iterable[Any],
        headers: Iterable[Headers] | None = None,
    ) -> None:
        """Update rows in order, whatever is there: the store is not asked."""
        self._make_room()
        entries, dirty, turn, flushed_turn = self._entries, self.dirty, self.turn, self.flushed_turn
        known = self._stored if self._knows_stored else None
        rows: Iterable[tuple[bytes, V | None, int, Any, Headers | None]] = zip(
            keys, values, timestamps, key_objects, headers or _NO_HEADERS, strict=False
        )
        for key, value, timestamp, key_object, given in rows:
            turn += 1
            entry = entries.get(key)
            if entry is None:
                entries[key] = entry = [value, timestamp, key_object, given, turn, key]
                dirty.append(entry)
                continue
            if entry[TURN] <= flushed_turn:
                if known is not None:
                    known[key] = entry[VALUE]
                dirty.append(entry)
                entry[NAME] = key_object
            entry[VALUE] = value
            entry[TIMESTAMP] = timestamp
            if entry[HEADERS] is not given:
                entry[HEADERS] = given
            entry[TURN] = turn
        self.turn = turn

    def entries_of(self, keys: list[bytes]) -> list[Entry]:
        """The entry of each key; rows that are not cached are loaded by one read of the store."""
        self._useful = self._serde.immutable
        self._make_room()
        entries = self._entries
        found: list[Any] = list(map(entries.get, keys))
        if not all(found):
            missing = list({key for key, entry in zip(keys, found, strict=True) if entry is None})
            for key, row in zip(missing, self._store.get_many(missing), strict=True):
                value, timestamp = (None, 0) if row is None else row
                entries[key] = [value, timestamp, None, None, 0, key]
            found = [entries[key] if entry is None else entry for key, entry in zip(keys, found, strict=True)]
        return found

    def reload(self, entry: Entry) -> None:
        """Put right a clean entry whose value a failed function may have changed; a dirty one stays as it is."""
        if entry[TURN] <= self.flushed_turn:
            row = self._store.get(entry[STORE_KEY])
            entry[VALUE], entry[TIMESTAMP] = (None, 0) if row is None else row

    def is_full(self) -> bool:
        """Whether the dirty entries are estimated to take more than the share: then flush. Ask once per batch."""
        return len(self.dirty) > self.max_entries

    def flush(self, limit: int | None = None) -> ChangeBatch | None:
        """Write dirty entries to the store and its changelog; the changes to forward, None when there are none.

        Changes come in the order of the last update of their keys. A deletion of a row that the store does not have
        is neither written nor forwarded. The old values are those the store had, None for new rows.

        Args:
            limit: Flush the first so many entries only, so that an event loop can be let go in between; None for all.
        """
        part = self._take(limit)
        if not part:
            return None
        columns: list[list[Any]] = list(map(list, zip(*part, strict=True)))
        olds = self._olds(columns[STORE_KEY], columns[VALUE])
        if any_none(columns[VALUE]):
            keep = [value is not None or old is not None for value, old in zip(columns[VALUE], olds, strict=True)]
            if not any(keep):
                return None
            part, olds = list(compress(part, keep)), list(compress(olds, keep))
            columns = list(map(list, zip(*part, strict=True)))
        values, timestamps, names, headers, turns, keys = columns
        self._store.put_many(keys, values, timestamps)
        self._measure(part)
        changes = ChangeBatch(
            names,
            values,
            timestamps,
            headers=[each or () for each in headers] if any(headers) else None,
            olds=olds if self._send_old else None,
        )
        changes.store_keys = keys
        self.flushed_turns = turns
        return changes

    def discard(self) -> None:
        """Forget everything: for when the work since the last commit is dropped, together with the store's own."""
        self.dirty = []
        self._entries = {}
        self._stored.clear()

    def _take(self, limit: int | None) -> list[Entry]:
        """The entries to flush, clean from now on; immutable ones that are read stay: the store will have the same."""
        dirty = self.dirty
        if self._sorted_turn != self.turn:  # else the rest of a flush in parts is in order already
            dirty.sort(key=_turn_of)
            self._sorted_turn = self.turn
            self._share.ask(len(dirty), len(self._entries) - len(dirty))
            self._share.trimmed = False
        if limit is None or limit >= len(dirty):
            part, self.dirty = dirty, []
        else:
            part, self.dirty = dirty[:limit], dirty[limit:]
        if part:
            self.flushed_turn = part[-1][TURN]
        if not self._useful:
            forget = self._entries.pop
            for entry in part:
                forget(entry[STORE_KEY])
        return part

    def _olds(self, keys: list[bytes], values: list[V | None]) -> list[Any]:
        """The store's values of rows to be flushed; None for those that nobody needs to know."""
        if self._send_old:
            forget = self._stored.pop
            olds: list[Any] = [forget(key, MISSING) for key in keys]
            wanted = [row for row, old in enumerate(olds) if old is MISSING]
        else:
            olds = [None] * len(keys)
            wanted = [row for row, value in enumerate(values) if value is None] if any_none(values) else []
        if wanted:
            for row, found in zip(wanted, self._store.get_many([keys[row] for row in wanted]), strict=True):
                olds[row] = None if found is None else found[0]
        return olds

    def _make_room(self) -> None:
        """Forget clean entries when there are too many.

        The latest updates stay: what they lead to comes back soon, to be joined with them, say.
        """
        fit, clean = self.max_entries, len(self._entries) - len(self.dirty)
        if clean <= fit:
            return
        self._share.trimmed = True
        self._share.ask(len(self.dirty), clean)
        oldest = min(self.flushed_turn, max(0, self.turn - fit // 2))
        self._entries = {key: entry for key, entry in self._entries.items() if entry[TURN] > oldest}

    def _measure(self, flushed: list[Entry]) -> None:
        """Estimate the size of an entry from a few of them."""
        sample = flushed[:_SAMPLED_ENTRIES]
        size_bytes = 0
        for value, _, _, headers, _, key in sample:
            size_bytes += 2 * len(key) + _ENTRY_OVERHEAD_BYTES
            if value is not None:
                size_bytes += len(self._serde.serialize(value))
            if headers:
                size_bytes += sum(len(name) + len(content or b"") for name, content in headers)
        self._share.entry_bytes = size_bytes // len(sample)
