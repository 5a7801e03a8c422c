"""Results that wait until their window is closed: read from the store once stream time has passed, and passed on once.

Windows close in the order of time, so one number tells what was passed on: up to which time windows were closed then.
It is kept with the committed offsets. After each record, but not more often than ``emit_interval_ms`` on the wall
clock, the windows that have closed since are read from the store, by time and then by key.

That throttle never makes it too late: before a record comes with which closed windows could become unreadable, they are
passed on at once. What is lost is what Java loses too: with one record stream time passes the whole retention of a
store without write cache, and windows that were open before are unreadable as soon as they are closed.

Source: AbstractKStreamTimeWindowAggregateProcessor, KStreamSessionWindowAggregate (KIP-825).
Next: `window_aggregate` and `sliding_aggregate`, which feed it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from streamlib.operators.base import Forward, OperatorContext
from streamlib.operators.materialized import Materialized
from streamlib.operators.selection import picked
from streamlib.operators.table_rows import TableRows
from streamlib.record import ChangeBatch, RecordBatch
from streamlib.state.cache import STORE_KEY, TIMESTAMP, VALUE
from streamlib.state.time_index import time_first
from streamlib.state.timestamped import pack_timestamp
from streamlib.state.window import WindowTimestampedStore
from streamlib.topology.windows import FixedWindows, SlidingWindows

ROWS_AT_ONCE = 10_000
NEVER = -1

Bounds = tuple[int, int]
"""What to read from the store: from and to, both inclusive; starts of windows, or ends of sessions."""

Found = Iterable[tuple[bytes, Any, int]]
"""Store key, value and timestamp of windows, by time, then by key."""

Update = Callable[[RecordBatch], bool]
"""Takes records into the store; false when Java looks for closed windows only after the next one: a user function
raised on the last one, say."""


@dataclass(frozen=True)
class Closing:
    """How windows of one kind close.

    Attributes:
        delay_ms: Windows are closed up to stream time minus this: the grace, for sessions the gap as well.
        between: Where the windows are that closed between two such times, the first one `NEVER` at the beginning; None
            when there cannot be any.
        readable_from: From where on the store can be read when stream time is this.
    """

    delay_ms: int
    between: Callable[[int, int], Bounds | None]
    readable_from: Callable[[int], int]


@dataclass(frozen=True)
class Results:
    """Where the results are, and what becomes of them.

    Attributes:
        store: Name of the store; the time is kept under it.
        fetch: Gives the windows within bounds.
        keys: Makes the keys that go down the plan from store keys.
        send_old: Whether updates carry old values, which are all None.
    """

    store: str
    fetch: Callable[[int, int], Found]
    keys: Callable[[list[bytes]], list[Any]]
    send_old: bool


class FinalEmitter:
    """Feeds an operator, and passes on the results of the windows that close meanwhile.

    Args:
        closing: When windows close.
        results: Where they are.
        context: Clock, throttle, and where the time is kept.
        forward: Takes the results.
    """

    def __init__(self, closing: Closing, results: Results, context: OperatorContext, forward: Forward) -> None:
        self._closing = closing
        self._results = results
        self._context = context
        self._forward = forward
        self._interval_ms = context.emit_interval_ms
        self.init()

    def init(self) -> None:
        """Go on after what was passed on before the last commit; stream time begins anew."""
        self._closed = self._context.processor_metadata.get(self._results.store, NEVER)
        self._next_ms = 0
        self._stream_time = -1

    def resume(self, stream_time: int) -> None:
        """Stream time begins no earlier than this."""
        self._stream_time = max(self._stream_time, stream_time)

    def advance(self, stream_time: int) -> bool:
        """Stream time has moved on without records; whether windows have closed, whose results are passed on."""
        self.resume(stream_time)
        closes = self._due(self._stream_time) is not None
        self._emit(RecordBatch([], [], []), 0)
        return closes

    def feed(self, batch: RecordBatch, update: Update) -> None:
        """Take records into the store, and pass results on after those that close windows, with their headers."""
        begin, count = 0, len(batch)
        while begin < count:
            end, emit = self._run(batch.timestamps, begin)
            taken = True
            if end > begin:
                part = batch if end - begin == count else picked(batch, list(range(begin, end)))
                taken = update(part)
                self._stream_time = max(self._stream_time, max(part.timestamps))
            if emit and (taken or self._interval_ms > 0):
                self._emit(batch, max(end - 1, 0))
            begin = end

    def before_flush(self) -> None:
        """Pass on what the throttle has held back: the store may not keep it once newer windows are flushed."""
        if self._interval_ms > 0:
            self._emit(RecordBatch([], [], []), 0)

    def _run(self, timestamps: list[int], begin: int) -> tuple[int, bool]:
        """Up to where to take records, exclusive (maybe none), and whether to pass results on then."""
        count, stream_time = len(timestamps), self._stream_time
        newest = max(stream_time, max(timestamps[begin:]))
        bounds = self._due(newest)
        if bounds is None:
            return count, False
        if self._interval_ms <= 0:
            for row in range(begin, count):
                stream_time = max(stream_time, timestamps[row])
                if self._due(stream_time) is not None:
                    return row + 1, True
        readable_from = self._closing.readable_from
        if readable_from(newest) > bounds[0]:
            for row in range(begin, count):
                timestamp = timestamps[row]
                if timestamp > stream_time:
                    if readable_from(timestamp) > bounds[0] and self._due(stream_time) is not None:
                        return row, True
                    stream_time = timestamp
        now_ms = self._context.clock.time_ms()
        if now_ms < self._next_ms:
            return count, False
        self._next_ms = now_ms + self._interval_ms
        return count, True

    def _emit(self, batch: RecordBatch, row: int) -> None:
        """Pass on the windows that are closed by now, with the headers and the offset of a row of ``batch``."""
        bounds = self._due(self._stream_time)
        if bounds is None:
            return
        headers = batch.headers[row] if batch.headers else None
        offset = batch.offsets[row] if batch.offsets else None
        found = iter(self._results.fetch(*bounds))
        while part := list(islice(found, ROWS_AT_ONCE)):
            raws, values, timestamps = (list(column) for column in zip(*part, strict=True))
            changes = ChangeBatch(
                self._results.keys(raws),
                values,
                timestamps,
                None if offset is None else [offset] * len(part),
                [headers] * len(part) if headers else None,
                [None] * len(part) if self._results.send_old else None,
            )
            changes.store_keys = raws
            self._forward(changes)
        self._closed = self._stream_time - self._closing.delay_ms
        self._context.processor_metadata[self._results.store] = self._closed

    def _due(self, stream_time: int) -> Bounds | None:
        """Where the windows are that have closed since results were last passed on; None when there cannot be any."""
        closed = stream_time - self._closing.delay_ms
        if self._closed != NEVER and closed <= self._closed:
            return None
        return self._closing.between(self._closed, closed)


def closing_of(windows: FixedWindows, retention_ms: int) -> Closing:
    """How tumbling, hopping and sliding windows close, in a store with that retention."""
    size_ms = windows.size_ms

    def readable_from(stream_time: int) -> int:
        return stream_time + 1 - retention_ms

    def sliding(before: int, now: int) -> Bounds | None:
        last = now - size_ms - 1  # the end of a window is its own last millisecond
        if last < 0:
            return None
        return 0 if before == NEVER else max(0, before - size_ms), last

    if isinstance(windows, SlidingWindows):
        return Closing(windows.grace_ms, sliding, readable_from)
    starts = windows.starts

    def between(before: int, now: int) -> Bounds | None:
        last = now - size_ms
        if last < 0:
            return None
        if before == NEVER:
            return 0, last
        seen = max(0, before - size_ms)
        return None if starts(seen) == starts(last) else (seen + 1, last)

    return Closing(windows.grace_ms, between, readable_from)


def held_back(rows: TableRows) -> Materialized:
    """A table whose updates go to the store and its changelog alone."""
    return Materialized(rows, lambda _: None, send_old=False)


def windows_of(rows: TableRows) -> Callable[[int, int], Found]:
    """How to read the windows of a time-ordered window store, as they are now: rows of its write cache go before.

    The store's time moves only when the cache is flushed, so with a cache windows stay readable until they are closed.
    """
    store, cache = rows.store, rows.cache
    assert isinstance(store, WindowTimestampedStore), f"{rows.spec.name} is no window store"

    def fetch(time_from: int, time_to: int) -> Found:
        stored: Found = store.fetch_all(time_from, time_to)
        if cache is None or not cache.dirty:
            return stored
        first, last = pack_timestamp(time_from), pack_timestamp(time_to)
        recent = {
            entry[STORE_KEY]: (entry[VALUE], entry[TIMESTAMP])
            for entry in cache.dirty
            if first <= entry[STORE_KEY][-12:-4] <= last
        }
        if not recent:
            return stored
        found = {raw: (value, timestamp) for raw, value, timestamp in stored} | recent
        return [(raw, *found[raw]) for raw in sorted(found, key=time_first) if found[raw][0] is not None]

    return fetch
