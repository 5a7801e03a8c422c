"""A table whose rows expire: what deletes them from its store also passes the deletions on.

It stands before the operator that owns the table, and looks after each record with which rows may be due. So a record
that comes after finds them gone, in a batch as well as alone. A deletion has the store's stream time as its timestamp
and the offset of the record that has brought that time. Next: `state/expiring`, which knows what is due.
"""

from typing import Any

from streamlib.operators.base import ClosingOperator, FlushingOperator, Forward, InitializedOperator, Operator
from streamlib.operators.selection import picked
from streamlib.record import ChangeBatch, RecordBatch
from streamlib.state.expiring import ExpiringKeyValueStore
from streamlib.state.spec import StoreSpec

NEVER = 1 << 62


class ExpiringOperator:
    """An operator that owns a table, and the deletions of its rows.

    Args:
        operator: Takes the records.
        store: Of the table.
        spec: What the store is.
        forward: Where deletions go.
        send_old: Whether they carry the value before.
    """

    def __init__(
        self,
        operator: Operator,
        store: ExpiringKeyValueStore[Any],
        spec: StoreSpec,
        forward: Forward,
        *,
        send_old: bool,
    ) -> None:
        self._operator = operator
        self._store = store
        self._spec = spec
        self._forward = forward
        self._send_old = send_old
        store.asked = True

    def init(self) -> None:
        """As the operator does."""
        if isinstance(self._operator, InitializedOperator):
            self._operator.init()

    def process(self, batch: RecordBatch) -> None:
        """Have records processed, and delete rows after each with which some may be due."""
        begin, count = 0, len(batch)
        while begin < count:
            end = self._run(batch.timestamps, begin)
            self._operator.process(batch if end - begin == count else part_of(batch, begin, end))
            self._expire(batch, end - 1)
            begin = end

    def flush(self, rows_max: int | None = None) -> int:
        """As the operator does."""
        return self._operator.flush(rows_max) if isinstance(self._operator, FlushingOperator) else 0

    def close(self) -> None:
        """As the operator does."""
        if isinstance(self._operator, ClosingOperator):
            self._operator.close()

    def _run(self, timestamps: list[int], begin: int) -> int:
        """Up to where records may be processed together: after the first with which rows may be due."""
        store = self._store
        observed, due = store.observed, NEVER if store.due is None else store.due
        rest = timestamps[begin:] if begin else timestamps
        if max(observed, max(rest)) < min(due, store.due_at(min(rest))):
            return len(timestamps)
        for row in range(begin, len(timestamps)):
            timestamp = timestamps[row]
            observed, due = max(observed, timestamp), min(due, store.due_at(timestamp))
            if observed >= due:
                return row + 1
        return len(timestamps)

    def _expire(self, batch: RecordBatch, row: int) -> None:
        gone = self._store.expire()
        if not gone:
            return
        spec, count, raws = self._spec, len(gone), [key for key, _ in gone]
        keys: list[Any] = spec.key_serde.deserialize_many(list(raws))
        offsets = None if batch.offsets is None else [batch.offsets[row]] * count
        changes = ChangeBatch(keys, [None] * count, [self._store.observed] * count, offsets)
        if self._send_old:
            values: list[Any] = [value for _, value in gone]
            changes.olds = spec.value_serde.deserialize_many(values)
        changes.store_keys = raws
        self._forward(changes)


def part_of(batch: RecordBatch, begin: int, end: int) -> RecordBatch:
    """Some rows of a batch that follow each other, as updates if it is one of those."""
    part = picked(batch, list(range(begin, end)))
    if not isinstance(batch, ChangeBatch):
        return part
    changes = ChangeBatch(part.keys, part.values, part.timestamps, part.offsets, part.headers)
    changes.olds = None if batch.olds is None else batch.olds[begin:end]
    changes.latest = None if batch.latest is None else batch.latest[begin:end]
    changes.store_keys = None if batch.store_keys is None else batch.store_keys[begin:end]
    return changes
