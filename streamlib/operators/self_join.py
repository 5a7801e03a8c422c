"""A stream joined with itself, on one store: each record with those kept before it, in both roles, and with itself.

`join_streams.JoinWindowOperator` passes a record on and then keeps it, so the record itself is not among those it
meets. Results come in the order in which a join of two equal streams gives them. A record that is too late to be kept
does not meet itself. Source: KStreamKStreamSelfJoin. Next: `state/join_window`, what is kept.
"""

from typing import Any, cast

from streamlib.operators.base import Forward, OperatorContext
from streamlib.operators.join_streams import KeyedBatch, Pair
from streamlib.operators.wiring import Wiring
from streamlib.record import RecordBatch
from streamlib.state.join_window import JoinWindowStore
from streamlib.topology.stream_join_nodes import StreamSelfJoin

Result = tuple[Any, int]
"""A joined value and its time."""


class StreamSelfJoinOperator:
    """Joins records with those kept before them.

    Rows of one batch do not meet, so it takes records one by one: reader and writer of one store make a source give
    single records.

    Args:
        node: What to do.
        store: What was kept.
        context: Errors and counters.
        forward: Where results go.
    """

    def __init__(
        self, node: StreamSelfJoin, store: JoinWindowStore[Any], context: OperatorContext, forward: Forward
    ) -> None:
        self._node = node
        self._store = store
        self._context = context
        self._forward = forward
        joiner = node.joiner
        self._pair: Pair = joiner if node.with_key else lambda _key, left, right: joiner(left, right)
        self._stream_time = -1

    def init(self) -> None:
        """Take the time from the store; Java begins at -1 again."""
        self._stream_time = self._store.highest_timestamp

    def process(self, batch: RecordBatch) -> None:
        """Join each record; those without a key or a value are dropped and counted."""
        assert isinstance(batch, KeyedBatch), f"{self._node.name} must be fed by the node that keeps its records"
        for row, (raw, value) in enumerate(zip(batch.raw_keys, batch.values, strict=True)):
            if raw is None or value is None:
                self._context.metrics.dropped(self._node.name, "null-key" if raw is None else "null-value", 1)
                continue
            results: list[Result] = []
            try:
                self._join(batch, row, raw, results)
            except Exception as error:
                offset = None if batch.offsets is None else batch.offsets[row]
                time = batch.timestamps[row]
                self._context.errors.failed(error, self._node.name, batch.keys[row], value, time, offset)
            if results:
                self._forward(_batch(batch, row, results))

    def _join(self, batch: KeyedBatch, row: int, raw: bytes, results: list[Result]) -> None:
        key, value, time = batch.keys[row], batch.values[row], batch.timestamps[row]
        windows, matches, value_of, pair = self._node.windows, self._store.matches, self._store.value, self._pair
        with_itself = pair(key, value, value), time
        self._stream_time = max(self._stream_time, time)
        is_kept = time > self._stream_time - windows.retention_ms + 1
        (as_left,) = matches([raw], [time], windows.before_ms, windows.after_ms)
        for other_time, other in as_left:
            results.append((pair(key, value, value_of(other)), max(time, other_time)))
        (as_right,) = matches([raw], [time], windows.after_ms, windows.before_ms)
        for other_time, other in as_right:
            if other_time > time and is_kept:
                results.append(with_itself)
                is_kept = False
            results.append((pair(key, value_of(other), value), max(time, other_time)))
        if is_kept:
            results.append(with_itself)


def _batch(cause: RecordBatch, row: int, results: list[Result]) -> RecordBatch:
    """Results of one record, with its key, offset and headers."""
    count = len(results)
    return RecordBatch(
        [cause.keys[row]] * count,
        [value for value, _ in results],
        [time for _, time in results],
        None if cause.offsets is None else [cause.offsets[row]] * count,
        None if cause.headers is None else [cause.headers[row]] * count,
    )


def stream_self_join(node: StreamSelfJoin, wiring: Wiring) -> StreamSelfJoinOperator:
    """The operator of a self-join."""
    store = cast("JoinWindowStore[Any]", wiring.stores[node.store])
    return StreamSelfJoinOperator(node, store, wiring.context, wiring.forward)
