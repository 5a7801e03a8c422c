"""Updates of a versioned table: out-of-order ones change its past, and those older than its history nothing at all.

What follows such a table is told which updates are the latest of their keys; those that were not put are not passed on.
The old value of an update is that of the latest version, even if the update goes before it.

Source: KIP-914, KeyValueStoreWrapper. Next: `join_table`, which looks up the past.
"""

from collections.abc import Iterator
from itertools import compress
from typing import Any

from streamlib.record import ChangeBatch, RecordBatch
from streamlib.state.versioned import IS_LATEST, NOT_PUT, VersionedStore


def put(store: VersionedStore[Any], raws: list[bytes], changes: ChangeBatch) -> tuple[list[bytes], ChangeBatch]:
    """Put versions; the store keys and the updates that go down the plan."""
    ends = store.put_versions(raws, changes.values, changes.timestamps)
    return _passed_on(raws, changes, ends)


def replace(
    store: VersionedStore[Any], raws: list[bytes], batch: RecordBatch, *, send_old: bool
) -> tuple[list[bytes], ChangeBatch]:
    """The same for records, whose old values are those of the store."""
    latest: dict[bytes, Any] = {}
    if send_old:
        distinct = list(set(raws))
        found = zip(distinct, store.get_many(distinct), strict=True)
        latest = {raw: None if row is None else row[0] for raw, row in found}
    ends = store.put_versions(raws, batch.values, batch.timestamps)
    olds: list[Any] = []
    if send_old:
        for raw, value, end in zip(raws, batch.values, ends, strict=True):
            olds.append(latest[raw])
            if end == IS_LATEST:
                latest[raw] = value
    changes = ChangeBatch(
        batch.keys, batch.values, batch.timestamps, batch.offsets, batch.headers, olds if send_old else None
    )
    return _passed_on(raws, changes, ends)


def runs_of_distinct(raws: list[bytes]) -> Iterator[tuple[int, int]]:
    """The batch in parts, each as (start, end), in none of which a key comes twice.

    For changes that depend on what the store has made of the ones before them.
    """
    start, seen = 0, set[bytes]()
    for row, raw in enumerate(raws):
        if raw in seen:
            yield start, row
            start = row
            seen.clear()
        seen.add(raw)
    if start < len(raws):
        yield start, len(raws)


def _passed_on(raws: list[bytes], changes: ChangeBatch, ends: list[int]) -> tuple[list[bytes], ChangeBatch]:
    changes.latest = [end == IS_LATEST for end in ends]
    if NOT_PUT in ends:
        keep = [end != NOT_PUT for end in ends]
        raws = list(compress(raws, keep))
        changes = ChangeBatch(
            list(compress(changes.keys, keep)),
            list(compress(changes.values, keep)),
            list(compress(changes.timestamps, keep)),
            None if changes.offsets is None else list(compress(changes.offsets, keep)),
            None if changes.headers is None else list(compress(changes.headers, keep)),
            None if changes.olds is None else list(compress(changes.olds, keep)),
            list(compress(changes.latest, keep)),
        )
    if changes.latest and all(changes.latest):
        changes.latest = None
    return raws, changes
