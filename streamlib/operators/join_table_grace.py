"""A stream looks up a versioned table some time later, so that updates of the table that come late are seen.

Records wait in a buffer until stream time has left them behind by the grace, and go in the order of their time; they
meet the table as of that time. One that is late by more is joined at once, and waits for nobody. The time is the
buffer's own, the largest timestamp of all records that had a key and a value.

A record on which the joiner fails is lost when errors are skipped. In the Java library it would stay in the buffer,
fail again with each record that comes, and let nothing after it go.

Source: KStreamKTableJoinProcessor with a buffer, KIP-923. Next: `state/join_buffer`, where records wait.
"""

from collections.abc import Iterable, Iterator
from itertools import groupby, repeat
from typing import Any

from streamlib.errors import DeserializationError, SerdeError
from streamlib.operators.base import OperatorContext
from streamlib.operators.join_table import TableLookup, stream_table_join
from streamlib.operators.selection import rows_of
from streamlib.operators.wiring import Wiring
from streamlib.record import RecordBatch
from streamlib.serdes.base import AnySerde, any_none
from streamlib.state.buffered_rows import NOWHERE, UNKNOWN_OFFSET, BufferedRow, Origin, decode, encode
from streamlib.state.join_buffer import PREFIX_BYTES, SEQUENCE_BYTES, JoinBuffer, Waiting
from streamlib.state.spec import StoreSpec
from streamlib.topology.nodes import StreamTableJoin

Due = tuple[Any, Any, Origin]
"""Key, value and origin of a record that is joined now."""


class DelayedLookup:
    """Joins records with what a table had at their time, once they have waited.

    Args:
        node: What to do.
        lookup: Joins records.
        buffer: Where they wait.
        spec: The buffer's, for its serdes.
        context: Errors, time, and where records come from.
    """

    def __init__(
        self, node: StreamTableJoin, lookup: TableLookup, buffer: JoinBuffer, spec: StoreSpec, context: OperatorContext
    ) -> None:
        assert node.grace_ms is not None
        self._node = node
        self._grace_ms = node.grace_ms
        self._lookup = lookup
        self._buffer = buffer
        self._key_serde: AnySerde = spec.key_serde
        self._value_serde: AnySerde = spec.value_serde
        self._context = context

    def load(self) -> Iterator[None]:
        """Take the time from what waits, in steps."""
        return self._buffer.loading()

    def init(self) -> None:
        """The same at once, unless it is known."""
        self._buffer.load()

    def process(self, batch: RecordBatch) -> None:
        """Let records wait, and join those that need not any more.

        Raises:
            SerdeError: A key or value does not fit its serde.
        """
        batch = self._with_keys(self._lookup.joinable(batch)[0])
        if not len(batch):
            return
        origins = list(self._origins(batch))
        keys, values = self._raw(self._key_serde, batch.keys), self._raw(self._value_serde, batch.values)
        rows = [encode(BufferedRow(0, None, None, raw, origin)) for raw, origin in zip(values, origins, strict=True)]
        gone = self._buffer.exchange(
            keys, batch.timestamps, rows, grace_ms=self._grace_ms, now_ms=self._context.clock.time_ms()
        )
        self._join(
            [
                (batch.keys[each], batch.values[each], origins[each]) if isinstance(each, int) else self._decoded(each)
                for each in gone
            ]
        )

    def _with_keys(self, batch: RecordBatch) -> RecordBatch:
        """Fail for records that have no key, which a left join would take, as in the Java library."""
        if not any_none(batch.keys):
            return batch
        offsets = repeat(None) if batch.offsets is None else batch.offsets
        for key, value, timestamp, offset in zip(batch.keys, batch.values, batch.timestamps, offsets, strict=False):
            if key is None:
                msg = "a join with grace cannot hold back a record without key; filter them out before it"
                self._context.errors.failed(ValueError(msg), self._node.name, key, value, timestamp, offset)
        return rows_of(batch, [key is not None for key in batch.keys])

    def _origins(self, batch: RecordBatch) -> Iterable[Origin]:
        offsets = repeat(UNKNOWN_OFFSET) if batch.offsets is None else batch.offsets
        headers: Iterable[Any] = repeat(()) if batch.headers is None else batch.headers
        return zip(batch.timestamps, offsets, repeat(self._context.tp or NOWHERE, len(batch)), headers, strict=False)

    def _raw(self, serde: AnySerde, column: list[Any]) -> list[Any]:
        try:
            return serde.serialize_many(column)
        except Exception as error:
            msg = (
                f"the serde {serde.name} cannot write what a join with grace holds back: {error}: "
                f"node={self._node.name}. Give the operation that makes it the serde that fits."
            )
            raise SerdeError(msg) from error

    def _decoded(self, waiting: Waiting) -> Due:
        row_key, data = waiting
        row = decode(data)
        try:
            key = self._key_serde.deserialize(row_key[PREFIX_BYTES:-SEQUENCE_BYTES])
            return key, self._value_serde.deserialize(row.new or b""), row.origin
        except Exception as error:
            msg = (
                f"a record that was held back is refused by its serdes {self._key_serde.name} and "
                f"{self._value_serde.name}: {error}: node={self._node.name}; a stream whose type changed needs another "
                "name for the join, or a reset of the application"
            )
            raise DeserializationError(msg) from error

    def _join(self, due: list[Due]) -> None:
        """Join records as if they were at hand now, one run after the other of those that came from one place."""
        context, before = self._context, self._context.tp
        try:
            for (tp, knows_offsets), run in groupby(due, lambda each: (each[2][2], each[2][1] != UNKNOWN_OFFSET)):
                keys, values, origins = map(list, zip(*run, strict=True))
                timestamps, offsets, _, headers = map(list, zip(*origins, strict=True))
                context.tp = None if tp == NOWHERE else tp
                batch = RecordBatch(
                    keys, values, timestamps, offsets if knows_offsets else None, headers if any(headers) else None
                )
                self._lookup.join(batch, keys)
        finally:
            context.tp = before


def stream_table_join_with_grace(node: StreamTableJoin, wiring: Wiring) -> TableLookup | DelayedLookup:
    """The operator of a stream-table join, with grace or without."""
    lookup = stream_table_join(node, wiring)
    if node.buffer is None:
        return lookup
    buffer = wiring.stores[node.buffer]
    assert isinstance(buffer, JoinBuffer)
    return DelayedLookup(node, lookup, buffer, wiring.topology.stores[node.buffer], wiring.context)
