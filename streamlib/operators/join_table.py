"""A stream looks up a table: each row with the value that the table has for its key at that moment.

Only stream rows cause results; the table's own updates do not. Results keep the stream row's key, timestamp and
headers. A row without a value cannot be joined; nor can one without a table key, except in a left join.

Source: KStreamKTableJoinProcessor; KIP-962 for left joins without key. Next: `sink`.
"""

from collections.abc import Callable
from typing import Any

from streamlib.operators.base import Forward, OperatorContext
from streamlib.operators.getters import TableGetter
from streamlib.operators.selection import picked
from streamlib.operators.wiring import Wiring
from streamlib.record import RecordBatch
from streamlib.topology.nodes import StreamGlobalTableJoin, StreamTableJoin


class TableLookup:
    """Joins rows with a table's current values.

    Args:
        node: What to do.
        getter: How to look up.
        context: Errors and counters.
        forward: Where results go.
    """

    def __init__(
        self,
        node: StreamTableJoin | StreamGlobalTableJoin,
        getter: TableGetter,
        context: OperatorContext,
        forward: Forward,
    ) -> None:
        self._node = node
        self._getter = getter
        self._context = context
        self._forward = forward
        self._select: Callable[[Any, Any], Any] | None = (
            node.key_selector if isinstance(node, StreamGlobalTableJoin) else None
        )

    def process(self, batch: RecordBatch) -> None:
        """Join each row; rows that cannot be joined are counted, rows without a match are not."""
        node, failed = self._node, self._context.errors.failed
        table_keys, wanted = self._table_keys(batch)
        found = iter(self._getter.fetch([key for key in table_keys if key is not None]))
        compute, joiner, left, with_key = self._getter.compute, node.joiner, node.left, node.with_key
        rows: list[int] = []
        values: list[Any] = []
        for row in wanted:
            key, value, table_key = batch.keys[row], batch.values[row], table_keys[row]
            try:
                right = None if table_key is None else compute(table_key, next(found))
                if right is not None or left:
                    values.append(joiner(key, value, right) if with_key else joiner(value, right))
                    rows.append(row)
            except Exception as error:
                offset = None if batch.offsets is None else batch.offsets[row]
                failed(error, node.name, key, value, batch.timestamps[row], offset)
        if rows:
            # Most often every row finds its match: then the other columns go on as they are.
            everything = len(rows) == len(batch)
            self._forward(
                RecordBatch(batch.keys, values, batch.timestamps, batch.offsets, batch.headers)
                if everything
                else picked(batch, rows, values)
            )

    def _table_keys(self, batch: RecordBatch) -> tuple[list[Any], list[int]]:
        """The table key of each row (None: no lookup), and the rows that take part."""
        node, metrics = self._node, self._context.metrics
        table_keys: list[Any] = [None] * len(batch)
        wanted: list[int] = []
        no_value = no_key = 0
        for row, (key, value) in enumerate(zip(batch.keys, batch.values, strict=True)):
            if value is None:
                no_value += 1
                continue
            table_key = key
            if self._select is not None:
                try:
                    table_key = self._select(key, value)
                except Exception as error:
                    offset = None if batch.offsets is None else batch.offsets[row]
                    self._context.errors.failed(error, node.name, key, value, batch.timestamps[row], offset)
                    continue
            if table_key is None and not node.left:
                no_key += 1
                continue
            table_keys[row] = table_key
            wanted.append(row)
        if no_value:
            metrics.dropped(node.name, "null-value", no_value)
        if no_key:
            metrics.dropped(node.name, "null-key", no_key)
        return table_keys, wanted


def stream_table_join(node: StreamTableJoin, wiring: Wiring) -> TableLookup:
    """The operator of a stream-table join."""
    return TableLookup(node, wiring.getter(node.table), wiring.context, wiring.forward)


def stream_global_table_join(node: StreamGlobalTableJoin, wiring: Wiring) -> TableLookup:
    """The operator of a stream-global table join."""
    return TableLookup(node, wiring.store_getter(node.store), wiring.context, wiring.forward)
