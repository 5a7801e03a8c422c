"""A stream looks up a table: each row with the value that the table has for its key at that moment.

If the table is versioned, or computed row by row from one that is, it is the value that was valid at the row's time.
Only stream rows cause results; the table's own updates do not. Results keep the stream row's key, timestamp and
headers. A row without a value cannot be joined; nor can one without a table key, except in a left join.

Source: KStreamKTableJoinProcessor; KIP-962 for left joins without key, KIP-914 for versioned tables. Next: `sink`.
"""

from collections.abc import Callable, Sequence
from typing import Any

from streamlib.operators.base import Forward, OperatorContext
from streamlib.operators.getters import TableGetter
from streamlib.operators.selection import picked
from streamlib.operators.wiring import Wiring
from streamlib.record import RecordBatch
from streamlib.serdes.base import any_none
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
        self.join(*self.joinable(batch))

    def join(self, batch: RecordBatch, table_keys: list[Any]) -> None:
        """Join rows that `joinable` gave, and forward the results."""
        node, failed = self._node, self._context.errors.failed
        stored, compute = self._getter.stored, self._getter.compute
        joiner, left, with_key = node.joiner, node.left, node.with_key
        rows: list[int] = []
        values: list[Any] = []
        columns = zip(batch.keys, batch.values, table_keys, self._fetch(table_keys, batch.timestamps), strict=True)
        for row, (key, value, table_key, found) in enumerate(columns):
            try:
                match = found if stored or found is None else compute(table_key, found)
                right = None if match is None else match[0]
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

    def _fetch(self, table_keys: list[Any], timestamps: list[int]) -> Sequence[Any]:
        """What the table has, or had at the time, for each key; None for no key."""
        fetch, fetch_as_of = self._getter.fetch, self._getter.fetch_as_of
        if not any_none(table_keys):
            return fetch(table_keys) if fetch_as_of is None else fetch_as_of(table_keys, timestamps)
        known = [row for row, key in enumerate(table_keys) if key is not None]
        keys = [table_keys[row] for row in known]
        found = iter(fetch(keys) if fetch_as_of is None else fetch_as_of(keys, [timestamps[row] for row in known]))
        return [None if key is None else next(found) for key in table_keys]

    def joinable(self, batch: RecordBatch) -> tuple[RecordBatch, list[Any]]:
        """The rows that take part, and the table key of each (None: there is nothing to look up)."""
        if self._select is None and not any_none(batch.values) and not any_none(batch.keys):
            return batch, batch.keys
        node, metrics = self._node, self._context.metrics
        table_keys: list[Any] = []
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
            table_keys.append(table_key)
            wanted.append(row)
        if no_value:
            metrics.dropped(node.name, "null-value", no_value)
        if no_key:
            metrics.dropped(node.name, "null-key", no_key)
        return (batch if len(wanted) == len(batch) else picked(batch, wanted)), table_keys


def stream_table_join(node: StreamTableJoin, wiring: Wiring) -> TableLookup:
    """The operator of a stream-table join without grace."""
    return TableLookup(node, wiring.getter(node.table), wiring.context, wiring.forward)


def stream_global_table_join(node: StreamGlobalTableJoin, wiring: Wiring) -> TableLookup:
    """The operator of a stream-global table join."""
    return TableLookup(node, wiring.store_getter(node.store), wiring.context, wiring.forward)
