"""Key-value stores whose rows expire: a row is deleted once stream time is later than its time by the time to live.

Stream time is that of the store, the highest timestamp of the rows put. Beside the rows is an index of their times in
spans of a 64th of the time to live: an entry for each key and span in which it was put, so a hot key costs no more than
65 entries. When stream time has passed the end of a span by the time to live, the keys of that span are looked at, and
those rows that were not put again since are deleted. So a row goes no earlier than its time to live is over, and no
later than with the first row put after another 64th of it; one put too late goes at once. Nothing else is ever scanned.

The index is not logged: it is made of the rows, again if need be. Next: `operators/expiring`, which tells others.
"""

from collections.abc import Iterator, Sequence
from typing import TypeVar

from streamlib.record import Headers
from streamlib.serdes.base import Serde
from streamlib.state.base import ChangelogWriter, Engine, TableWrites
from streamlib.state.key_value import KeyValueTimestampedStore
from streamlib.state.timestamped import pack_timestamp, unpack_timestamp

V = TypeVar("V")

SPANS = 64
Spans = dict[int, dict[bytes, None]]
"""Keys by number of span, each once."""

_TIME_KEY = b"\x00"  # before all entries
_SPAN_BYTES = 8
_FIRST_ENTRY = bytes(_SPAN_BYTES)
_NO_TIME = -1


class ExpiringKeyValueStore(KeyValueTimestampedStore[V]):
    """A key-value store with a time to live.

    Args:
        name: The store's name.
        value_serde: Of the values.
        engine: Where committed rows live.
        changelog: Where updates are logged; None for a store without logging.
        ttl_ms: How long a row lives.
        cache_bytes: Memory for clean rows.

    Attributes:
        asked: Whether rows are deleted by `expire` alone; if not, whenever rows are put.
        observed: Its stream time, -1 before the first row.
    """

    keeps_all = False

    _recent: Spans  # since the last `pending`
    _sent: Spans  # on their way to the engine
    _removed: list[bytes]  # entries that are to go from the engine
    _sent_removed: list[bytes]
    _first_span: int | None
    _indexed: bool  # whether the engine has the index
    _taken: bytes  # before this the engine has no entries but those that are to go

    def __init__(
        self,
        name: str,
        value_serde: Serde[V],
        engine: Engine,
        changelog: ChangelogWriter | None = None,
        *,
        ttl_ms: int,
        cache_bytes: int = 0,
    ) -> None:
        self.asked = False
        self.observed = _NO_TIME
        self._ttl_ms = ttl_ms
        self._span_ms = max(1, ttl_ms // SPANS)
        self._index_name = f"{name}/times-{self._span_ms}"
        self._stored_time = self._sent_time = _NO_TIME
        super().__init__(name, value_serde, engine, changelog, cache_bytes=cache_bytes)

    @property
    def due(self) -> int | None:
        """The stream time at which rows are to be looked at; None when there are none."""
        return None if self._first_span is None else self._due_of(self._first_span)

    def due_at(self, timestamp: int) -> int:
        """The stream time at which a row of that time is to be looked at."""
        return self._due_of(timestamp // self._span_ms)

    def put_serialized(
        self,
        keys: list[bytes],
        plain: list[bytes | None],
        timestamps: list[int],
        headers: Sequence[Headers] | None = None,
    ) -> None:
        """Write rows and log them, in order; None deletes."""
        super().put_serialized(keys, plain, timestamps, headers)
        if keys:
            self._note(keys, timestamps)
            if not self.asked:
                self.expire()

    def expire(self) -> list[tuple[bytes, bytes]]:
        """Delete and log rows whose time to live is over.

        Returns:
            Their store keys and serialized values, by span of time, then by key.
        """
        due = self.due
        if due is None or self.observed < due:
            return []
        beyond = (self.observed - self._ttl_ms) // self._span_ms
        entries = self._take_entries(beyond)
        keys = [entry[_SPAN_BYTES:] for entry in entries]
        gone: list[tuple[bytes, bytes]] = []
        for entry, key, row in zip(entries, keys, self._table.get_many(keys), strict=True):
            if row is not None and self._span(unpack_timestamp(row)[0]) == entry[:_SPAN_BYTES]:
                gone.append((key, row[8:]))
        self._find_first(beyond)
        if gone:
            super().put_serialized([key for key, _ in gone], [None] * len(gone), [self.observed] * len(gone))
        return gone

    def restore(self, keys: list[bytes], values: list[bytes | None], timestamps: list[int]) -> None:
        """Apply changelog records to the overlay, without logging them again."""
        super().restore(keys, values, timestamps)
        if keys:
            self._note(keys, timestamps)

    def pending(self) -> TableWrites:
        """The rows for the atomic batch of this commit, those of the index with them."""
        for span, keys in self._recent.items():
            self._sent.setdefault(span, {}).update(keys)
        self._sent_removed += self._removed
        self._recent, self._removed = {}, []
        entries: dict[bytes, bytes | None] = dict.fromkeys(self._sent_removed)
        for span, keys in self._sent.items():
            entries.update(dict.fromkeys(map(pack_timestamp(span).__add__, keys), b""))
        if self.observed > self._stored_time:
            entries[_TIME_KEY] = pack_timestamp(self.observed)
        self._sent_time = self.observed
        if not entries:
            return super().pending()
        if not self._indexed:
            self._engine.create(self._index_name)
        return {**super().pending(), self._index_name: entries}

    def applied(self) -> None:
        """The rows of `pending` are in the engine."""
        super().applied()
        self._indexed = self._indexed or self._sent_time > _NO_TIME
        self._sent, self._sent_removed = {}, []
        self._stored_time = self._sent_time

    @property
    def pending_rows(self) -> int:
        """How many rows the engine does not have yet."""
        entries = sum(map(len, self._recent.values())) + sum(map(len, self._sent.values()))
        return self._table.pending_rows + entries + len(self._removed)

    def _note(self, keys: list[bytes], timestamps: list[int]) -> None:
        """Add rows to the index; also deleted ones, which costs less than to leave them out."""
        self.observed = max(self.observed, max(timestamps))
        first = min(timestamps) // self._span_ms
        if self._first_span is None or first < self._first_span:
            self._first_span = first
            self._taken = min(self._taken, pack_timestamp(first))
        recent, span_ms = self._recent, self._span_ms
        for key, timestamp in zip(keys, timestamps, strict=True):
            span = timestamp // span_ms
            if span in recent:
                recent[span][key] = None
            else:
                recent[span] = {key: None}

    def _take_entries(self, beyond: int) -> list[bytes]:
        """Take the entries of all spans before ``beyond`` out of the index; in order, each once."""
        entries: set[bytes] = set()
        for spans in (self._recent, self._sent):
            for span in [span for span in spans if span < beyond]:
                entries.update(map(pack_timestamp(span).__add__, spans[span]))
        if self._indexed:
            stored = [entry for entry, _ in self._engine.scan(self._index_name, self._taken, pack_timestamp(beyond))]
            entries.update(stored)
            self._removed += stored
        for span in [span for span in self._sent if span < beyond]:
            self._removed += map(pack_timestamp(span).__add__, self._sent[span])
            del self._sent[span]
        for span in [span for span in self._recent if span < beyond]:
            del self._recent[span]
        self._taken = max(self._taken, pack_timestamp(beyond))
        return sorted(entries)

    def _span(self, timestamp: int) -> bytes:
        return pack_timestamp(timestamp // self._span_ms)

    def _due_of(self, span: int) -> int:
        return (span + 1) * self._span_ms + self._ttl_ms

    def _find_first(self, beyond: int) -> None:
        """Which span is the first one left; none before ``beyond`` is."""
        firsts = [*self._recent, *self._sent]
        if self._indexed:
            entry = next(self._engine.scan(self._index_name, pack_timestamp(beyond), None), None)
            firsts += [] if entry is None else [unpack_timestamp(entry[0])[0]]
        self._first_span = min(firsts, default=None)

    def _open(self) -> None:
        """Take the state of the engine; an index of other spans, or none, is made anew."""
        super()._open()
        tables = self._engine.tables()
        for table in tables:
            if table.startswith(f"{self._name}/times-") and table != self._index_name:
                self._engine.drop(table)
        self._indexed = self._index_name in tables
        self._recent, self._sent = {}, {}
        self._removed, self._sent_removed = [], []
        self._taken = _FIRST_ENTRY
        self._stored_time = self._sent_time = self.observed = _NO_TIME
        self._first_span = None
        kept = self._engine.get(self._index_name, _TIME_KEY) if self._indexed else None
        if kept is not None:
            self.observed = self._stored_time = unpack_timestamp(kept)[0]
            self._find_first(0)
        else:
            for key, timestamp in self._times():
                self._note([key], [timestamp])

    def _times(self) -> Iterator[tuple[bytes, int]]:
        return ((key, unpack_timestamp(row)[0]) for key, row in self._table.scan(None, None))
