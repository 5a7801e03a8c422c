"""A table's values made by user code that may keep state: `KTable.transform_values`.

Without a store of its own the table's old values are computed like its new ones, and so are the rows that a join reads,
by a transformer of the join's own. Source: KTableTransformValues. Next: `node_context`, what a transformer asks.
"""

import logging
from collections.abc import Sequence
from typing import Any

from streamlib.errors import ProcessingError
from streamlib.operators.base import Forward
from streamlib.operators.getters import FetchAsOf, TableGetter
from streamlib.operators.materialized import Materialized
from streamlib.operators.node_context import NO_RECORD, NOT_THE_USERS, NodeContext
from streamlib.operators.outbox import AnyRecord, Outbox
from streamlib.operators.selection import rows_of
from streamlib.operators.store_access import StoreAccess
from streamlib.operators.table_rows import Row
from streamlib.operators.wiring import Wiring, no_child
from streamlib.record import ChangeBatch, RecordBatch
from streamlib.topology.processor_api import Punctuator
from streamlib.topology.processor_nodes import TableTransformValues

log = logging.getLogger(__name__)

UNKNOWN_TIMESTAMP = -1


def nothing(batch: RecordBatch) -> None:
    """Take what is never sent."""


class NoOutbox(Outbox):
    """For user code whose results are what it returns."""

    def __init__(self) -> None:
        super().__init__(nothing, no_child, frozenset())

    def add(self, record: AnyRecord, offset: int | None, to: str | None) -> None:
        """Refuse.

        Raises:
            ValueError: Always.
        """
        msg = "a value transformer cannot forward: it returns the new value"
        raise ValueError(msg)


class Transformer:
    """One transformer of the user's, with its context.

    Args:
        node: Which one.
        wiring: Its surroundings.
    """

    def __init__(self, node: TableTransformValues, wiring: Wiring) -> None:
        self._node = node
        self._context = wiring.context
        self._access = StoreAccess(wiring.topology, wiring.stores, wiring.tables, node.name, node.used)
        self._transformer: Any = None
        self.at: NodeContext | None = None

    def init(self) -> None:
        """Begin. Raises as `begin`."""
        self.begin()

    def begin(self) -> NodeContext:
        """Make the transformer and let it begin; one that was there is closed.

        Raises:
            ProcessingError: The supplier, or the transformer's ``init``, raised.
        """
        self.close()
        node = self._node
        at = NodeContext(node.name, self._context, self._access, NoOutbox(), fixed_key=False)
        at.punctuate = self._punctuate
        at.timestamp = max(self._context.stream_time, 0)
        try:
            self._transformer = node.supplier()
            self._transformer.init(at)
        except NOT_THE_USERS:
            raise
        except Exception as error:
            msg = f"the transformer could not begin, {error!r}: task={self._context.task_id} node={node.name}"
            raise ProcessingError(msg) from error
        self.at = at
        return at

    def transform(self, key: Any, value: Any) -> Any:
        """The new value. Raises what the user's code raises."""
        return self._transformer.transform(key, value)

    def close(self) -> None:
        """Close the transformer; what it raises is logged."""
        transformer, self._transformer, self.at = self._transformer, None, None
        if transformer is not None:
            try:
                transformer.close()
            except Exception as error:
                log.warning("a transformer could not be closed: node=%s: %r", self._node.name, error)

    def _punctuate(self, punctuator: Punctuator, now: int) -> None:
        if self.at is None:
            return
        self.at.key, self.at.timestamp, self.at.offset = NO_RECORD, now, None
        try:
            punctuator(now)
        except NOT_THE_USERS:
            raise
        except Exception as error:
            self._context.errors.failed(error, self._node.name, None, None, now, None)


class TransformValuesOperator:
    """A table of transformed values.

    Args:
        node: What to do.
        table: Where its rows are; None when it has no store.
        wiring: Its surroundings.
    """

    def __init__(self, node: TableTransformValues, table: Materialized | None, wiring: Wiring) -> None:
        self._node = node
        self._table = table
        self._errors = wiring.context.errors
        self._forward: Forward = wiring.forward
        self._transformer = Transformer(node, wiring)

    def init(self) -> None:
        """Make a transformer and let it begin. Raises as `Transformer.begin`."""
        self._transformer.begin()

    def process(self, batch: RecordBatch) -> None:
        """Transform the new value of each row, and the old one where it is wanted and not stored."""
        assert isinstance(batch, ChangeBatch)
        node, transform, at = self._node, self._transformer.transform, self._transformer.at
        assert at is not None, f"{node.name} was not initialized"
        computes_olds = node.send_old and self._table is None
        news: list[Any] = []
        olds: list[Any] = []
        keep: list[bool] = []
        for row, (key, value, timestamp) in enumerate(zip(batch.keys, batch.values, batch.timestamps, strict=True)):
            offset = None if batch.offsets is None else batch.offsets[row]
            at.key, at.timestamp, at.offset = key, timestamp, offset
            new = old = None
            try:
                new = transform(key, value)
                if computes_olds:
                    old = transform(key, None if batch.olds is None else batch.olds[row])
                keep.append(True)
            except NOT_THE_USERS:
                raise
            except Exception as error:
                self._errors.failed(error, node.name, key, value, timestamp, offset)
                keep.append(False)
            news.append(new)
            olds.append(old)
        at.key, at.offset = NO_RECORD, None
        result = RecordBatch(batch.keys, news, batch.timestamps, batch.offsets, batch.headers)
        if not all(keep):
            result = rows_of(result, keep)
            olds = [old for old, kept in zip(olds, keep, strict=True) if kept]
        if not len(result):
            return
        if self._table is not None:
            self._table.replace(result)
            return
        changes = ChangeBatch(result.keys, result.values, result.timestamps, result.offsets, result.headers)
        changes.olds = olds if computes_olds else None
        self._forward(changes)

    def flush(self, rows_max: int | None = None) -> int:
        """Write and forward cached updates; returns how many are left."""
        return 0 if self._table is None else self._table.flush(rows_max)

    def close(self) -> None:
        """Close the transformer."""
        self._transformer.close()


class TransformedGetter:
    """Reads a table of transformed values that has no store, also where the table above has no row.

    Args:
        above: Reads the table above.
        transformer: Makes the values; one of its own, so that it sees only what is read.

    Source: KTableTransformValuesGetter.
    """

    stored = False

    def __init__(self, above: TableGetter, transformer: Transformer) -> None:
        self._above = above
        self._transformer = transformer
        self.fetch_as_of: FetchAsOf | None = None
        if (as_of := above.fetch_as_of) is not None:
            self.fetch_as_of = lambda keys, times: [(found,) for found in as_of(keys, times)]

    def fetch(self, keys: list[Any]) -> Sequence[Any]:
        """What the table above has for keys, never None: there is always something to compute."""
        return [(found,) for found in self._above.fetch(keys)]

    def compute(self, key: Any, found: Any) -> Row | None:
        """The transformed value, at the time of the row above; `UNKNOWN_TIMESTAMP` where there is none."""
        (row,) = found
        if row is not None and not self._above.stored:
            row = self._above.compute(key, row)
        value, timestamp = (None, UNKNOWN_TIMESTAMP) if row is None else (row[0], row[1])
        at = self._transformer.at
        assert at is not None, "the transformer of a getter was not initialized"
        at.key, at.timestamp, at.offset = key, timestamp, None
        new = self._transformer.transform(key, value)
        at.key = NO_RECORD
        return None if new is None else (new, timestamp)


def transform_values(node: TableTransformValues, wiring: Wiring) -> TransformValuesOperator:
    """The operator of a table's transform_values."""
    table = None if node.store is None else wiring.materialized(node.store, send_old=node.send_old)
    return TransformValuesOperator(node, table, wiring)


def transformed_getter(node: TableTransformValues, wiring: Wiring) -> TableGetter:
    """How to read a table of transformed values that has no store."""
    transformer = Transformer(node, wiring)
    wiring.beside.append(transformer)
    return TransformedGetter(wiring.getter(node.parents[0]), transformer)
