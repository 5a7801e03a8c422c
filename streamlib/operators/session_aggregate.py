"""count, reduce and aggregate for each key and session.

A record merges the sessions of its key that lie within the gap: they are removed, with a deletion passed on for each,
and the one that takes their place goes from the first to the last of all their records. Its aggregate is made by the
merger, in the order of time, beginning with what the initializer gives; then the record is added. Results have the end
of their session as timestamp, and no headers unless a cache is between.

Each operator keeps its own stream time, the largest timestamp it has seen since it started. A record is ``late``, and
dropped, when the session it would make or extend is closed: ``end < stream time - grace - gap``. Records without key
are dropped and counted; without value they are not.

Source: KStreamSessionWindowAggregate. Next: `session_updates`, without a cache; `state/session_cache`, with one.
"""

from collections.abc import Callable
from enum import Enum, auto
from itertools import repeat
from typing import Any

from streamlib.operators.base import Forward, OperatorContext
from streamlib.operators.cached_origins import forward_from, wants_origins
from streamlib.operators.emit import Bounds, Closing, FinalEmitter, Results
from streamlib.operators.fold import functions_of
from streamlib.operators.late import LateRecords, late_records
from streamlib.operators.selection import with_keys
from streamlib.operators.session_rows import SessionRows
from streamlib.operators.session_updates import SessionUpdates
from streamlib.operators.window_time import WindowTime
from streamlib.operators.wiring import Wiring
from streamlib.record import RecordBatch, Windowed
from streamlib.state.session_cache import Session, SessionCache
from streamlib.state.session_keys import split_session_store_key
from streamlib.topology.session_nodes import SessionAggregate
from streamlib.topology.windows import EmitStrategy


class _Outcome(Enum):
    """What became of a record."""

    TAKEN = auto()
    LATE = auto()
    FAILED = auto()


class SessionAggregateOperator:
    """One row for each key and session.

    Args:
        node: What to do.
        rows: Where the sessions are.
        context: Errors and counters.
        forward: Where updates go.
        late: Takes records for the sessions they have missed; None: they are only counted.
        is_read: Other operators read the store.
    """

    def __init__(
        self,
        node: SessionAggregate,
        rows: SessionRows,
        context: OperatorContext,
        forward: Forward,
        late: LateRecords | None = None,
        *,
        is_read: bool = False,
    ) -> None:
        self._node = node
        self._rows = rows
        self._context = context
        self._metrics = context.metrics
        self._errors = context.errors
        self._forward = forward
        self._late = late
        functions = functions_of(node)
        self._initializer, self._step, self._counts = functions.initializer, functions.step, functions.counts
        self._merger = merger_of(node)
        self._updates = SessionUpdates(rows, send_old=node.send_old, one_by_one=is_read)
        self._book: SessionCache[Any] | SessionUpdates = rows.session_cache or self._updates
        self._emitter: FinalEmitter | None = None
        if node.emit is EmitStrategy.ON_WINDOW_CLOSE:
            self._emitter = FinalEmitter(_closing(node, rows), _results(node, rows), context, forward)
        own_store_time = None if late is None else lambda: rows.sessions.observed_stream_time
        self._time = WindowTime(node, context, self._emitter, own_store_time)

    def init(self) -> None:
        """Stream time begins anew; where late records go on, no earlier than the store's, which would drop them."""
        self._time.init()

    def process(self, batch: RecordBatch) -> None:
        """Update the session of each record, and those it merges."""
        batch = with_keys(batch, self._node.name, self._metrics)
        if not len(batch):
            return
        if self._emitter is None:
            self._take_all(batch)
            self._send()
        else:
            self._emitter.feed(batch, self._keep)
        self._time.seen()

    def flush(self, rows_max: int | None = None) -> int:
        """Write and forward cached updates; returns how many are left."""
        cache = self._rows.session_cache
        if cache is None or not cache.dirty:
            return 0
        changes = cache.flush(rows_max)
        if changes is not None and self._rows.wants_origins:
            origins = [(session.tp, session.offset) for session in cache.flushed]
            forward_from(origins, changes, self._context, self._forward)
        elif changes is not None:
            self._forward(changes)
        return len(cache.dirty)

    def _keep(self, batch: RecordBatch) -> bool:
        """Update sessions without passing anything on; false when the last record was left out for an error."""
        taken = self._take_all(batch)
        for _ in self._updates.write():
            pass
        return taken

    def _take_all(self, batch: RecordBatch) -> bool:
        plain: list[Any] = self._rows.spec.key_serde.serialize_many(batch.keys)
        sessions = self._book.sessions_of(plain)
        late, outcome, tp, time, gap_ms = 0, None, self._context.tp, self._time, self._node.windows.gap_ms
        counts, begin = self._counts, self._book.begin
        closes_after_ms, stream_time = gap_ms + self._node.windows.grace_ms, self._time.stream_time
        origins = zip(batch.headers or repeat(None), batch.offsets or repeat(None), strict=False)
        columns = zip(plain, batch.keys, batch.timestamps, batch.values, origins, strict=False)
        for row, (raw, name, timestamp, value, (headers, offset)) in enumerate(columns):
            if timestamp > stream_time:
                time.stream_time = stream_time = timestamp
            record = Session(raw, timestamp, timestamp, None, None, name, timestamp, headers, offset, tp)
            known = sessions.get(raw)
            if (known and known[-1].end >= timestamp - gap_ms) or timestamp < stream_time - closes_after_ms:
                outcome = self._take(known or [], record, value)
            elif counts:
                record.value = 1
                begin(record)
                outcome = _Outcome.TAKEN
            else:
                outcome = self._begin(record, value)
            if outcome is _Outcome.LATE:
                late += 1
                if self._late is not None:
                    self._late.add(row, record.start, record.end, self._time.stream_time)
        if late:
            self._metrics.dropped(self._node.name, "late", late)
            if self._late is not None:
                self._late.send(batch)
        return outcome is not _Outcome.FAILED

    def _begin(self, record: Session, value: Any) -> "_Outcome":
        """Put a record that lies behind all sessions of its key, and is not late, as most are."""
        try:
            record.value = self._step(record.name, value, self._initializer())
        except Exception as error:
            self._failed(error, record, value)
            return _Outcome.FAILED
        if record.value is None:
            self._book.replace((), record)
        else:
            self._book.begin(record)
        return _Outcome.TAKEN

    def _take(self, sessions: list[Session], record: Session, value: Any) -> "_Outcome":
        """Update sessions with one record, given as a session of one point."""
        windows, book = self._node.windows, self._book
        timestamp = record.start
        found = []
        for each in reversed(sessions):
            if each.end < timestamp - windows.gap_ms:
                break
            if each.start <= timestamp + windows.gap_ms and book.is_there(each):
                found.append(each)
        found.reverse()
        for each in found:
            record.start = min(record.start, each.start)
            record.end = max(record.end, each.end)
        if record.end < self._time.stream_time - windows.grace_ms - windows.gap_ms:
            return _Outcome.LATE
        befores = [book.value_of(each) for each in found]
        gone = [] if record.start == record.end else found
        try:
            aggregate = self._initializer()
            for before in befores:
                aggregate = self._merger(record.name, aggregate, before)
        except Exception as error:
            self._failed(error, record, value)
            return _Outcome.FAILED
        try:
            record.value = self._step(record.name, value, aggregate)
        except Exception as error:
            book.remove(gone, record)  # that has been done before the function is called
            self._failed(error, record, value)
            return _Outcome.FAILED
        book.replace(gone, record)
        return _Outcome.TAKEN

    def _send(self) -> None:
        """Pass on what need not wait."""
        for changes in self._updates.write():
            self._forward(changes)
        cache = self._rows.session_cache
        if cache is not None and cache.is_full():
            self.flush(len(cache.dirty) - cache.max_entries * 3 // 4)

    def _failed(self, error: Exception, record: Session, value: Any) -> None:
        self._errors.failed(error, self._node.name, record.name, value, record.timestamp, record.offset)


def session_aggregate(node: SessionAggregate, wiring: Wiring) -> SessionAggregateOperator:
    """The operator of an aggregation by sessions."""
    rows = wiring.tables[node.store]
    assert isinstance(rows, SessionRows), f"{node.store} is no session store"
    rows.wants_origins = wants_origins(wiring.topology, node.store)
    is_read = any(each is not node and node.store in each.stores for each in wiring.topology.nodes.values())
    late = late_records(node, wiring)
    return SessionAggregateOperator(node, rows, wiring.context, wiring.forward, late, is_read=is_read)


def merger_of(node: SessionAggregate) -> Callable[[Any, Any, Any], Any]:
    """What makes one aggregate of two."""
    if node.kind == "count":
        return lambda _key, one, other: one + other
    if node.kind == "reduce":
        reducer = node.aggregator
        assert reducer is not None, f"{node.name} has no aggregator"
        return lambda _key, one, other: other if one is None else reducer(one, other)
    assert node.merger is not None, f"{node.name} has no merger"
    return node.merger


def _closing(node: SessionAggregate, rows: SessionRows) -> Closing:
    """How sessions close; they are found until the segments of their ends expire."""

    def between(before: int, now: int) -> Bounds | None:
        first, last = max(0, before), now - 1  # the end of a session is its own last millisecond
        return (first, last) if last >= first else None

    return Closing(node.windows.grace_ms + node.windows.gap_ms, between, rows.sessions.kept_from)


def _results(node: SessionAggregate, rows: SessionRows) -> Results:
    """Where closed sessions are read."""

    def keys(raws: list[bytes]) -> list[Any]:
        parts = [split_session_store_key(raw) for raw in raws]
        plain = rows.spec.key_serde.deserialize_many([raw for raw, _, _ in parts])
        return [Windowed(key, start, end) for key, (_, start, end) in zip(plain, parts, strict=True)]

    return Results(node.store, rows.sessions.find_ended, keys, node.send_old)
