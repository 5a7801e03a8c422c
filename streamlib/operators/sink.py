"""The end of the plan: batches go to the record collector, each record to the topic that is its own where there is none
for all. Source: SinkNode. Next: `runtime/record_collector`.
"""

from itertools import repeat
from typing import Any

from streamlib.operators.base import OperatorContext
from streamlib.operators.selection import picked
from streamlib.operators.wiring import Wiring
from streamlib.record import RecordBatch
from streamlib.topology.nodes import Sink
from streamlib.topology.topic_names import RecordContext


class SinkOperator:
    """Hands batches to the collector, which serializes, partitions and buffers them."""

    def __init__(self, node: Sink, context: OperatorContext) -> None:
        self._node = node
        self._context = context

    def process(self, batch: RecordBatch) -> None:
        """Write a batch to the sink's topic."""
        self._context.collector.send(self._node, batch, None, self._context.errors)


class NamingSinkOperator:
    """Asks the user's function for the topic of each record, and hands the rows of each topic to the collector.

    Args:
        node: The sink.
        context: Tells where records come from.
    """

    def __init__(self, node: Sink, context: OperatorContext) -> None:
        assert node.topic_fn is not None, f"{node.name} has one topic"
        self._node = node
        self._topic_of = node.topic_fn
        self._context = context

    def process(self, batch: RecordBatch) -> None:
        """Write a batch to the topics of its records.

        Raises:
            ProcessingError: The function raised, and the policy is to fail.
        """
        rows_of: dict[str, list[int]] = {}
        arguments = [batch.keys, batch.values]
        if self._node.with_context:
            arguments.append(self._contexts(batch))
        for row, given in enumerate(zip(*arguments, strict=True)):
            try:
                topic = self._topic_of(*given)
            except Exception as error:
                offset = None if batch.offsets is None else batch.offsets[row]
                self._context.errors.failed(error, self._node.name, given[0], given[1], batch.timestamps[row], offset)
            else:
                rows_of.setdefault(topic, []).append(row)
        for topic, rows in rows_of.items():
            part = batch if len(rows) == len(batch) else picked(batch, rows)
            self._context.collector.send(self._node, part, topic, self._context.errors)

    def _contexts(self, batch: RecordBatch) -> list[RecordContext]:
        tp = self._context.tp
        offsets: Any = repeat(None, len(batch)) if tp is None or batch.offsets is None else batch.offsets
        headers: Any = repeat((), len(batch)) if batch.headers is None else batch.headers
        topic, partition = (None, None) if tp is None or batch.offsets is None else tp
        return [
            RecordContext(topic, partition, offset, timestamp, each)
            for offset, timestamp, each in zip(offsets, batch.timestamps, headers, strict=True)
        ]


def sink(node: Sink, wiring: Wiring) -> SinkOperator | NamingSinkOperator:
    """The operator of a sink."""
    if node.topic is None:
        return NamingSinkOperator(node, wiring.context)
    return SinkOperator(node, wiring.context)
