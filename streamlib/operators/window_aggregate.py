"""count, reduce and aggregate for each key and time window.

Each operator keeps its own stream time, the largest timestamp it has seen since it started. A record goes to every
window that contains its timestamp, oldest first, except those that are closed: ``end <= stream time - grace``. Those
are counted as ``late``, once for each window. Records without key are dropped and counted; without value they are not,
unlike in an aggregation without windows.

Source: KStreamWindowAggregate. Next: `fold`, the loops; `emit`, for results that wait; `sliding_aggregate`.
"""

from functools import partial
from typing import Any

from streamlib.operators.base import Operator, OperatorContext
from streamlib.operators.emit import FinalEmitter, Results, closing_of, held_back, windows_of
from streamlib.operators.fold import Fold, functions_of
from streamlib.operators.late import LateRecords, late_records
from streamlib.operators.materialized import Materialized
from streamlib.operators.selection import picked, with_keys
from streamlib.operators.sliding_aggregate import SlidingAggregateOperator, store_time
from streamlib.operators.table_rows import TableRows
from streamlib.operators.window_time import WindowTime
from streamlib.operators.wiring import Wiring
from streamlib.record import MAX_TIME_MS, RecordBatch, Windowed
from streamlib.state.window import SUFFIX_BYTES, window_starts, window_store_key
from streamlib.topology.nodes import WindowAggregate
from streamlib.topology.windows import EmitStrategy, SlidingWindows, TimeWindows, UnlimitedWindows

SUFFIXES_MAX = 10_000


class WindowAggregateOperator:
    """One row for each key and window.

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
        windows: TimeWindows | UnlimitedWindows,
        table: Materialized,
        context: OperatorContext,
        emitter: FinalEmitter | None = None,
        late: LateRecords | None = None,
    ) -> None:
        self._name = node.name
        self._windows = windows
        self._table = table
        self._metrics = context.metrics
        self._emitter = emitter
        self._late = late
        own_store_time = None if late is None else partial(store_time, table)
        self._time = WindowTime(node, context, emitter, own_store_time)
        self._fold = Fold(node.name, functions_of(node), table, context.errors)
        self._tumbling_ms = windows.size_ms if _is_tumbling(windows) else 0
        self._suffixes: dict[int, bytes] = {}

    def init(self) -> None:
        """Stream time begins anew; where late records go on, no earlier than the store's, which would drop them."""
        self._time.init()

    def process(self, batch: RecordBatch) -> None:
        """Update the row of each window that a record belongs to."""
        batch = with_keys(batch, self._name, self._metrics)
        if not len(batch):
            return
        if self._emitter is None:
            self._update(batch)
        else:
            self._emitter.feed(batch, self._update)
        self._time.seen()

    def flush(self, rows_max: int | None = None) -> int:
        """Write and forward cached updates; returns how many are left."""
        if self._emitter is not None and self._table.rows.cache is not None:
            self._emitter.before_flush()
        return self._table.flush(rows_max)

    def _update(self, batch: RecordBatch) -> bool:
        """Update the windows of each record; false when a function raised on the last one."""
        plain = self._table.rows.spec.key_serde.serialize_many(batch.keys)
        raws, origins = (self._tumbling if self._tumbling_ms else self._hopping)(plain, batch.timestamps)
        if len(self._suffixes) > SUFFIXES_MAX:
            self._suffixes.clear()
        if self._late is not None:
            self._late.send(batch)
        last = len(batch) - 1
        if origins is not None:
            batch = picked(batch, origins)
        self._fold.lost_end = 0
        if raws:
            self._fold.apply(raws, batch, origins)
        return self._fold.lost_end < max(len(raws), 1) or (origins is not None and origins[-1] != last)

    def _tumbling(self, plain: list[Any], timestamps: list[int]) -> tuple[list[bytes], list[int] | None]:
        """Store keys, and the record of each; None when all records are there once, in order."""
        size_ms, grace_ms = self._tumbling_ms, self._windows.grace_ms
        suffixes, stream_time = self._suffixes, self._time.stream_time
        raws: list[bytes] = []
        late: list[int] = []
        for raw, timestamp in zip(plain, timestamps, strict=True):
            stream_time = timestamp if timestamp > stream_time else stream_time
            start = timestamp - timestamp % size_ms
            if start + size_ms > stream_time - grace_ms:
                raws.append(raw + (suffixes.get(start) or self._suffix(start)))
            else:
                row = len(raws) + len(late)
                late.append(row)
                if self._late is not None:
                    self._late.add(row, start, start + size_ms, stream_time)
        self._time.stream_time = stream_time
        if not late:
            return raws, None
        self._metrics.dropped(self._name, "late", len(late))
        left_out = set(late)
        return raws, [row for row in range(len(plain)) if row not in left_out]

    def _hopping(self, plain: list[Any], timestamps: list[int]) -> tuple[list[bytes], list[int] | None]:
        windows, suffixes = self._windows, self._suffixes
        raws: list[bytes] = []
        origins: list[int] = []
        late = 0
        for row, (raw, timestamp) in enumerate(zip(plain, timestamps, strict=True)):
            self._time.stream_time = max(self._time.stream_time, timestamp)
            closed = self._time.stream_time - windows.grace_ms - windows.size_ms
            for start in windows.starts(timestamp):
                if start > closed:
                    raws.append(raw + (suffixes.get(start) or self._suffix(start)))
                    origins.append(row)
                else:
                    late += 1
                    if self._late is not None:
                        self._late.add(row, start, start + windows.size_ms, self._time.stream_time)
        if late:
            self._metrics.dropped(self._name, "late", late)
        return raws, origins

    def _suffix(self, start: int) -> bytes:
        suffix = self._suffixes[start] = window_store_key(b"", start)
        return suffix


def window_aggregate(node: WindowAggregate, wiring: Wiring) -> Operator:
    """The operator of a windowed aggregation."""
    windows, size_ms = node.windows, node.windows.size_ms
    late = late_records(node, wiring)

    def outgoing(raws: list[bytes], keys: list[Any]) -> list[Any]:
        starts = window_starts(raws)
        return [
            Windowed(key, start, min(start + size_ms, MAX_TIME_MS)) for key, start in zip(keys, starts, strict=True)
        ]

    emitter = None
    if node.emit is EmitStrategy.ON_WINDOW_CLOSE:
        rows = wiring.tables[node.store]
        table = held_back(rows)
        results = Results(node.store, windows_of(rows), _keys(rows, size_ms), node.send_old)
        emitter = FinalEmitter(closing_of(windows, rows.spec.retention_ms), results, wiring.context, wiring.forward)
    else:
        table = wiring.materialized(node.store, send_old=node.send_old, outgoing=outgoing)
    if isinstance(windows, SlidingWindows):
        return SlidingAggregateOperator(node, windows, table, wiring.context, emitter, late)
    return WindowAggregateOperator(node, windows, table, wiring.context, emitter, late)


def _keys(rows: TableRows, size_ms: int) -> Any:
    def keys(raws: list[bytes]) -> list[Any]:
        plain: list[Any] = rows.spec.key_serde.deserialize_many([raw[:-SUFFIX_BYTES] for raw in raws])
        return [Windowed(key, start, start + size_ms) for key, start in zip(plain, window_starts(raws), strict=True)]

    return keys


def _is_tumbling(windows: TimeWindows | UnlimitedWindows) -> bool:
    return isinstance(windows, TimeWindows) and windows.advance_ms == windows.size_ms
