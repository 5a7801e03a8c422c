"""count, reduce and aggregate of a grouped stream or table: one row for each key, updated by each record.

The result's timestamp is the larger of the record's and the row's. A function that gives None deletes the row.
Of a stream, records without key or value are dropped and counted, and the value before the first one is what the
initializer gives (0 for count), not None, unless a cache is between.

Source: KStreamAggregate, KStreamReduce, KTableAggregate, KTableReduce. Next: `fold`, the loops; `window_aggregate`.
"""

from collections.abc import Callable
from typing import Any

from streamlib.operators.base import OperatorContext
from streamlib.operators.fold import Fold, Functions, Step, functions_of
from streamlib.operators.materialized import Materialized
from streamlib.operators.selection import with_keys, with_values
from streamlib.operators.wiring import Wiring
from streamlib.record import Change, RecordBatch
from streamlib.topology.nodes import StreamAggregate, TableAggregate


class StreamAggregateOperator:
    """One row for each key of a grouped stream.

    Args:
        node: What to do.
        table: Where the rows are.
        context: Errors and counters.
    """

    def __init__(self, node: StreamAggregate, table: Materialized, context: OperatorContext) -> None:
        self._name = node.name
        self._table = table
        self._metrics = context.metrics
        self._fold = Fold(node.name, functions_of(node), table, context.errors)

    def process(self, batch: RecordBatch) -> None:
        """Update the row of each record's key."""
        batch = with_values(with_keys(batch, self._name, self._metrics), self._name, self._metrics)
        if len(batch):
            self._fold.apply(self._table.rows.raw_keys(batch.keys), batch, None)

    def flush(self, rows_max: int | None = None) -> int:
        """Write and forward cached updates; returns how many are left."""
        return self._table.flush(rows_max)


class TableAggregateOperator:
    """One row for each key of a grouped table; records are `Change` values from the repartition topic.

    For each the subtractor takes the old value out, if there is a row, and then the adder adds the new one.

    Args:
        node: What to do.
        table: Where the rows are.
        context: Errors and counters.
    """

    def __init__(self, node: TableAggregate, table: Materialized, context: OperatorContext) -> None:
        self._table = table
        self._fold = Fold(node.name, _table_functions(node), table, context.errors)

    def process(self, batch: RecordBatch) -> None:
        """Update the row of each record's key."""
        self._fold.apply(self._table.rows.raw_keys(batch.keys), batch, None)

    def flush(self, rows_max: int | None = None) -> int:
        """Write and forward cached updates; returns how many are left."""
        return self._table.flush(rows_max)


def stream_aggregate(node: StreamAggregate, wiring: Wiring) -> StreamAggregateOperator:
    """The operator of an aggregation of a grouped stream."""
    return StreamAggregateOperator(node, wiring.materialized(node.store, send_old=node.send_old), wiring.context)


def table_aggregate(node: TableAggregate, wiring: Wiring) -> TableAggregateOperator:
    """The operator of an aggregation of a grouped table."""
    return TableAggregateOperator(node, wiring.materialized(node.store, send_old=node.send_old), wiring.context)


def _table_functions(node: TableAggregate) -> Functions:
    if node.kind == "count":
        return _add_and_subtract(
            int, lambda _key, _value, aggregate: aggregate + 1, lambda _key, _value, aggregate: aggregate - 1
        )
    adder, subtractor = node.adder, node.subtractor
    assert adder is not None, f"{node.name} has no adder"
    assert subtractor is not None, f"{node.name} has no subtractor"
    if node.kind == "reduce":
        return _add_and_subtract(
            lambda: None,
            lambda _key, value, aggregate: value if aggregate is None else adder(aggregate, value),
            lambda _key, value, aggregate: subtractor(aggregate, value),
        )
    assert node.initializer is not None, f"{node.name} has no initializer"
    return _add_and_subtract(node.initializer, adder, subtractor)


def _add_and_subtract(initializer: Callable[[], Any], adder: Step, subtractor: Step) -> Functions:
    def step(key: Any, change: Change, aggregate: Any) -> Any:
        if key is None or change is None:
            msg = "a table aggregation got a record without key or value; only its own repartition topic may feed it"
            raise ValueError(msg)
        if change.old is not None and aggregate is not None:
            aggregate = subtractor(key, change.old, aggregate)
        if change.new is not None:
            aggregate = adder(key, change.new, initializer() if aggregate is None else aggregate)
        return aggregate

    # The value before the first one is None here, unlike that of a grouped stream.
    return Functions(lambda: None, step)
