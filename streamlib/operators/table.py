"""What follows a table: filter, map_values, group_by. Each takes and gives updates with, perhaps, old values.

filter and map_values have a store of their own or none. A filter turns a row that does not pass into a deletion, even
of a row that never was there; when old values are known, a deletion of nothing goes no further. group_by gives records
for a repartition topic, and needs old values.

Source: KTableFilter, KTableMapValues, KTableRepartitionMap; KIP-904 for the single row. Next: `aggregate`.
"""

from itertools import compress
from typing import Any

from streamlib.operators.base import Forward, OperatorContext
from streamlib.operators.getters import ComputedGetter, Step, TableGetter
from streamlib.operators.materialized import Materialized
from streamlib.operators.selection import rows_of
from streamlib.operators.wiring import Wiring
from streamlib.record import Change, ChangeBatch, Headers, RecordBatch
from streamlib.topology.nodes import TableFilter, TableGroupBy, TableMapValues


class TableStep:
    """A table computed row by row from the one above it.

    Args:
        node: What to do.
        table: Where its rows are; None when it has no store: then old values are computed like new ones.
        context: Errors.
        forward: Where updates go.
    """

    def __init__(
        self,
        node: TableFilter | TableMapValues,
        table: Materialized | None,
        context: OperatorContext,
        forward: Forward,
    ) -> None:
        self._node = node
        self._table = table
        self._errors = context.errors
        self._forward = forward
        self._step = step_of(node)
        self._skips_nothing_to_nothing = isinstance(node, TableFilter) and node.send_old and not node.of_versions

    def process(self, batch: RecordBatch) -> None:
        """Compute the new value of each row, and the old one where it is wanted."""
        assert isinstance(batch, ChangeBatch)
        node, step, table = self._node, self._step, self._table
        befores = batch.olds if node.send_old and table is None and batch.olds is not None else [None] * len(batch)
        news: list[Any] = []
        olds: list[Any] = []
        keep: list[bool] = []
        for row, (key, value, before) in enumerate(zip(batch.keys, batch.values, befores, strict=True)):
            new = old = None
            try:
                new = None if value is None else step(key, value)
                old = None if before is None else step(key, before)
                keep.append(True)
            except Exception as error:
                offset = None if batch.offsets is None else batch.offsets[row]
                self._errors.failed(error, node.name, key, value, batch.timestamps[row], offset)
                keep.append(False)
            news.append(new)
            olds.append(old)
        if table is None and self._skips_nothing_to_nothing:
            keep = [
                kept and (new is not None or old is not None) for kept, new, old in zip(keep, news, olds, strict=True)
            ]
        result = RecordBatch(batch.keys, news, batch.timestamps, batch.offsets, batch.headers)
        latest = None if node.all_latest else batch.latest
        if not all(keep):
            result = rows_of(result, keep)
            olds = list(compress(olds, keep))
            latest = None if latest is None else list(compress(latest, keep))
        if not len(result):
            return
        if table is not None:
            table.replace(result, unless_absent=self._skips_nothing_to_nothing)
            return
        self._forward(
            ChangeBatch(
                result.keys,
                result.values,
                result.timestamps,
                result.offsets,
                result.headers,
                olds if node.send_old else None,
                latest,
            )
        )

    def flush(self, rows_max: int | None = None) -> int:
        """Write and forward cached updates; returns how many are left."""
        return 0 if self._table is None else self._table.flush(rows_max)


class TableGroupByOperator:
    """Updates as records of a repartition topic: the removal of the old pair, then the addition of the new one.

    Pairs without key or value are left out. When both pairs have one key they travel as one record, so that the
    aggregation below never shows the state between them.

    Args:
        node: What to do.
        context: Errors.
        forward: Where records go.
    """

    def __init__(self, node: TableGroupBy, context: OperatorContext, forward: Forward) -> None:
        self._node = node
        self._errors = context.errors
        self._forward = forward

    def process(self, batch: RecordBatch) -> None:
        """Map both sides of each update."""
        assert isinstance(batch, ChangeBatch)
        keys: list[Any] = []
        changes: list[Change] = []
        rows: list[int] = []
        olds = batch.olds or [None] * len(batch)
        for row, (key, new, old) in enumerate(zip(batch.keys, batch.values, olds, strict=True)):
            if batch.latest is not None and not batch.latest[row]:
                continue
            try:
                pairs = self._pairs(key, new, old)
            except Exception as error:
                offset = None if batch.offsets is None else batch.offsets[row]
                self._errors.failed(error, self._node.name, key, new, batch.timestamps[row], offset)
                continue
            for group, change in pairs:
                keys.append(group)
                changes.append(change)
                rows.append(row)
        if rows:
            self._forward(_records(batch, rows, keys, changes))

    def _pairs(self, key: Any, new: Any, old: Any) -> list[tuple[Any, Change]]:
        if key is None:
            msg = "a table that is grouped got an update without key"
            raise ValueError(msg)
        mapper = self._node.mapper
        new_key, new_value = (None, None) if new is None else mapper(key, new)
        old_key, old_value = (None, None) if old is None else mapper(key, old)
        adds = new_key is not None and new_value is not None
        removes = old_key is not None and old_value is not None
        if adds and removes and new_key == old_key:
            return [(new_key, Change(new_value, old_value))]
        pairs = [(old_key, Change(None, old_value))] if removes else []
        return [*pairs, (new_key, Change(new_value, None))] if adds else pairs


def table_step(node: TableFilter | TableMapValues, wiring: Wiring) -> TableStep:
    """The operator of a table's filter or map_values."""
    table = None if node.store is None else wiring.materialized(node.store, send_old=node.send_old)
    return TableStep(node, table, wiring.context, wiring.forward)


def table_step_getter(node: TableFilter | TableMapValues, wiring: Wiring) -> TableGetter:
    """How to read a filter or map_values that has no store."""
    return ComputedGetter(wiring.getter(node.parents[0]), step_of(node))


def step_of(node: TableFilter | TableMapValues) -> Step:
    """What a filter or map_values does to a value of the table above it."""
    if isinstance(node, TableFilter):
        predicate, negate = node.predicate, node.negate
        return lambda key, value: value if bool(predicate(key, value)) is not negate else None
    mapper = node.mapper
    return mapper if node.with_key else lambda _key, value: mapper(value)


def table_group_by(node: TableGroupBy, wiring: Wiring) -> TableGroupByOperator:
    """The operator of a table's group_by."""
    return TableGroupByOperator(node, wiring.context, wiring.forward)


def _records(batch: RecordBatch, rows: list[int], keys: list[Any], changes: list[Change]) -> RecordBatch:
    headers: list[Headers] | None = None if batch.headers is None else [batch.headers[row] for row in rows]
    return RecordBatch(
        keys,
        changes,
        [batch.timestamps[row] for row in rows],
        None if batch.offsets is None else [batch.offsets[row] for row in rows],
        headers,
    )
