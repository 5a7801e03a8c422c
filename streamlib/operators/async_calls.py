"""Has asynchronous user functions called, and hands on what they give.

Rows go in with a batch like anywhere else, but nothing comes out of `process`: calls run on the event loop while the
task does other things, and `hand_on` sends the results that have arrived, with the timestamps and headers of their
rows. A failed call is a failure of the user function for its row, and takes its place in the order of the results.

Next: `call_order`, which begins calls and orders results; `runtime/calls`, where they run.
"""

from functools import partial
from itertools import groupby, repeat
from operator import attrgetter
from typing import Any

from streamlib.operators.base import Forward, OperatorContext
from streamlib.operators.call_order import Call, CallOrder
from streamlib.operators.fusion import not_a_pair
from streamlib.operators.wiring import Wiring
from streamlib.record import Record, RecordBatch, TopicPartition
from streamlib.topology.async_nodes import AsyncCalls

ROWS_FOR_A_PLACE = 4  # waiting for a place, or for the results before theirs: one slow call does not idle the others


class AsyncOperator:
    """One node of one task.

    Args:
        node: What to call, and how.
        context: Runs the calls.
        forward: Where results go.
    """

    def __init__(self, node: AsyncCalls, context: OperatorContext, forward: Forward) -> None:
        self._node = node
        self._context = context
        self._forward = forward
        self._capacity = node.concurrency * ROWS_FOR_A_PLACE
        self.init()

    def init(self) -> None:
        """Begin with no rows; the calls of those from before were cancelled."""
        node = self._node
        self._order = CallOrder(node.concurrency, ordered=node.ordered, one_per_key=node.one_per_key)

    @property
    def room(self) -> int:
        """How many more rows it wants; below 0 when a batch was larger than that."""
        return self._capacity - self._order.held

    def process(self, batch: RecordBatch) -> None:
        """Take rows, and begin as many calls as may run."""
        tp, order = self._context.tp, self._order
        offsets = repeat(None, len(batch)) if batch.offsets is None else batch.offsets
        headers: Any = repeat((), len(batch)) if batch.headers is None else batch.headers
        for key, value, timestamp, offset, each in zip(
            batch.keys, batch.values, batch.timestamps, offsets, headers, strict=True
        ):
            order.add(Call(tp, offset, key, value, timestamp, each))
            self._context.calls.hold(tp, offset)
        self._begin(order)

    def hand_on(self, rows_max: int) -> bool:
        """Forward the results whose turn it is, of at most ``rows_max`` rows; whether there were any.

        Raises:
            ProcessingError: A call has failed, and the policy is to fail.
        """
        calls = self._order.take(rows_max)
        context, before = self._context, self._context.tp
        for tp, run in groupby(calls, attrgetter("tp")):
            context.tp = tp
            self._forward_results(tp, list(run))
        context.tp = before
        return bool(calls)

    def _begin(self, order: CallOrder) -> None:
        node = self._node
        while (call := order.begin()) is not None:
            if node.gives == "records":
                arguments: tuple[Any, ...] = (Record(call.key, call.value, call.timestamp, call.headers),)
            elif node.gives == "pair" or node.with_key:
                arguments = (call.key, call.value)
            else:
                arguments = (call.value,)
            self._context.calls.begin(partial(node.mapper, *arguments), node.policy, partial(self._ended, order, call))

    def _ended(self, order: CallOrder, call: Call, result: Any, error: Exception | None) -> bool:
        """Keep what a call gave until it is handed on, and begin others in its place; whether to hand on now."""
        call.result, call.error = result, error
        changed = order.ended(call)
        self._begin(order)
        return changed

    def _forward_results(self, tp: TopicPartition | None, calls: list[Call]) -> None:
        out = RecordBatch([], [], [], [], [])
        for call in calls:
            if call.error is not None:
                self._failed(call, call.error)
                continue
            try:
                records = self._records(call)
            except Exception as error:  # what the function gave is not what it should, or raises when iterated over
                self._failed(call, error)
                continue
            for record in records:
                _append(out, record, call.offset)
        if len(out):
            assert out.headers is not None
            if not any(out.headers):
                out.headers = None
            self._forward(out)
        for call in calls:
            self._context.calls.release(tp, call.offset)

    def _records(self, call: Call) -> list[Record[Any, Any]]:
        """What a call gave, as records."""
        result = call.result
        if self._node.gives == "value":
            return [Record(call.key, result, call.timestamp, call.headers)]
        if self._node.gives == "pair":
            if not isinstance(result, tuple) or len(result) != 2:
                raise not_a_pair(result)
            return [Record(*result, call.timestamp, call.headers)]
        records = [] if result is None else list(result)
        for record in records:
            if not isinstance(record, Record):
                msg = f"the function must give records, not {record!r}: return a list of streamlib.Record"
                raise TypeError(msg)
            if record.timestamp < 0:
                msg = f"a record's timestamp cannot be negative: {record.timestamp}"
                raise ValueError(msg)
        return records

    def _failed(self, call: Call, error: Exception) -> None:
        self._context.errors.failed(error, self._node.name, call.key, call.value, call.timestamp, call.offset)


def _append(batch: RecordBatch, record: Record[Any, Any], offset: int | None) -> None:
    batch.keys.append(record.key)
    batch.values.append(record.value)
    batch.timestamps.append(record.timestamp)
    assert batch.headers is not None
    batch.headers.append(record.headers)
    if batch.offsets is not None:
        if offset is None:
            batch.offsets = None
        else:
            batch.offsets.append(offset)


def async_calls(node: AsyncCalls, wiring: Wiring) -> AsyncOperator:
    """The operator of a node with an asynchronous function."""
    return AsyncOperator(node, wiring.context, wiring.forward)
