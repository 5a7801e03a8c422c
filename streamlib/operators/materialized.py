"""How an operator owns a table: every update goes to the store and down the plan, now or at the next flush.

Without a write cache (direct) each update is written and forwarded at once. With one, only the last update of each key
since the previous flush is, in the order in which the keys were last updated; its old value is the one in the store.
So caching changes results, as in the Java library: fewer updates, and other old values.

Source: TimestampedTupleForwarder, CachingKeyValueStore.putAndMaybeForward. Next: `table_source`, `table`, `aggregate`.
"""

from collections.abc import Callable
from typing import Any

from streamlib.operators import versions
from streamlib.operators.base import Forward
from streamlib.operators.cached_origins import forward_from
from streamlib.operators.selection import picked, rows_of
from streamlib.operators.table_rows import TableRows
from streamlib.record import ChangeBatch, RecordBatch
from streamlib.serdes.base import any_none
from streamlib.state.versioned import VersionedStore

Outgoing = Callable[[list[bytes], list[Any]], list[Any]]
"""Store keys and incoming keys to the keys that go down the plan."""


class Materialized:
    """A table as its operator writes it.

    Attributes:
        rows: Its rows.
        send_old: Whether updates carry the value before them.
    """

    def __init__(self, rows: TableRows, forward: Forward, *, send_old: bool, outgoing: Outgoing | None = None) -> None:
        self.rows = rows
        self.send_old = send_old
        self._forward = forward
        self._outgoing = outgoing
        self._plain_keys = rows.spec.kind != "window"

    def replace(self, batch: RecordBatch, *, unless_absent: bool = False) -> None:
        """Set the row of each key, of which none is None, to the value that came; None deletes it.

        Args:
            batch: The updates.
            unless_absent: Leave out deletions of rows that are not there.
        """
        raws: list[Any] = self.rows.raw_keys(batch.keys)
        if isinstance(self.rows.store, VersionedStore) and not unless_absent:
            self._pass_on(*versions.replace(self.rows.store, raws, batch, send_old=self.send_old))
            return
        if isinstance(self.rows.store, VersionedStore):
            # What is there depends on what became of the updates before, so no key may come twice.
            for start, end in versions.runs_of_distinct(raws):
                self._replace(raws[start:end], picked(batch, list(range(start, end))), unless_absent=True)
            return
        self._replace(raws, batch, unless_absent=unless_absent)

    def _replace(self, raws: list[bytes], batch: RecordBatch, *, unless_absent: bool) -> None:
        cache = self.rows.cache
        may_be_absent = unless_absent and any_none(batch.values)
        olds = self._olds(raws, batch) if may_be_absent or (self.send_old and cache is None) else None
        if may_be_absent and olds is not None:
            keep = [value is not None or old is not None for value, old in zip(batch.values, olds, strict=True)]
            if not all(keep):
                raws = [raw for raw, kept in zip(raws, keep, strict=True) if kept]
                olds = [old for old, kept in zip(olds, keep, strict=True) if kept]
                batch = rows_of(batch, keep)
        if not raws:
            return
        if cache is None:
            changes = ChangeBatch(batch.keys, batch.values, batch.timestamps, batch.offsets, batch.headers)
            changes.olds = olds if self.send_old else None
            self.write(raws, changes)
            return
        cache.put_many(raws, batch.values, batch.timestamps, batch.keys, batch.headers)
        self.relieve(batch.offsets)

    def write(self, raws: list[bytes], changes: ChangeBatch, logged_at: list[int] | None = None) -> None:
        """Write updates to the store and forward them.

        Args:
            raws: Their store keys.
            changes: The updates, under their incoming keys.
            logged_at: Timestamps in store and changelog, where they differ from those that go down the plan.
        """
        if isinstance(self.rows.store, VersionedStore):
            # A version is logged at its own time, also where it deletes.
            self._pass_on(*versions.put(self.rows.store, raws, changes))
            return
        self.rows.store.put_many(raws, changes.values, logged_at or changes.timestamps)
        self._pass_on(raws, changes)

    def flush(self, rows_max: int | None = None) -> int:
        """Write and forward the ``rows_max`` cached updates that are oldest (None: all); returns how many are left."""
        cache = self.rows.cache
        if cache is None or not cache.dirty:
            return 0
        changes, origins = cache.flush(rows_max), self.rows.origins
        if changes is not None and origins is None:
            self._send(changes)
        elif changes is not None and origins is not None:
            forward_from(origins.of(cache.flushed_turns), changes, origins.context, self._send)
            origins.forget(cache.flushed_turn)
        return len(cache.dirty)

    def relieve(self, offsets: list[int] | None) -> None:
        """Flush the oldest updates if the cache is full, so that a quarter of it is free again.

        Args:
            offsets: Of the records that were cached last.
        """
        cache = self.rows.cache
        if cache is not None and self.rows.origins is not None:
            self.rows.origins.note(cache.turn, offsets)
        if cache is not None and cache.is_full():
            self.flush(len(cache.dirty) - cache.max_entries * 3 // 4)

    def _pass_on(self, raws: list[bytes], changes: ChangeBatch) -> None:
        if raws:
            changes.store_keys = raws
            self._send(changes)

    def _send(self, changes: ChangeBatch) -> None:
        if self._outgoing is not None:
            assert changes.store_keys is not None
            changes.keys = self._outgoing(changes.store_keys, changes.keys)
        elif self._plain_keys and changes.store_keys is not None:
            raws: list[Any] = changes.store_keys
            changes.keys = self.rows.spec.key_serde.with_bytes(changes.keys, raws)
        self._forward(changes)

    def _olds(self, raws: list[bytes], batch: RecordBatch) -> list[Any]:
        """The value before each update, counting the updates above it in the same batch."""
        distinct = list(set(raws))
        rows = zip(distinct, self.rows.get_many(distinct), strict=True)
        values = {raw: None if row is None else row[0] for raw, row in rows}
        olds = []
        for raw, value in zip(raws, batch.values, strict=True):
            olds.append(values[raw])
            values[raw] = value
        return olds
