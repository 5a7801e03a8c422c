"""Two tables joined by their common key: an update of either side meets the other side's current row.

Results go down the plan as updates of the joined table, with the later of both timestamps. A deletion comes out
whenever the other side has a row, also where there never was a result: without a store of its own the joined table does
not know. A table joined with itself meets its own new row on both sides, so each update comes out twice.

Source: KTableKTableInnerJoin, -LeftJoin, -RightJoin, -OuterJoin, KTableKTableJoinMerger; KIP-914 for updates that are
not the latest. Next: `table`, what follows a table.
"""

from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any

from streamlib.operators.base import Forward, OperatorContext
from streamlib.operators.getters import FetchAsOf, TableGetter
from streamlib.operators.materialized import Materialized
from streamlib.operators.table_rows import Row
from streamlib.operators.wiring import Wiring
from streamlib.record import ChangeBatch, RecordBatch
from streamlib.serdes.base import any_none
from streamlib.topology.table_join_nodes import TableJoin, TableJoinMerge


class TableJoinSide:
    """The updates of one side.

    Args:
        node: What to do.
        getter: Reads the other side.
        context: Errors and counters.
        forward: Where results go.
    """

    def __init__(self, node: TableJoin, getter: TableGetter, context: OperatorContext, forward: Forward) -> None:
        self._node = node
        self._getter = getter
        self._context = context
        self._forward = forward
        joiner = node.joiner
        self._join: Callable[[Any, Any], Any] = (lambda own, other: joiner(other, own)) if node.is_right else joiner

    def process(self, batch: RecordBatch) -> None:
        """Join the new value of each row, and the old one where it is wanted."""
        assert isinstance(batch, ChangeBatch)
        batch = self._joinable(batch)
        node, join, keeps_own, keeps_other = self._node, self._join, self._node.keeps_own, self._node.keeps_other
        stored, compute = self._getter.stored, self._getter.compute
        rows: list[int] = []
        news: list[Any] = []
        olds: list[Any] = []
        timestamps: list[int] = []
        columns = zip(
            batch.keys,
            batch.values,
            repeat(None, len(batch)) if batch.olds is None else batch.olds,
            batch.timestamps,
            self._getter.fetch(batch.keys),
            strict=True,
        )
        for row, (key, new, old, timestamp, found) in enumerate(columns):
            try:
                match = found if stored or found is None else compute(key, found)
                if match is None:
                    if not keeps_own or (new is None and old is None):
                        continue
                    other, always = None, False
                else:
                    other, always = match[0], keeps_other
                    timestamp = max(timestamp, match[1])  # noqa: PLW2901
                result = join(new, other) if always or new is not None else None
                before = join(old, other) if node.send_old and (always or old is not None) else None
            except Exception as error:
                offset = None if batch.offsets is None else batch.offsets[row]
                self._context.errors.failed(error, node.name, key, new, batch.timestamps[row], offset)
                continue
            rows.append(row)
            news.append(result)
            olds.append(before)
            timestamps.append(timestamp)
        if rows:
            self._forward(_updates(batch, rows, news, timestamps, olds if node.send_old else None))

    def _joinable(self, batch: ChangeBatch) -> ChangeBatch:
        """The rows that take part; the others are counted."""
        if batch.latest is None and not any_none(batch.keys):
            return batch
        latest = batch.latest or repeat(True, len(batch))
        keyed = [key is not None for key in batch.keys]
        rows = [row for row, taken in enumerate(zip(keyed, latest, strict=True)) if all(taken)]
        no_key = len(keyed) - sum(keyed)
        if no_key:
            self._context.metrics.dropped(self._node.name, "null-key", no_key)
        if len(batch) - no_key > len(rows):
            self._context.metrics.dropped(self._node.name, "not-latest", len(batch) - no_key - len(rows))
        olds = None if batch.olds is None else _picked(batch.olds, rows)
        return _updates(batch, rows, _picked(batch.values, rows), _picked(batch.timestamps, rows), olds)


class TableMerge:
    """The joined table, which takes the results of both sides.

    Args:
        table: Its rows.
    """

    def __init__(self, table: Materialized) -> None:
        self._table = table

    def process(self, batch: RecordBatch) -> None:
        """Write the rows and pass them on; their old values are those that the join has computed, not the store's."""
        assert isinstance(batch, ChangeBatch)
        if self._table.rows.cache is None:
            self._table.write(self._table.rows.raw_keys(batch.keys), batch)
        else:
            self._table.replace(batch)

    def flush(self, rows_max: int | None = None) -> int:
        """Write and forward cached updates; returns how many are left."""
        return self._table.flush(rows_max)


class PassingMerge:
    """The joined table when it has no store: passes the results of both sides on.

    Args:
        forward: Where they go.
    """

    def __init__(self, forward: Forward) -> None:
        self.process = forward


class JoinGetter:
    """Reads a join that has no store, by joining the rows of both sides; not as they were at another time.

    Args:
        node: The left side of the join.
        left: Reads the left table.
        right: Reads the right table.
    """

    stored = False
    fetch_as_of: FetchAsOf | None = None

    def __init__(self, node: TableJoin, left: TableGetter, right: TableGetter) -> None:
        self._joiner = node.joiner
        self._keeps_left, self._keeps_right = node.keeps_own, node.keeps_other
        self._left = left
        self._right = right

    def fetch(self, keys: list[Any]) -> Sequence[Any]:
        """What each side has for keys, as pairs; None where neither has anything."""
        pairs = zip(self._left.fetch(keys), self._right.fetch(keys), strict=True)
        return [None if pair[0] is None and pair[1] is None else pair for pair in pairs]

    def compute(self, key: Any, found: Any) -> Row | None:
        """The joined value, with the later timestamp of both sides."""
        if found is None:
            return None
        left = None if found[0] is None else self._left.compute(key, found[0])
        if left is None and not self._keeps_right:
            return None
        right = None if found[1] is None else self._right.compute(key, found[1])
        if right is None and not (left is not None and self._keeps_left):
            return None
        value = self._joiner(None if left is None else left[0], None if right is None else right[0])
        if value is None:
            return None
        return value, max(row[1] for row in (left, right) if row is not None)


def table_join(node: TableJoin, wiring: Wiring) -> TableJoinSide:
    """The operator of one side of a table join."""
    return TableJoinSide(node, wiring.getter(node.table), wiring.context, wiring.forward)


def table_join_merge(node: TableJoinMerge, wiring: Wiring) -> TableMerge | PassingMerge:
    """The operator of a joined table."""
    if node.store is None:
        return PassingMerge(wiring.forward)
    return TableMerge(wiring.materialized(node.store, send_old=node.send_old))


def table_join_getter(node: TableJoinMerge, wiring: Wiring) -> TableGetter:
    """How to read a joined table that has no store."""
    side = wiring.topology.nodes[node.parents[0]]
    assert isinstance(side, TableJoin)
    return JoinGetter(side, wiring.getter(side.parents[0]), wiring.getter(side.table))


def _updates(
    batch: ChangeBatch, rows: list[int], news: list[Any], timestamps: list[int], olds: list[Any] | None
) -> ChangeBatch:
    """Updates that come from the given rows of a batch; its other columns go on as they are when all rows stay."""
    if len(rows) == len(batch):
        return ChangeBatch(batch.keys, news, timestamps, batch.offsets, batch.headers, olds)
    return ChangeBatch(
        _picked(batch.keys, rows),
        news,
        timestamps,
        None if batch.offsets is None else _picked(batch.offsets, rows),
        None if batch.headers is None else _picked(batch.headers, rows),
        olds,
    )


def _picked(column: list[Any], rows: list[int]) -> list[Any]:
    return [column[row] for row in rows]
