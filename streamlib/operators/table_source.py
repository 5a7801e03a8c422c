"""Turns records into updates of a table: null keys are dropped and counted, null values delete.

An update with an older timestamp than its row still wins: offsets decide, not time. Without a store the updates only
pass through, and nobody knows the old values.

Source: KTableSource. Next: `table`, what follows a table.
"""

from streamlib.operators.base import Forward, OperatorContext
from streamlib.operators.materialized import Materialized
from streamlib.operators.selection import with_keys
from streamlib.operators.wiring import Wiring
from streamlib.record import ChangeBatch, RecordBatch
from streamlib.topology.nodes import TableSource


class TableSourceOperator:
    """A table of a topic.

    Args:
        node: Which one.
        table: Where the rows are; None when nobody needs them.
        context: Counters.
        forward: Where updates go.
    """

    def __init__(
        self, node: TableSource, table: Materialized | None, context: OperatorContext, forward: Forward
    ) -> None:
        self._name = node.name
        self._table = table
        self._metrics = context.metrics
        self._forward = forward

    def process(self, batch: RecordBatch) -> None:
        """Set the rows of the records' keys."""
        batch = with_keys(batch, self._name, self._metrics)
        if not len(batch):
            return
        if self._table is None:
            self._forward(ChangeBatch(batch.keys, batch.values, batch.timestamps, batch.offsets, batch.headers))
        else:
            self._table.replace(batch)

    def flush(self, rows_max: int | None = None) -> int:
        """Write and forward cached updates; returns how many are left."""
        return 0 if self._table is None else self._table.flush(rows_max)


def table_source(node: TableSource, wiring: Wiring) -> TableSourceOperator:
    """The operator of a table of a topic."""
    table = None if node.store is None else wiring.materialized(node.store, send_old=node.send_old)
    return TableSourceOperator(node, table, wiring.context, wiring.forward)
