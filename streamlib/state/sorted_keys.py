"""Key order for a dict of rows that only grows, made when it is asked for. Next: `memory` and `table`, which scan."""

from bisect import bisect_left, insort
from itertools import islice

Rows = dict[bytes, bytes | None]
"""Rows by key; None marks a deleted one."""

INSORT_KEYS = 32
"""Up to so many new keys are put in place one by one; more are cheaper to sort in."""


class SortedKeys:
    """The sorted keys of ``rows``, whose keys are never removed (a deleted row stays as None).

    Writers use the dict alone and pay nothing: a dict keeps the order of insertion, so the keys that came since the
    last call are the last ones in it.
    """

    __slots__ = ("_keys", "_rows")

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._keys: list[bytes] = []

    def between(self, start: bytes | None, end: bytes | None) -> list[bytes]:
        """Keys with ``start <= key < end`` (None: no bound), ascending. Costs O(range + keys new since last time)."""
        keys = self._keys
        new = len(self._rows) - len(keys)
        if 0 < new <= INSORT_KEYS:
            for key in list(islice(reversed(self._rows), new)):
                insort(keys, key)
        elif new:
            keys.extend(islice(reversed(self._rows), new))
            keys.sort()
        low = 0 if start is None else bisect_left(keys, start)
        high = len(keys) if end is None else bisect_left(keys, end)
        return keys[low:high]
