"""Rows in segments of time, which are dropped whole once they expire: what windowed stores are made of.

A segment is an engine table named ``<store>/<interval>/<segment id>``: no store name holds a slash, and the interval
tells tables of an earlier configuration apart. Next: `window`, `session` and `join_window`, stores made of these.
"""

from collections.abc import Callable, Iterator
from itertools import chain, islice

from streamlib.state.base import Engine, TableWrites
from streamlib.state.rows import MISSING, Rows
from streamlib.state.table import RowCache, StateTable
from streamlib.state.time_index import TimeIndex, drop_index
from streamlib.state.timestamped import pack_timestamp, unpack_timestamp

MAX_TIME = 0x7FFFFFFF_FFFFFFFF
MIN_SEGMENT_INTERVAL_MS = 60_000

_NO_TIME = -1

# One row of the newest segment is no row of the store: it keeps the observed stream time, and a note of the store.
_TIME_KEY = b""
_TIME_BYTES = 8
_FIRST_STORE_KEY = b"\x00"
_MOVED_ROWS = 10_000


def segment_interval(retention_ms: int) -> int:
    """Length (ms) of the segments of a store. Source: Kafka's ``Stores.persistentWindowStore``."""
    return max(retention_ms // 2, MIN_SEGMENT_INTERVAL_MS)


class Segments:
    """Rows of bytes by store key, each in the segment of its time.

    Args:
        name: The store's name.
        engine: Where committed rows live.
        times: The times (ms) in store keys.
        retention_ms: Rows are readable while their time is later than observed stream time minus this.
        cache_bytes: Memory for clean rows.
        exact_expiry: Whether a row expires on its own, as in Java's stores in memory, and not with its segment.
        time_ordered: Whether `keys_by_time` is wanted; one that is not there yet is made, one not wanted is dropped.

    Time and order:
        The observed stream time is the highest time in any put or restored row; it survives a restart.

    Attributes:
        note: A few bytes that are kept together with the observed stream time; the store's own business.

    Source: Kafka's ``AbstractRocksDBSegmentedBytesStore`` and ``AbstractSegments``.
    """

    note: bytes
    _segments: dict[int, StateTable]  # live ones, by id
    _doomed: list[StateTable]  # expired since the last commit
    _dropping: list[StateTable]  # expired by the commit that is being applied
    _readable: dict[int, StateTable | None]  # by time
    _observed: int
    _sent: tuple[int, bytes]  # observed stream time and note in the rows of `pending`
    _stored: tuple[int, bytes]  # and in the engine
    _live_from: int
    _oldest_live: int  # id of the oldest segment that has not expired, -1 before any has
    _applied_time: int  # rows that are later have none in the engine

    def __init__(
        self,
        name: str,
        engine: Engine,
        times: Callable[[list[bytes]], list[int]],
        *,
        retention_ms: int,
        cache_bytes: int = 0,
        exact_expiry: bool = False,
        time_ordered: bool = False,
    ) -> None:
        self._name = name
        self._engine = engine
        self._times = times
        self._cache = RowCache(cache_bytes)
        self._retention_ms = retention_ms
        self._exact_expiry = exact_expiry
        self._interval = segment_interval(retention_ms)
        self._prefix = f"{name}/{self._interval}/"
        self._index = TimeIndex(engine, name, self._interval) if time_ordered else None
        self._open()

    @property
    def observed_stream_time(self) -> int:
        """The highest time seen, -1 before the first."""
        return self._observed

    @property
    def live_from(self) -> int:
        """Rows of earlier times are past the retention and cannot be read."""
        return self._live_from

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        """Rows, in the order of their store keys; None where one is past the retention."""
        rows: list[bytes | None] = []
        add = rows.append
        tables, applied_time = self._readable, self._applied_time
        deeper: dict[StateTable, list[int]] = {}
        for key, time in zip(keys, self._times(keys), strict=True):
            table = tables.get(time, MISSING)
            if table is MISSING:
                table = tables[time] = self._segments.get(time // self._interval) if time >= self._live_from else None
            if table is None:
                add(None)
                continue
            row = table.rows.get(key, MISSING)
            if row is not MISSING:
                add(row)
            elif time > applied_time:
                add(table.get_sent(key))
            else:
                deeper.setdefault(table, []).append(len(rows))
                add(None)
        for table, positions in deeper.items():
            found = table.get_many([keys[position] for position in positions])
            for position, row in zip(positions, found, strict=True):
                rows[position] = row
        return rows

    def put_many(self, keys: list[bytes], rows: list[bytes | None]) -> int:
        """Write rows to the overlays of their segments; None deletes. Returns how many had expired."""
        return self.put_at(keys, rows, self._times(keys))

    def put_at(self, keys: list[bytes], rows: list[bytes | None], times: list[int]) -> int:
        """The same for rows whose times are known."""
        if keys and self._put_together(keys, rows, times):
            return 0
        expired = 0
        first = beyond = 0
        overlay: Rows = {}
        observed, retention_ms, interval = self._observed, self._retention_ms, self._interval
        index = self._index
        for key, row, time in zip(keys, rows, times, strict=True):
            if time > observed:
                observed = time
            if time <= observed - retention_ms and (
                self._exact_expiry or time // interval < (observed - retention_ms) // interval
            ):
                expired += 1
                continue
            if not first <= time < beyond:
                first = time - time % interval
                beyond = first + interval
                overlay = self._segment_of(time).rows
            overlay[key] = row
            if index is not None:
                index.put(time, key, deleted=row is None)
        if observed > self._observed:
            self.advance(observed)
        return expired

    def _put_together(self, keys: list[bytes], rows: list[bytes | None], times: list[int]) -> bool:
        """Do the same if all go into one segment and none has expired."""
        oldest, newest = min(times), max(times)
        observed = max(self._observed, newest)
        segment_id = newest // self._interval
        if oldest <= observed - self._retention_ms or oldest // self._interval != segment_id or self._index is not None:
            return False
        self._segment_of(newest).rows.update(zip(keys, rows, strict=True))
        if observed > self._observed:
            self.advance(observed)
        return True

    def scan(
        self, time_from: int, time_to: int, start: bytes | None, end: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Rows of times in ``[time_from, time_to]`` with ``start <= store key < end``, as of this moment.

        Segments come in the order of time, the rows of each in the order of their store keys.
        """
        return self._scan(max(time_from, self._live_from), time_to, start, end, reverse)

    def scan_expired(self, time_from: int, time_to: int) -> Iterator[tuple[bytes, bytes]]:
        """Rows of times in ``[time_from, time_to]``, also those past the retention whose segments have not expired."""
        return self._scan(max(time_from, 0), time_to, None, None, False)

    def kept_from(self, stream_time: int) -> int:
        """From which time on no segment has expired, when observed stream time is this."""
        return (stream_time - self._retention_ms) // self._interval * self._interval

    def _scan(
        self, time_from: int, time_to: int, start: bytes | None, end: bytes | None, reverse: bool
    ) -> Iterator[tuple[bytes, bytes]]:
        start = max(start or _FIRST_STORE_KEY, _FIRST_STORE_KEY)
        tables = self._tables(time_from, time_to, reverse)
        rows = chain.from_iterable([table.scan(start, end, reverse=reverse) for table in tables])
        times = self._times
        return (row for row in rows if time_from <= times([row[0]])[0] <= time_to)

    def tables(self, time_from: int, time_to: int) -> list[tuple[StateTable, int, int]]:
        """The segments that may have readable rows of times in ``[time_from, time_to]``, in the order of time.

        With the time where each begins, and that where the next one would.
        """
        tables = self._tables(max(time_from, self._live_from), time_to, False)
        begins = [int(table.name.removeprefix(self._prefix)) * self._interval for table in tables]
        return [(table, begin, begin + self._interval) for table, begin in zip(tables, begins, strict=True)]

    def _tables(self, time_from: int, time_to: int, reverse: bool) -> list[StateTable]:
        if time_to < time_from:
            return []
        first, last = time_from // self._interval, time_to // self._interval
        return [self._segments[i] for i in sorted(self._segments, reverse=reverse) if first <= i <= last]

    def keys_by_time(self, time_from: int, time_to: int) -> Iterator[bytes]:
        """The store keys of readable rows of times in ``[time_from, time_to]``, by time, then by key."""
        assert self._index is not None, f"store {self._name!r} does not keep the order of time"
        time_from = max(time_from, self._live_from)
        return self._index.keys(time_from, time_to) if time_from <= time_to else iter(())

    def restore(self, keys: list[bytes], rows: list[bytes | None]) -> None:
        """Apply changelog records to the overlay."""
        if keys:
            times = self._times(keys)
            if (newest := max(times)) > self._observed:
                self.advance(newest)
            self.put_at(keys, rows, times)

    def advance(self, time: int) -> None:
        """Move observed stream time on: what it leaves behind cannot be read any more, and whole segments expire."""
        self._observed = time
        self._live_from = max(0, time - self._retention_ms + 1)
        if self._readable:
            self._readable.clear()
        oldest_live = (time - self._retention_ms) // self._interval
        if oldest_live == self._oldest_live:
            return
        self._oldest_live = oldest_live
        gone = [segment_id for segment_id in self._segments if segment_id < oldest_live]
        self._doomed += (self._segments.pop(segment_id) for segment_id in gone)
        if self._index is not None:
            self._index.expire(gone)

    def pending(self) -> TableWrites:
        """The rows for the atomic batch of this commit: call it right after the commit, before new work is done."""
        now = (self._observed, self.note)
        if self._observed > _NO_TIME and now != self._stored:
            self._segment_of(self._observed).rows[_TIME_KEY] = pack_timestamp(self._observed) + self.note
        self._sent = now
        self._dropping += (segment for segment in self._doomed if segment.exists)
        self._doomed = []
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
        self._stored = self._sent
        self._applied_time = max(self._applied_time, self._sent[0])

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
        self._observed = self._applied_time = _NO_TIME
        self._oldest_live = _NO_TIME
        self.note = b""
        self._live_from = 0
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
            self.advance(ids[-1] * self._interval if kept is None else unpack_timestamp(kept)[0])
            self.note = b"" if kept is None else kept[_TIME_BYTES:]
            # A crash between two chunks may have left rows that are newer than the time.
            self._applied_time = (ids[-1] + 1) * self._interval - 1
        self._sent = self._stored = (self._observed, self.note)

    def _move_segments_of_other_intervals(self) -> None:
        """Rows written under another retention go where they belong now; safe to be killed in the middle."""
        tables = [table for table in self._engine.tables() if table.startswith(self._name + "/")]
        foreign = [table for table in tables if not table.startswith(self._prefix)]
        if not foreign:
            return
        kept = [time for table in tables if (time := self._engine.get(table, _TIME_KEY)) is not None]
        if kept:
            self._write_moved([(_TIME_KEY, max(kept))], [unpack_timestamp(max(kept))[0]])
        for table in foreign:
            rows = self._engine.scan(table, _FIRST_STORE_KEY, None)
            while part := list(islice(rows, _MOVED_ROWS)):
                self._write_moved(part, self._times([key for key, _ in part]))
            self._engine.drop(table)

    def _write_moved(self, rows: list[tuple[bytes, bytes]], times: list[int]) -> None:
        writes: dict[str, Rows] = {}
        for (key, row), time in zip(rows, times, strict=True):
            writes.setdefault(f"{self._prefix}{time // self._interval}", {})[key] = row
        for name in writes:
            self._engine.create(name)
        self._engine.write(writes, {})

    def _segment_of(self, time: int) -> StateTable:
        segment_id = time // self._interval
        segment = self._segments.get(segment_id)
        if segment is None:
            segment = self._segments[segment_id] = self._segment(segment_id, exists=False)
            self._readable.clear()
        return segment

    def _segment(self, segment_id: int, *, exists: bool) -> StateTable:
        return StateTable(self._engine, self._prefix + str(segment_id), self._cache, exists=exists)
