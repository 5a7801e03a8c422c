"""Rows of one side of a stream-stream join that are put one after the other between the probes of a batch.

Rows and probes are numbered in the order in which they come: a probe finds the rows with lower numbers. Few keys are in
both, so those are found first and the others cost nothing. Next: `join_window`, which then puts all rows at once.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence
from itertools import accumulate, compress
from operator import itemgetter
from typing import Any

from streamlib.state.probes import Probes
from streamlib.state.recent_rows import Match

_time_of = itemgetter(0)


class StagedRows:
    """Rows in the order of their numbers.

    Args:
        keys: Plain keys.
        store_keys: Those of the store.
        rows: Serialized values; None for a record without one.
        timestamps: Their times (ms).
        sequences: Their numbers in the store.
        numbers: Ascending.
    """

    __slots__ = ("keys", "numbers", "rows", "sequences", "store_keys", "timestamps")

    def __init__(
        self,
        keys: list[bytes],
        store_keys: list[bytes],
        rows: list[bytes | None],
        timestamps: list[int],
        sequences: Sequence[int],
        numbers: list[int],
    ) -> None:
        self.keys = keys
        self.store_keys = store_keys
        self.rows = rows
        self.sequences = sequences
        self.timestamps = timestamps
        self.numbers = numbers

    def newest(self, before: int, numbers: list[int], *, nulls: bool) -> list[int]:
        """For each probe the highest time of the rows that are there.

        Args:
            before: The highest time of earlier rows (ms).
            numbers: Of the probes.
            nulls: Whether a record without a value has a time.
        """
        times = [
            time if nulls or row is not None else before for time, row in zip(self.timestamps, self.rows, strict=True)
        ]
        newest = list(accumulate(times, max, initial=before))
        return [newest[bisect_left(self.numbers, number)] for number in numbers]

    def find(self, found: list[list[Match]], probes: Probes, numbers: list[int]) -> None:
        """Add to what is found of earlier rows those that are there.

        Args:
            found: For each probe the rows found so far, in the order of time; a list that grows is replaced.
            probes: What is looked for.
            numbers: Of the probes, ascending.
        """
        keys = probes.keys
        few, many = sorted((self.keys, keys), key=len)
        common: set[Any] = set(few).intersection(many)
        if not common:
            return
        waiting, there = self._of(common)
        own_numbers, timestamps, rows = self.numbers, self.timestamps, self.rows
        for probe in compress(range(len(keys)), map(common.__contains__, keys)):
            key: bytes = keys[probe]  # type: ignore[assignment]
            waits, of_key, number = waiting[key], there[key], numbers[probe]
            while waits and own_numbers[waits[-1]] < number:
                row = waits.pop()
                insort(of_key, (timestamps[row], rows[row] or b""), key=_time_of)
            if of_key and (own := _between(of_key, *probes.range(probe))):
                found[probe] = sorted([*found[probe], *own], key=_time_of)

    def _of(self, common: set[bytes]) -> tuple[dict[bytes, list[int]], dict[bytes, list[Match]]]:
        """The rows of some keys, last one first; and where they go when they are there."""
        waiting: dict[bytes, list[int]] = {key: [] for key in common}
        keys, rows = self.keys, self.rows
        for row in compress(range(len(keys) - 1, -1, -1), map(common.__contains__, reversed(keys))):
            if rows[row] is not None:
                waiting[keys[row]].append(row)
        return waiting, {key: [] for key in common}


def _between(rows: list[Match], time_from: int, time_to: int) -> list[Match]:
    """The rows in ``[time_from, time_to]``."""
    if rows[0][0] >= time_from and rows[-1][0] <= time_to:
        return rows
    return rows[bisect_left(rows, time_from, key=_time_of) : bisect_left(rows, time_to + 1, key=_time_of)]
