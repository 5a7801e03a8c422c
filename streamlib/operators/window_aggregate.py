"""count, reduce and aggregate for each key and time window.

Each operator keeps its own stream time, the largest timestamp it has seen since it started. A record goes to every
window that contains its timestamp, oldest first, except those that are closed: ``end <= stream time - grace``. Those
are counted as ``late``, once for each window. Records without key are dropped and counted; without value they are not,
unlike in an aggregation without windows.

Source: KStreamWindowAggregate. Next: `fold`, the loops.
"""

from typing import Any

from streamlib.operators.base import OperatorContext
from streamlib.operators.fold import Fold, functions_of
from streamlib.operators.materialized import Materialized
from streamlib.operators.selection import picked, with_keys
from streamlib.operators.wiring import Wiring
from streamlib.record import RecordBatch, Windowed
from streamlib.state.window import window_starts, window_store_key
from streamlib.topology.nodes import WindowAggregate

SUFFIXES_MAX = 10_000


class WindowAggregateOperator:
    """One row for each key and window.

    Args:
        node: What to do.
        table: Where the rows are.
        context: Errors and counters.
    """

    def __init__(self, node: WindowAggregate, table: Materialized, context: OperatorContext) -> None:
        self._node = node
        self._table = table
        self._metrics = context.metrics
        self._fold = Fold(node.name, functions_of(node), table, context.errors)
        self._stream_time = -1
        self._suffixes: dict[int, bytes] = {}

    def process(self, batch: RecordBatch) -> None:
        """Update the row of each window that a record belongs to."""
        batch = with_keys(batch, self._node.name, self._metrics)
        if not len(batch):
            return
        plain = self._table.rows.spec.key_serde.serialize_many(batch.keys)
        tumbling = self._node.windows.advance_ms == self._node.windows.size_ms
        raws, origins = (self._tumbling if tumbling else self._hopping)(plain, batch.timestamps)
        if len(self._suffixes) > SUFFIXES_MAX:
            self._suffixes.clear()
        if origins is not None:
            batch = picked(batch, origins)
        if raws:
            self._fold.apply(raws, batch, origins)

    def flush(self, rows_max: int | None = None) -> int:
        """Write and forward cached updates; returns how many are left."""
        return self._table.flush(rows_max)

    def _tumbling(self, plain: list[Any], timestamps: list[int]) -> tuple[list[bytes], list[int] | None]:
        """Store keys, and the record of each; None when all records are there once, in order."""
        size_ms, grace_ms = self._node.windows.size_ms, self._node.windows.grace_ms
        suffixes, stream_time = self._suffixes, self._stream_time
        raws: list[bytes] = []
        late: list[int] = []
        for raw, timestamp in zip(plain, timestamps, strict=True):
            stream_time = timestamp if timestamp > stream_time else stream_time
            start = timestamp - timestamp % size_ms
            if start + size_ms > stream_time - grace_ms:
                raws.append(raw + (suffixes.get(start) or self._suffix(start)))
            else:
                late.append(len(raws) + len(late))
        self._stream_time = stream_time
        if not late:
            return raws, None
        self._metrics.dropped(self._node.name, "late", len(late))
        left_out = set(late)
        return raws, [row for row in range(len(plain)) if row not in left_out]

    def _hopping(self, plain: list[Any], timestamps: list[int]) -> tuple[list[bytes], list[int] | None]:
        windows, suffixes = self._node.windows, self._suffixes
        raws: list[bytes] = []
        origins: list[int] = []
        late = 0
        for row, (raw, timestamp) in enumerate(zip(plain, timestamps, strict=True)):
            self._stream_time = max(self._stream_time, timestamp)
            closed = self._stream_time - windows.grace_ms - windows.size_ms
            for start in windows.starts(timestamp):
                if start > closed:
                    raws.append(raw + (suffixes.get(start) or self._suffix(start)))
                    origins.append(row)
                else:
                    late += 1
        if late:
            self._metrics.dropped(self._node.name, "late", late)
        return raws, origins

    def _suffix(self, start: int) -> bytes:
        suffix = self._suffixes[start] = window_store_key(b"", start)
        return suffix


def window_aggregate(node: WindowAggregate, wiring: Wiring) -> WindowAggregateOperator:
    """The operator of a windowed aggregation."""
    size_ms = node.windows.size_ms

    def outgoing(raws: list[bytes], keys: list[Any]) -> list[Any]:
        return [Windowed(key, start, start + size_ms) for key, start in zip(keys, window_starts(raws), strict=True)]

    table = wiring.materialized(node.store, send_old=node.send_old, outgoing=outgoing)
    return WindowAggregateOperator(node, table, wiring.context)
