"""The loops of an aggregation: for each record, the row of its store key becomes a new one.

Four of them, because each is hot: counting and user functions, each at once (direct) and into the write cache. What
differs between plain and windowed aggregations, the store keys, comes in as a column.

Next: `materialized`, which takes the results.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import compress, count, repeat
from typing import Any

from streamlib.operators.base import ErrorHandler
from streamlib.operators.materialized import Materialized
from streamlib.operators.selection import picked, rows_of
from streamlib.operators.table_rows import Row, isolated
from streamlib.operators.versions import runs_of_distinct
from streamlib.record import ChangeBatch, RecordBatch
from streamlib.serdes.base import any_none
from streamlib.state.cache import HEADERS, NAME, TIMESTAMP, TURN, VALUE
from streamlib.state.versioned import VersionedStore
from streamlib.topology.nodes import StreamAggregate, WindowAggregate
from streamlib.topology.session_nodes import SessionAggregate

Step = Callable[[Any, Any, Any], Any]
"""(key, value, aggregate so far) to the new aggregate."""

Apply = Callable[[list[bytes], RecordBatch, list[int] | None], None]


@dataclass(frozen=True)
class Functions:
    """What an aggregation does with one record.

    Attributes:
        initializer: Gives the aggregate before the first record.
        step: Gives the next one; None deletes the row.
        counts: The step only adds 1.
    """

    initializer: Callable[[], Any]
    step: Step
    counts: bool = False


class Fold:
    """Applies records to rows.

    Args:
        node: The operator's name, for errors.
        functions: What to do.
        table: The rows.
        errors: Asked when a user function raises: the record is then left out.

    Attributes:
        apply: Takes the store key of each row, the rows, and for each row the number of the record it comes from (None:
            each row is a record). Writes and forwards the results, or leaves them in the cache.
        lost_end: The row after the last one that was left out because a function raised; set it to 0 before `apply`.
    """

    def __init__(self, node: str, functions: Functions, table: Materialized, errors: ErrorHandler) -> None:
        self._node = node
        self._initializer, self._step = functions.initializer, functions.step
        self._table = table
        self._errors = errors
        self.lost_end = 0
        # An aggregator may change its aggregate in place. What others still hold (an old value that was sent, a result
        # that waits in an output column) must not change with it.
        serde = table.rows.spec.value_serde
        self._isolate = None if serde.immutable else isolated(serde)
        self.apply: Apply
        if functions.counts:
            self.apply = self._count_cached if (table.rows.cache is not None) else self._count_directly
        else:
            self.apply = self._fold_cached if (table.rows.cache is not None) else self._fold_directly
        if isinstance(table.rows.store, VersionedStore):
            self.apply = self._of_distinct_keys(self.apply)

    @staticmethod
    def _of_distinct_keys(apply: Apply) -> Apply:
        """Apply records part by part, in none of which a key comes twice.

        Whether a version becomes the latest one, only the store can tell: it may be older than a deletion.
        """

        def in_parts(raws: list[bytes], batch: RecordBatch, origins: list[int] | None) -> None:
            assert origins is None, "windowed stores are not versioned"
            for start, end in runs_of_distinct(raws):
                part = batch if end - start == len(raws) else picked(batch, list(range(start, end)))
                apply(raws[start:end], part, None)

        return in_parts

    def _count_directly(self, raws: list[bytes], batch: RecordBatch, origins: list[int] | None) -> None:
        rows = self._stored(raws)
        counts: list[Any] = []
        timestamps: list[int] = []
        for raw, timestamp in zip(raws, batch.timestamps, strict=True):
            row = rows[raw]
            if row is None:
                row = (1, timestamp)
            else:
                before = row[1]
                row = (row[0] + 1, timestamp if timestamp > before else before)
            rows[raw] = row
            counts.append(row[0])
            timestamps.append(row[1])
        olds = [number - 1 for number in counts] if self._table.send_old else None
        self._table.write(raws, ChangeBatch(batch.keys, counts, timestamps, batch.offsets, batch.headers, olds))

    def _count_cached(self, raws: list[bytes], batch: RecordBatch, origins: list[int] | None) -> None:
        cache = self._table.rows.cache
        assert cache is not None
        entries = cache.entries_of(raws)
        dirty, turn, flushed_turn = cache.dirty, cache.turn, cache.flushed_turn
        headers = batch.headers or repeat(None)
        for entry, name, timestamp, header in zip(entries, batch.keys, batch.timestamps, headers, strict=False):
            number, before, _, held, last_turn, _ = entry
            if number is None:
                entry[VALUE], entry[TIMESTAMP] = 1, timestamp
            else:
                entry[VALUE] = number + 1
                if timestamp > before:
                    entry[TIMESTAMP] = timestamp
            if held is not header:
                entry[HEADERS] = header
            turn += 1
            if last_turn <= flushed_turn:
                dirty.append(entry)
                entry[NAME] = name
            entry[TURN] = turn
        cache.turn = turn
        self._table.relieve(batch.offsets)

    def _fold_directly(self, raws: list[bytes], batch: RecordBatch, origins: list[int] | None) -> None:
        rows = self._stored(raws)
        initializer, step, isolate, send_old = self._initializer, self._step, self._isolate, self._table.send_old
        values: list[Any] = []
        timestamps: list[int] = []
        olds: list[Any] = []
        lost: list[int] = []
        records = zip(raws, batch.keys, batch.values, batch.timestamps, strict=True)
        for raw, key, value, timestamp in records:
            row = rows[raw]
            try:
                if row is None:
                    at, old = timestamp, initializer()
                    mine = isolate(old) if isolate is not None and send_old and old is not None else old
                else:
                    old, at = row[0], row[1]
                    at = timestamp if timestamp > at else at
                    mine = old if isolate is None else isolate(old)
                new = step(key, value, mine)
            except Exception as error:
                lost.extend(self._failed(error, batch, len(values) + len(lost), records, origins))
                continue
            rows[raw] = None if new is None else (new, at)
            values.append(new)
            timestamps.append(at)
            olds.append(old)
        if lost:
            raws, batch = _without(raws, batch, lost)
        changes = ChangeBatch(batch.keys, values, timestamps, batch.offsets, batch.headers, olds if send_old else None)
        if any_none(values):  # a deletion is logged at the record's time, though it goes down the plan at the row's
            logged_at = [
                record_at if value is None else at
                for value, record_at, at in zip(values, batch.timestamps, timestamps, strict=True)
            ]
            self._table.write(raws, changes, logged_at)
        elif values:
            self._table.write(raws, changes)

    def _fold_cached(self, raws: list[bytes], batch: RecordBatch, origins: list[int] | None) -> None:
        cache = self._table.rows.cache
        assert cache is not None
        initializer, step = self._initializer, self._step
        entries = cache.entries_of(raws)
        dirty, turn, flushed_turn = cache.dirty, cache.turn, cache.flushed_turn
        headers = batch.headers or repeat(None)
        rows = zip(count(), entries, batch.keys, batch.values, batch.timestamps, headers, strict=False)
        for index, entry, key, value, timestamp, header in rows:
            aggregate, before, _, held, last_turn, _ = entry
            try:
                new = step(key, value, initializer() if aggregate is None else aggregate)
            except Exception as error:
                cache.turn = turn
                self._failed(error, batch, index, rows, origins)
                cache.reload(entry)
                continue
            if aggregate is None or new is None or timestamp > before:
                entry[TIMESTAMP] = timestamp
            entry[VALUE] = new
            if held is not header:
                entry[HEADERS] = header
            turn += 1
            if last_turn <= flushed_turn:
                dirty.append(entry)
                entry[NAME] = key
            entry[TURN] = turn
        cache.turn = turn
        self._table.relieve(batch.offsets)

    def _stored(self, raws: list[bytes]) -> dict[bytes, Row | None]:
        distinct = list(set(raws))
        return dict(zip(distinct, self._table.rows.get_many(distinct), strict=True))

    def _failed(
        self, error: Exception, batch: RecordBatch, row: int, rest: Iterator[Any], origins: list[int] | None
    ) -> range:
        """Report a row, and step over the rows of ``rest`` that come from the same record; returns all rows lost.

        A record that failed in one window is not tried in its later ones, as in the Java library.
        """
        offset = None if batch.offsets is None else batch.offsets[row]
        self._errors.failed(error, self._node, batch.keys[row], batch.values[row], batch.timestamps[row], offset)
        end = row + 1
        if origins is not None:
            while end < len(origins) and origins[end] == origins[row]:
                end += 1
            for _ in range(end - row - 1):
                next(rest)
        self.lost_end = end
        return range(row, end)


def _without(raws: list[bytes], batch: RecordBatch, lost: list[int]) -> tuple[list[bytes], RecordBatch]:
    keep = [True] * len(raws)
    for row in lost:
        keep[row] = False
    return list(compress(raws, keep)), rows_of(batch, keep)


def functions_of(node: StreamAggregate | WindowAggregate | SessionAggregate) -> Functions:
    """What a stream aggregation does; reduce takes its first value as it is, so its initial aggregate is None."""
    if node.kind == "count":
        return Functions(int, lambda _key, _value, aggregate: aggregate + 1, counts=True)
    aggregator = node.aggregator
    assert aggregator is not None, f"{node.name} has no aggregator"
    if node.kind == "reduce":
        return Functions(
            lambda: None, lambda _key, value, aggregate: value if aggregate is None else aggregator(aggregate, value)
        )
    assert node.initializer is not None, f"{node.name} has no initializer"
    return Functions(node.initializer, aggregator)
