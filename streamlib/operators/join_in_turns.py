"""A stream-stream join takes records of both sides that arrive in turns, with one pass over each side's columns.

Where both streams have records at the same times, the runs between them are very short. Here each side's records come
as one batch, numbered in the order in which they are to be joined. What does not depend on that order is done a batch
at a time: what comes before the join, serializing, the changelogs, the look at the other side's records, what comes
after it. Only those that have matches, or wait for them, are put back in order. The results are the same.
Next: `state/staged_rows`, where a record finds those of the same batch that came before it.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from itertools import compress
from typing import cast

from streamlib.operators.base import Forward, Operator
from streamlib.operators.join_streams import (
    JoinWindowOperator,
    KeyedBatch,
    Results,
    StreamStreamJoinOperator,
    join_all,
)
from streamlib.operators.selection import picked
from streamlib.record import Headers, RecordBatch
from streamlib.serdes.base import any_none
from streamlib.topology.stream_join_nodes import StreamStreamJoin


class JoinInTurns:
    """Both sides of a join.

    Args:
        windows: The operators that keep the records of the left and of the right side.
        joins: Those that join them.
    """

    def __init__(
        self,
        windows: tuple[JoinWindowOperator, JoinWindowOperator],
        joins: tuple[StreamStreamJoinOperator, StreamStreamJoinOperator],
    ) -> None:
        self._windows = windows
        self._joins = joins

    def process(self, inputs: Iterable[tuple[Forward, RecordBatch]]) -> None:
        """Join the records of several sources.

        Args:
            inputs: For each source the way to its side, and its records, with their numbers as offsets.
        """
        left: list[KeyedBatch] = []
        right: list[KeyedBatch] = []
        with self._windows[0].caught(left.append), self._windows[1].caught(right.append):
            for forward, batch in inputs:
                forward(batch)
        if left and right:
            (one,), (other,) = left, right
            if any_none(one.raw_keys) or any_none(other.raw_keys):
                self._take_runs(one, other)
            else:
                self._join(one, other)
        else:
            for window, batches in zip(self._windows, (left, right), strict=True):
                for each in batches:
                    window.take(each)

    def _take_runs(self, left: KeyedBatch, right: KeyedBatch) -> None:
        """Run by run: only the window operators know what to do with records that have no key."""
        sides = (left, right)
        for side, first, last in turns(_numbers(left), _numbers(right)):
            rows = list(range(first, last))
            raws = sides[side].raw_keys
            self._windows[side].take(KeyedBatch(picked(sides[side], rows), [raws[row] for row in rows]))

    def _join(self, left: KeyedBatch, right: KeyedBatch) -> None:
        joins, numbers = self._joins, (_numbers(left), _numbers(right))
        stores = [window.stage(batch) for window, batch in zip(self._windows, (left, right), strict=True)]
        both, results = _together(left, right), Results()
        matches = [*joins[0].matches(left, numbers[0]), *joins[1].matches(right, numbers[1])]
        if joins[0].waits:
            begins = (0, len(left))
            for side, first, last in turns(*numbers):
                joins[side].join(both, range(begins[side] + first, begins[side] + last), matches, results)
        else:
            rows = list(compress(range(len(both)), matches))
            if any_none(both.values):  # to be counted
                rows = [row for row, value in enumerate(both.values) if value is None or matches[row]]
            rows.sort(key=_numbers(both).__getitem__)
            join_all(joins, len(left), both, rows, matches, results)
        for store in stores:
            store.settle()
        joins[0].finish(both, results)


def join_in_turns(left: StreamStreamJoin, right: StreamStreamJoin, operators: Mapping[str, Operator]) -> JoinInTurns:
    """Both sides of a join by the operators of its nodes."""
    joins = tuple(operators[side.name] for side in (left, right))
    windows = tuple(operators[side.parents[0]] for side in (left, right))
    return JoinInTurns(
        cast("tuple[JoinWindowOperator, JoinWindowOperator]", windows),
        cast("tuple[StreamStreamJoinOperator, StreamStreamJoinOperator]", joins),
    )


def turns(left: list[int], right: list[int]) -> Iterator[tuple[int, int, int]]:
    """How two ascending columns of numbers are merged: side (0 or 1), first row, the row after the last, in turns."""
    columns, rows = (left, right), [0, 0]
    if not left or not right:
        side = 0 if left else 1
        if columns[side]:
            yield side, 0, len(columns[side])
        return
    side = 0 if left[0] < right[0] else 1
    while True:
        mine, first = columns[side], rows[side]
        others, next_other = columns[1 - side], rows[1 - side]
        if next_other == len(others):
            yield side, first, len(mine)
            return
        last = bisect_left(mine, others[next_other], first + 1)
        yield side, first, last
        rows[side] = last
        side = 1 - side
        if last == len(mine):
            yield side, next_other, len(others)
            return


def _numbers(batch: RecordBatch) -> list[int]:
    assert batch.offsets is not None, "records that take turns are numbered"
    return batch.offsets


def _together(left: KeyedBatch, right: KeyedBatch) -> KeyedBatch:
    """One batch with the rows of the left side, then those of the right."""
    headers: list[Headers] | None = None
    if left.headers is not None or right.headers is not None:
        none: Headers = ()
        headers = [*(left.headers or [none] * len(left)), *(right.headers or [none] * len(right))]
    return KeyedBatch(
        RecordBatch(
            left.keys + right.keys,
            left.values + right.values,
            left.timestamps + right.timestamps,
            _numbers(left) + _numbers(right),
            headers,
        ),
        left.raw_keys + right.raw_keys,
    )
