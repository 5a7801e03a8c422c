"""The end of the plan: batches go to the record collector. Next: `runtime/record_collector`."""

from streamlib.operators.base import Collector
from streamlib.operators.wiring import Wiring
from streamlib.record import RecordBatch
from streamlib.topology.nodes import Sink


class SinkOperator:
    """Hands batches to the collector, which serializes, partitions and buffers them."""

    def __init__(self, node: Sink, collector: Collector) -> None:
        self._node = node
        self._collector = collector

    def process(self, batch: RecordBatch) -> None:
        """Write a batch to the sink's topic."""
        self._collector.send(self._node, batch)


def sink(node: Sink, wiring: Wiring) -> SinkOperator:
    """The operator of a sink."""
    return SinkOperator(node, wiring.context.collector)
