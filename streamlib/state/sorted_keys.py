"""Key order for a dict of rows that only grows, made when it is asked for. Next: `memory` and `table`, which scan."""

from bisect import bisect_left, insort
from collections.abc import Iterator
from itertools import islice

from streamlib.state.rows import Rows

INSORT_KEYS = 32
"""Up to so many new keys are put in place one by one; more are cheaper to sort in."""

_YOUNG_SHARE = 4  # of the keys at most one in so many is young: then each is sorted in a few times in its life


class SortedKeys:
    """The sorted keys of ``rows``, whose keys are never removed (a deleted row stays as None).

    Writers use the dict alone and pay nothing: a dict keeps the order of insertion, so the keys that came since the
    last call are the last ones in it. They are sorted among themselves first, since the others are many.
    """

    __slots__ = ("_keys", "_rows", "_young")

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._keys: list[bytes] = []
        self._young: list[bytes] = []

    def between(self, start: bytes | None, end: bytes | None) -> list[bytes]:
        """Keys with ``start <= key < end`` (None: no bound), ascending. Costs O(range + keys new since last time)."""
        self._update()
        keys, young = _part(self._keys, start, end), _part(self._young, start, end)
        return sorted(keys + young) if keys and young else keys or young

    def between_many(self, ranges: list[tuple[bytes, bytes]]) -> Iterator[tuple[int, list[bytes]]]:
        """The numbers of those ranges ``start <= key < end`` that have keys, with the keys, ascending."""
        self._update()
        for number, (start, end) in enumerate(ranges):
            found: list[bytes] = []
            for keys in (self._keys, self._young):
                low = bisect_left(keys, start)
                if low < len(keys) and keys[low] < end:
                    found += keys[low : bisect_left(keys, end, low)]
            if found:
                yield number, sorted(found)

    def _update(self) -> None:
        """Take in the keys that are new."""
        young = self._young
        new = len(self._rows) - len(self._keys) - len(young)
        if not new:
            return
        if new <= INSORT_KEYS:
            for key in list(islice(reversed(self._rows), new)):
                insort(young, key)
        else:
            young.extend(islice(reversed(self._rows), new))
            young.sort()
        if len(young) * _YOUNG_SHARE > len(self._keys):
            self._keys += young
            self._keys.sort()
            self._young = []


def _part(keys: list[bytes], start: bytes | None, end: bytes | None) -> list[bytes]:
    low = 0 if start is None else bisect_left(keys, start)
    high = len(keys) if end is None else bisect_left(keys, end)
    return keys[low:high]
