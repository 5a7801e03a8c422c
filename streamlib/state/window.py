"""Window stores: a value for each key and window start, in segments that are dropped whole once they expire.

A store key is ``key | window start int64 | sequence int32``. A segment is an engine table named
``<store>/<interval>/<segment id>``: no store name holds a slash, and the interval tells tables of an earlier
configuration apart. Next: `cache`, which saves most of the calls to a store; `stores`, which opens them.
"""

from collections.abc import Iterator
from itertools import chain, islice
from struct import Struct
from typing import Generic, TypeVar

from streamlib.serdes.base import Serde
from streamlib.state.base import ChangelogWriter, Engine, TableWrites
from streamlib.state.sorted_keys import Rows
from streamlib.state.table import MISSING, RowCache, StateTable
from streamlib.state.time_index import TimeIndex, drop_index
from streamlib.state.timestamped import TimestampedRows, pack_timestamp, timestamped, unpack_timestamp

V = TypeVar("V")

SUFFIX_BYTES = 12
MIN_SEGMENT_INTERVAL_MS = 60_000

_SUFFIX = Struct(">qi")
_SEQUENCE_BYTES = 4
_NO_TIME = -1
_MAX_SEQUENCE = 0x7FFFFFFF
_MAX_TIME = 0x7FFFFFFF_FFFFFFFF

# One row of the newest segment is no window: it keeps the observed stream time, in the same batch as the rows.
_TIME_KEY = b""
_FIRST_STORE_KEY = b"\x00"
_MOVED_ROWS = 10_000
_FETCHED_ROWS = 1_000


def window_store_key(key: bytes, start: int, sequence: int = 0) -> bytes:
    """The store key of a window: what engine and changelog use. Source: Kafka's ``WindowKeySchema``."""
    return key + _SUFFIX.pack(start, sequence)


def split_window_store_key(store_key: bytes) -> tuple[bytes, int]:
    """The plain key and the window start (ms) of a store key."""
    return store_key[:-SUFFIX_BYTES], _SUFFIX.unpack_from(store_key, len(store_key) - SUFFIX_BYTES)[0]


def window_starts(store_keys: list[bytes]) -> list[int]:
    """The window starts (ms) of store keys."""
    return [int.from_bytes(key[-SUFFIX_BYTES:-_SEQUENCE_BYTES]) for key in store_keys]


def segment_interval(retention_ms: int) -> int:
    """Length (ms) of the segments of a store. Source: Kafka's ``Stores.persistentWindowStore``."""
    return max(retention_ms // 2, MIN_SEGMENT_INTERVAL_MS)


class WindowTimestampedStore(Generic[V]):
    """A `TimestampedStore` by window store key.

    Args:
        name: The store's name.
        value_serde: Of the values.
        engine: Where committed rows live.
        changelog: Where updates are logged; None for a store without logging.
        retention_ms: Rows are readable while their window start is later than observed stream time minus this.
        cache_bytes: Memory for clean rows.
        time_ordered: Whether `fetch_all` has to be cheap, and gives rows in the order of time, then of keys.

    Time and order:
        The observed stream time is the highest window start in any put or restored row; it survives a restart. A row
        whose segment has expired is ignored and counted, but logged, as in the Java library.

    Attributes:
        expired: How many rows were put too late to be kept.

    Source: Kafka's ``AbstractRocksDBSegmentedBytesStore`` and ``AbstractSegments``.
    """

    _segments: dict[int, StateTable]  # live ones, by id
    _doomed: list[StateTable]  # expired since the last commit
    _dropping: list[StateTable]  # expired by the commit that is being applied
    _readable: dict[bytes, StateTable | None]  # by window start, as it stands in keys
    _writable: dict[bytes, Rows]
    _observed: int
    _sent_time: int  # observed stream time in the rows of `pending`, and in the engine
    _stored_time: int
    _live_from: int
    _applied_time: bytes  # windows that start later have no rows in the engine; b"" is before all of them

    def __init__(
        self,
        name: str,
        value_serde: Serde[V],
        engine: Engine,
        changelog: ChangelogWriter | None = None,
        *,
        retention_ms: int,
        cache_bytes: int = 0,
        time_ordered: bool = False,
    ) -> None:
        self._name = name
        self._engine = engine
        self._changelog = changelog
        self._format = TimestampedRows(name, value_serde)
        self._cache = RowCache(cache_bytes)
        self._retention_ms = retention_ms
        self._interval = segment_interval(retention_ms)
        self._prefix = f"{name}/{self._interval}/"
        self._index = TimeIndex(engine, name, self._interval) if time_ordered else None
        self.expired = 0
        self._open()

    @property
    def name(self) -> str:
        """The store's name."""
        return self._name

    @property
    def observed_stream_time(self) -> int:
        """The highest window start seen, -1 before the first."""
        return self._observed

    def get(self, key: bytes) -> tuple[V, int] | None:
        """Value and timestamp (ms) of a row; None when its window is past the retention."""
        return self.get_many([key])[0]

    def get_many(self, keys: list[bytes]) -> list[tuple[V, int] | None]:
        """Rows, in the order of ``keys``; None where a window is past the retention. Raises as for key-value stores."""
        rows: list[bytes | None] = []
        add = rows.append
        tables, applied_time = self._readable, self._applied_time
        deeper: dict[StateTable, list[int]] = {}
        for key in keys:
            start = key[-12:-4]
            table = tables.get(start, MISSING)
            if table is MISSING:
                table = self._table_to_read(start)
            if table is None:
                add(None)
                continue
            row = table.rows.get(key, MISSING)
            if row is not MISSING:
                add(row)
            elif start > applied_time:
                add(table.get_sent(key))
            else:
                deeper.setdefault(table, []).append(len(rows))
                add(None)
        for table, positions in deeper.items():
            found = table.get_many([keys[position] for position in positions])
            for position, row in zip(positions, found, strict=True):
                rows[position] = row
        return self._format.decode_many(keys, rows)

    def put_many(self, keys: list[bytes], values: list[V | None], timestamps: list[int]) -> None:
        """Write rows to the overlay and log them, in order; None deletes. Raises as for key-value stores."""
        plain = self._format.encode_many(keys, values)
        self.expired += self._put(keys, timestamped(plain, timestamps))
        if self._changelog is not None:
            self._changelog.append(keys, plain, timestamps)

    def scan(
        self, start: bytes | None = None, end: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, V, int]]:
        """Rows with ``start <= store key < end`` as (store key, value, timestamp), as of this moment.

        Segments come in the order of time, the rows of each in the order of their store keys.
        """
        return self._format.decoded(self._scan(0, _MAX_TIME, start, end, reverse))

    def fetch(self, key: bytes, time_from: int, time_to: int, *, reverse: bool = False) -> Iterator[tuple[int, V, int]]:
        """The windows of one key as (window start, value, timestamp), in the order of time, as of this moment.

        Args:
            key: The serialized plain key.
            time_from: Earliest window start in ms, inclusive.
            time_to: Latest window start in ms, inclusive.
            reverse: Latest window first.
        """
        time_from, time_to = max(time_from, self._live_from), min(time_to, _MAX_TIME)
        if time_to < time_from:
            return iter(())
        first = window_store_key(key, time_from)
        beyond = window_store_key(key, time_to, _MAX_SEQUENCE) + b"\x00"
        rows = self._scan(time_from, time_to, first, beyond, reverse)
        own = (row for row in rows if row[0][:-SUFFIX_BYTES] == key)  # longer keys may lie in between
        return (
            (split_window_store_key(store_key)[1], value, timestamp)
            for store_key, value, timestamp in self._format.decoded(own)
        )

    def fetch_all(self, time_from: int, time_to: int, *, reverse: bool = False) -> Iterator[tuple[bytes, V, int]]:
        """All windows that start in ``[time_from, time_to]`` (ms) as (store key, value, timestamp).

        Those of a time-ordered store come by time, then by key; others in the order of `scan`.
        """
        if self._index is None:
            return self._format.decoded(self._scan(time_from, time_to, None, None, reverse))
        assert not reverse, f"store {self._name!r} gives the windows of all keys in the order of time only"
        return self._by_time(max(time_from, self._live_from), min(time_to, _MAX_TIME))

    def restore(self, keys: list[bytes], values: list[bytes | None], timestamps: list[int]) -> None:
        """Apply changelog records to the overlay, without logging or counting them."""
        if keys:
            newest = max(split_window_store_key(key)[1] for key in keys)
            if newest > self._observed:
                self._advance(newest)
            self._put(keys, timestamped(values, timestamps))

    def pending(self) -> TableWrites:
        """The rows for the atomic batch of this commit: call it right after the commit, before new work is done."""
        if self._observed > self._stored_time:
            newest = self._segments[self._observed // self._interval]
            newest.rows[_TIME_KEY] = pack_timestamp(self._observed)
        self._sent_time = self._observed
        self._dropping += (segment for segment in self._doomed if segment.exists)
        self._doomed = []
        self._writable.clear()
        writes = {segment.name: rows for segment in self._segments.values() if (rows := segment.pending())}
        return writes if self._index is None else writes | self._index.pending()

    def applied(self) -> None:
        """The rows of `pending` are in the engine: expired segments are dropped there."""
        for segment in self._segments.values():
            segment.applied()
        for segment in self._dropping:
            self._engine.drop(segment.name)
        self._dropping = []
        if self._index is not None:
            self._index.applied()
        self._readable.clear()
        if self._sent_time > self._stored_time:
            self._stored_time = self._sent_time
            self._applied_time = max(self._applied_time, pack_timestamp(self._sent_time))

    def discard(self) -> None:
        """Forget everything the engine does not have, the stream time included, and the cache."""
        self._cache.clear()
        self._open()

    @property
    def pending_rows(self) -> int:
        """How many rows the engine does not have yet."""
        return sum(segment.pending_rows for segment in self._segments.values())

    def _open(self) -> None:
        """Take the state of the engine."""
        self._segments = {}
        self._doomed = []
        self._dropping = []
        self._readable = {}
        self._writable = {}
        self._observed = self._sent_time = self._stored_time = _NO_TIME
        self._live_from = 0
        self._applied_time = b""
        self._move_segments_of_other_intervals()
        ids = sorted(
            int(table.removeprefix(self._prefix)) for table in self._engine.tables() if table.startswith(self._prefix)
        )
        while ids and next(self._engine.scan(self._prefix + str(ids[-1]), None, None), None) is None:
            self._engine.drop(self._prefix + str(ids.pop()))  # made for a commit that was not applied
        for segment_id in ids:
            self._segments[segment_id] = self._segment(segment_id, exists=True)
        if self._index is None:
            drop_index(self._engine, self._name)
        else:
            self._index.open(self._segments.values())
        if ids:
            kept = self._engine.get(self._prefix + str(ids[-1]), _TIME_KEY)
            observed = ids[-1] * self._interval if kept is None else unpack_timestamp(kept)[0]
            self._advance(observed)
            self._stored_time = self._sent_time = observed
            # A crash between two chunks may have left rows that are newer than the time.
            self._applied_time = pack_timestamp((ids[-1] + 1) * self._interval - 1)

    def _move_segments_of_other_intervals(self) -> None:
        """Rows written under another retention go where they belong now; safe to be killed in the middle."""
        tables = [table for table in self._engine.tables() if table.startswith(self._name + "/")]
        foreign = [table for table in tables if not table.startswith(self._prefix)]
        if not foreign:
            return
        times = [time for table in tables if (time := self._engine.get(table, _TIME_KEY)) is not None]
        if times:
            self._write_moved([(_TIME_KEY, max(times))], max(times))
        for table in foreign:
            rows = self._engine.scan(table, _FIRST_STORE_KEY, None)
            while part := list(islice(rows, _MOVED_ROWS)):
                self._write_moved(part)
            self._engine.drop(table)

    def _write_moved(self, rows: list[tuple[bytes, bytes]], start: bytes | None = None) -> None:
        writes: dict[str, Rows] = {}
        for key, row in rows:
            segment_id = unpack_timestamp(start or key[-12:-4])[0] // self._interval
            writes.setdefault(self._prefix + str(segment_id), {})[key] = row
        for name in writes:
            self._engine.create(name)
        self._engine.write(writes, {})

    def _segment(self, segment_id: int, *, exists: bool) -> StateTable:
        return StateTable(self._engine, self._prefix + str(segment_id), self._cache, exists=exists)

    def _put(self, keys: list[bytes], rows: list[bytes | None]) -> int:
        """Write rows to the overlays of their segments; gives how many had expired."""
        expired = 0
        writable, index = self._writable, self._index
        for key, row in zip(keys, rows, strict=True):
            start = key[-12:-4]
            overlay = writable.get(start)
            if overlay is None:
                overlay = self._overlay_to_write(start)
                if overlay is None:
                    expired += 1
                    continue
            overlay[key] = row
            if index is not None:
                index.put(start, key, deleted=row is None)
        return expired

    def _overlay_to_write(self, start: bytes) -> Rows | None:
        """The overlay for a window start that was not written since the last commit; None when it is expired."""
        time = unpack_timestamp(start)[0]
        if time > self._observed:
            self._advance(time)
        segment_id = time // self._interval
        if segment_id < (self._observed - self._retention_ms) // self._interval:
            return None
        segment = self._segments.get(segment_id)
        if segment is None:
            segment = self._segments[segment_id] = self._segment(segment_id, exists=False)
            self._readable.clear()
        self._writable[start] = segment.rows
        return segment.rows

    def _table_to_read(self, start: bytes) -> StateTable | None:
        """The segment for a window start that was not read since stream time last advanced; None when unreadable."""
        time = unpack_timestamp(start)[0]
        table = self._segments.get(time // self._interval) if time >= self._live_from else None
        self._readable[start] = table
        return table

    def _advance(self, time: int) -> None:
        """Move observed stream time: what it leaves behind cannot be read any more, and whole segments expire."""
        self._observed = time
        self._live_from = max(0, time - self._retention_ms + 1)
        self._readable.clear()
        oldest_live = (time - self._retention_ms) // self._interval
        gone = [segment_id for segment_id in self._segments if segment_id < oldest_live]
        if gone:
            self._writable.clear()
            self._doomed += (self._segments.pop(segment_id) for segment_id in gone)
            if self._index is not None:
                self._index.expire(gone)

    def _by_time(self, time_from: int, time_to: int) -> Iterator[tuple[bytes, V, int]]:
        """The rows of `fetch_all`, read as the caller goes on."""
        assert self._index is not None
        keys = self._index.keys(time_from, time_to) if time_from <= time_to else iter(())
        while part := list(islice(keys, _FETCHED_ROWS)):
            for key, row in zip(part, self.get_many(part), strict=True):
                if row is not None:
                    yield key, row[0], row[1]

    def _scan(
        self, time_from: int, time_to: int, start: bytes | None, end: bytes | None, reverse: bool
    ) -> Iterator[tuple[bytes, bytes]]:
        time_from, time_to = max(time_from, self._live_from), min(time_to, _MAX_TIME)
        if time_to < time_from:
            return iter(())
        ids = range(time_from // self._interval, time_to // self._interval + 1)
        segments = [self._segments[i] for i in sorted(self._segments, reverse=reverse) if i in ids]
        start = max(start or _FIRST_STORE_KEY, _FIRST_STORE_KEY)
        rows = chain.from_iterable([segment.scan(start, end, reverse=reverse) for segment in segments])
        first, last = pack_timestamp(time_from), pack_timestamp(time_to)
        return (row for row in rows if first <= row[0][-12:-4] <= last)
