"""count, reduce and aggregate for each key and sliding window: windows begin and end where records are.

A record goes into all windows of its key that contain its timestamp, the latest first. Then windows are made where one
is missing: the one that begins right after the record before it, the one that ends at it, and the one that begins right
after it if there are later records. They take over what an existing window says of the records they share; that a
row's timestamp is that of the latest record in its window tells where those are. Records earlier than the time
difference share the window that starts at 0.

Records without key or value are dropped and counted. Those for which even the window that begins with them is closed
(``end < stream time - grace``) count as ``late``, and so does each closed window of a record that is not.

Source: KStreamSlidingWindowAggregate (KIP-450), with reverse iteration. Next: `emit`, for results that wait.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable
from functools import partial
from typing import Any

from streamlib.operators.base import OperatorContext
from streamlib.operators.emit import FinalEmitter
from streamlib.operators.fold import functions_of
from streamlib.operators.late import LateRecords
from streamlib.operators.materialized import Materialized
from streamlib.operators.selection import picked, with_keys, with_values
from streamlib.operators.table_rows import isolated
from streamlib.operators.window_time import WindowTime
from streamlib.record import ChangeBatch, RecordBatch
from streamlib.serdes.base import any_none
from streamlib.state.window import SUFFIX_BYTES, WindowTimestampedStore, window_store_key
from streamlib.topology.nodes import WindowAggregate
from streamlib.topology.windows import SlidingWindows

Row = tuple[Any, int]
"""An aggregate, and the timestamp of the latest record in it."""


class SlidingAggregateOperator:
    """One row for each key and sliding window.

    Args:
        node: What to do.
        windows: Its windows.
        table: Where the rows are.
        context: Errors and counters.
        emitter: Passes results on when they are final; None: the table does, with each update.
        late: Takes records for the windows they have missed; None: they are only counted.
    """

    def __init__(
        self,
        node: WindowAggregate,
        windows: SlidingWindows,
        table: Materialized,
        context: OperatorContext,
        emitter: FinalEmitter | None = None,
        late: LateRecords | None = None,
    ) -> None:
        self._name = node.name
        self._windows = windows
        self._table = table
        self._metrics = context.metrics
        self._errors = context.errors
        self._emitter = emitter
        self._late = late
        own_store_time = None if late is None else partial(store_time, table)
        self._time = WindowTime(node, context, emitter, own_store_time)
        self._nearby = Nearby(table, windows.difference_ms)
        functions = functions_of(node)
        self._initializer, self._step = functions.initializer, functions.step
        serde = table.rows.spec.value_serde
        self._isolate = None if serde.immutable else isolated(serde)

    def init(self) -> None:
        """Stream time begins anew; where late records go on, no earlier than the store's, which would drop them."""
        self._time.init()
        self._nearby.init()

    def process(self, batch: RecordBatch) -> None:
        """Update and make the windows of each record."""
        batch = with_values(with_keys(batch, self._name, self._metrics), self._name, self._metrics)
        if not len(batch):
            return
        if self._emitter is None:
            self._update(batch)
        else:
            self._emitter.feed(batch, self._update)
        self._time.seen()

    def flush(self, rows_max: int | None = None) -> int:
        """Write and forward cached updates; returns how many are left."""
        left = self._table.flush(rows_max)
        self._nearby.flushed(left)
        return left

    def _update(self, batch: RecordBatch) -> bool:
        """Update and make the windows of each record; false when the last one was early or late, or failed."""
        difference_ms, grace_ms = self._windows.difference_ms, self._windows.grace_ms
        plain: list[Any] = self._table.rows.spec.key_serde.serialize_many(batch.keys)
        windows = self._nearby.load(plain, batch.timestamps)
        updates = Updates(self._nearby.observed())
        taken = True
        for row, (raw, timestamp) in enumerate(zip(plain, batch.timestamps, strict=True)):
            self._time.stream_time = max(self._time.stream_time, timestamp)
            closed = self._time.stream_time - grace_ms
            taken = False
            if timestamp + difference_ms < closed:
                self._missed(row, timestamp, updates)
                continue
            record = Record(row, batch.keys[row], batch.values[row], timestamp, closed, raw, windows[raw])
            try:
                if timestamp < difference_ms:
                    self._early(record, updates)
                else:
                    self._usual(record, updates)
                    taken = True
            except _FunctionError as failure:
                offset = None if batch.offsets is None else batch.offsets[row]
                self._errors.failed(failure.error, self._name, record.key, record.value, timestamp, offset)
        if updates.late:
            self._metrics.dropped(self._name, "late", updates.late)
            if self._late is not None:
                self._late.send(batch)
        self._write(batch, updates)
        return taken

    def _usual(self, record: "Record", updates: "Updates") -> None:
        """A record not earlier than the time difference: each window that ends at or after it, then what is missing."""
        difference_ms, timestamp = self._windows.difference_ms, record.timestamp
        seen: set[int] = set()
        left: Row | None = None  # what the window that ends at the record takes over
        right: Row | None = None  # what the window that begins after the record takes over
        has_left = has_right = False
        before: int | None = None  # the time of the record before this one
        first = max(timestamp - 2 * difference_ms, self._nearby.live_from(updates.observed))
        for start in reversed(record.windows.between(first, timestamp + 1)):
            row = record.windows.rows[start]
            end, latest = start + difference_ms, row[1]
            seen.add(start)
            if start == timestamp + 1:
                has_right = True
            elif end > timestamp:
                right = right or row
                self._aggregate(record, start, row, updates)
            elif end == timestamp:
                has_left = True
                self._aggregate(record, start, row, updates)
                if latest >= timestamp:  # a record of the same time has made all windows
                    return
                before = latest
            else:
                left, before = row, latest
                break
        if before is not None and before + 1 not in seen and before + 1 + difference_ms >= timestamp:
            self._aggregate(record, before + 1, self._initial(record), updates)
        if not has_left:
            if left is not None and before is not None and timestamp - difference_ms <= before:
                start_with: Row | None = (left[0], timestamp)
            else:
                start_with = self._initial(record)
            self._aggregate(record, timestamp - difference_ms, start_with, updates)
        if not has_right and right is not None and right[1] > timestamp:
            updates.put(record, timestamp + 1, right[0], right[1], None)

    def _early(self, record: "Record", updates: "Updates") -> None:
        """A record earlier than the time difference: no window can end there, so those share the one from 0 on."""
        timestamp = record.timestamp
        seen: set[int] = set()
        shared: Row | None = None
        right: Row | None = None
        has_right = False
        before: int | None = None
        for start in record.windows.between(self._nearby.live_from(updates.observed), timestamp + 1):
            row = record.windows.rows[start]
            seen.add(start)
            if start == 0:
                shared = row
                before = row[1] if row[1] < timestamp else None
            elif start <= timestamp:
                right = row
                self._aggregate(record, start, row, updates)
            else:
                has_right = True
        if right is None and shared is not None and shared[1] > timestamp:
            right = shared
        if not has_right and right is not None and right[1] > timestamp:
            updates.put(record, timestamp + 1, right[0], right[1], None)
        if before is not None and before + 1 not in seen:
            self._aggregate(record, before + 1, self._initial(record), updates)
        self._aggregate(record, 0, self._initial(record) if shared is None else shared, updates)

    def _initial(self, record: "Record") -> Row | None:
        try:
            value = self._initializer()
        except Exception as error:
            raise _FunctionError(error) from error
        return None if value is None else (value, record.timestamp)

    def _aggregate(self, record: "Record", start: int, row: Row | None, updates: "Updates") -> None:
        """Put a record into a window that has ``row`` (None: nothing), unless the window is closed."""
        if start + self._windows.difference_ms < record.closed:
            self._missed(record.row, start, updates)
            return
        old, at = (None, record.timestamp) if row is None else (row[0], max(record.timestamp, row[1]))
        try:
            mine = old if self._isolate is None or old is None else self._isolate(old)
            new = self._step(record.key, record.value, mine)
        except Exception as error:
            raise _FunctionError(error) from error
        updates.put(record, start, new, at, old)

    def _missed(self, row: int, start: int, updates: "Updates") -> None:
        updates.late += 1
        if self._late is not None:
            self._late.add(row, start, start + self._windows.difference_ms, self._time.stream_time)

    def _write(self, batch: RecordBatch, updates: "Updates") -> None:
        """Updates to the store and on, or to the write cache."""
        if not updates.raws:
            return
        self._nearby.written(updates)
        rows = picked(batch, updates.origins, updates.values)
        logged_at = updates.timestamps
        if any_none(updates.values):  # a deletion is logged at the record's time
            logged_at = [
                own if value is None else at
                for value, own, at in zip(updates.values, rows.timestamps, updates.timestamps, strict=True)
            ]
        cache = self._table.rows.cache
        if cache is not None:
            cache.put_many(updates.raws, updates.values, logged_at, rows.keys, rows.headers)
            self._table.relieve(rows.offsets)
            return
        olds = updates.olds if self._table.send_old else None
        changes = ChangeBatch(rows.keys, rows.values, updates.timestamps, rows.offsets, rows.headers, olds)
        self._table.write(updates.raws, changes, logged_at)


class KeyWindows:
    """The windows of one key that the records of a batch may touch, as they are after the records so far.

    Attributes:
        rows: By window start.
    """

    __slots__ = ("_starts", "rows")

    def __init__(self, rows: dict[int, Row]) -> None:
        self.rows = rows
        self._starts = sorted(rows)

    def between(self, first: int, last: int) -> list[int]:
        """The starts within bounds, both inclusive, ascending."""
        return self._starts[bisect_left(self._starts, first) : bisect_right(self._starts, last)]

    def put(self, start: int, row: Row | None) -> None:
        """Set a window; None deletes it."""
        if row is not None:
            if start not in self.rows:
                insort(self._starts, start)
            self.rows[start] = row
        elif self.rows.pop(start, None) is not None:
            self._starts.remove(start)


class Record:
    """One record, with the time up to which windows are closed, and the windows of its key."""

    __slots__ = ("closed", "key", "raw", "row", "timestamp", "value", "windows")

    def __init__(
        self, row: int, key: Any, value: Any, timestamp: int, closed: int, raw: bytes, windows: KeyWindows
    ) -> None:
        self.row = row
        self.key = key
        self.value = value
        self.timestamp = timestamp
        self.closed = closed
        self.raw = raw
        self.windows = windows


class Updates:
    """What the records of a batch change, in order, as columns.

    Attributes:
        observed: The time of the store once it has the updates.
        late: How many windows were closed.
        raws: Store keys.
        origins: The record of each update.
        olds: What the update started from.
    """

    __slots__ = ("late", "observed", "olds", "origins", "raws", "timestamps", "values")

    def __init__(self, observed: int) -> None:
        self.observed = observed
        self.late = 0
        self.raws: list[bytes] = []
        self.origins: list[int] = []
        self.values: list[Any] = []
        self.timestamps: list[int] = []
        self.olds: list[Any] = []

    def put(self, record: Record, start: int, value: Any, timestamp: int, old: Any) -> None:
        """A window's new row; a value of None deletes it."""
        record.windows.put(start, None if value is None else (value, timestamp))
        self.observed = max(self.observed, start)
        self.raws.append(window_store_key(record.raw, start))
        self.origins.append(record.row)
        self.values.append(value)
        self.timestamps.append(timestamp)
        self.olds.append(old)


class Nearby:
    """Finds the windows around records, in the store and among the rows that its write cache holds.

    Args:
        table: The rows.
        difference_ms: Of the windows.
    """

    def __init__(self, table: Materialized, difference_ms: int) -> None:
        store, spec = table.rows.store, table.rows.spec
        assert isinstance(store, WindowTimestampedStore), f"{spec.name} is no window store"
        self._store = store
        self._cache = table.rows.cache
        self._difference_ms = difference_ms
        self._readable_ms = spec.retention_ms + spec.inclusive_retention
        self._cached = table.rows.cached_starts
        self._observed = -1

    def init(self) -> None:
        """Forget what is not in the store."""
        self._cached.clear()
        self._observed = -1

    def observed(self) -> int:
        """The store's time, with what the cache holds."""
        return max(self._observed, self._store.observed_stream_time)

    def live_from(self, observed: int) -> int:
        """The first start that the store would still give at that time."""
        return max(0, observed - self._readable_ms + 1)

    def load(self, raws: list[bytes], timestamps: Iterable[int]) -> dict[bytes, KeyWindows]:
        """The windows that records may touch, by serialized key."""
        bounds: dict[bytes, tuple[int, int]] = {}
        for raw, timestamp in zip(raws, timestamps, strict=True):
            first, last = bounds.get(raw, (timestamp, timestamp))
            bounds[raw] = min(first, timestamp), max(last, timestamp)
        return {raw: self._around(raw, first, last) for raw, (first, last) in bounds.items()}

    def written(self, updates: Updates) -> None:
        """Take note of updates that go to the store or the cache."""
        self._observed = max(self._observed, updates.observed)
        if self._cache is not None:
            for raw in updates.raws:
                starts = self._cached.setdefault(raw[:-SUFFIX_BYTES], [])
                start = int.from_bytes(raw[-12:-4])
                place = bisect_left(starts, start)
                if place == len(starts) or starts[place] != start:
                    starts.insert(place, start)

    def flushed(self, left: int) -> None:
        """Take note that the cache was flushed but for ``left`` rows."""
        if not left:
            self._cached.clear()

    def _around(self, raw: bytes, first: int, last: int) -> KeyWindows:
        first, last = max(0, first - 2 * self._difference_ms), last + 1
        rows = {start: (value, at) for start, value, at in self._store.fetch(raw, first, last)}
        cache = self._cache
        if cache is not None:
            starts = self._cached.get(raw, [])
            for start in starts[bisect_left(starts, first) : bisect_right(starts, last)]:
                key = window_store_key(raw, start)
                if cache.is_dirty(key):
                    row = cache.get(key)
                    if row is None:
                        rows.pop(start, None)
                    else:
                        rows[start] = row
        return KeyWindows(rows)


def store_time(table: Materialized) -> int:
    """The latest start of a window that a table's store has seen; -1 before the first."""
    store = table.rows.store
    assert isinstance(store, WindowTimestampedStore), f"{table.rows.spec.name} is no window store"
    return store.observed_stream_time


class _FunctionError(Exception):
    """A user function raised ``error``."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error
