"""Chooses rows of a batch; above all, leaves out and counts those that a stateful operator cannot take.

Source: the null checks at the top of each Kafka Streams processor. Next: the operators that use it.
"""

from collections.abc import Iterator
from itertools import compress
from typing import Any

from streamlib.metrics import Metrics
from streamlib.record import ChangeBatch, RecordBatch
from streamlib.serdes.base import any_none


def with_keys(batch: RecordBatch, node: str, metrics: Metrics) -> RecordBatch:
    """The rows that have a key; the others count as ``null-key``. The same batch when all have one."""
    if not any_none(batch.keys):
        return batch
    keep = [key is not None for key in batch.keys]
    metrics.dropped(node, "null-key", len(keep) - sum(keep))
    return rows_of(batch, keep)


def with_values(batch: RecordBatch, node: str, metrics: Metrics) -> RecordBatch:
    """The rows that have a value; the others count as ``null-value``. The same batch when all have one."""
    if not any_none(batch.values):
        return batch
    keep = [value is not None for value in batch.values]
    metrics.dropped(node, "null-value", len(keep) - sum(keep))
    return rows_of(batch, keep)


def rows_of(batch: RecordBatch, keep: list[bool]) -> RecordBatch:
    """A new batch of the rows for which ``keep`` is true."""
    return RecordBatch(
        list(compress(batch.keys, keep)),
        list(compress(batch.values, keep)),
        list(compress(batch.timestamps, keep)),
        None if batch.offsets is None else list(compress(batch.offsets, keep)),
        None if batch.headers is None else list(compress(batch.headers, keep)),
    )


def single_rows(batch: RecordBatch) -> Iterator[RecordBatch]:
    """Each row as a batch of its own, of updates if it is one of those."""
    for row in range(len(batch)):
        single = picked(batch, [row])
        if isinstance(batch, ChangeBatch):
            olds, latest, store_keys = batch.olds, batch.latest, batch.store_keys
            change = ChangeBatch(single.keys, single.values, single.timestamps, single.offsets, single.headers)
            change.olds = None if olds is None else [olds[row]]
            change.latest = None if latest is None else [latest[row]]
            change.store_keys = None if store_keys is None else [store_keys[row]]
            single = change
        yield single


def picked(
    batch: RecordBatch, rows: list[int], values: list[Any] | None = None, keys: list[Any] | None = None
) -> RecordBatch:
    """A new batch of the given rows, in that order, repeated if need be; with other ``values``, ``keys`` if given."""

    def pick(column: list[Any]) -> list[Any]:
        return [column[row] for row in rows]

    return RecordBatch(
        pick(batch.keys) if keys is None else keys,
        pick(batch.values) if values is None else values,
        pick(batch.timestamps),
        None if batch.offsets is None else pick(batch.offsets),
        None if batch.headers is None else pick(batch.headers),
    )
