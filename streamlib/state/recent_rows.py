"""The newest rows of one side of a stream-stream join, in memory: by span of time, then by key.

Spans are as long as a join window, so that a probe looks into two of them at most. When memory is short the oldest
span goes; of the time after that the rows here are complete, and the engine need not be asked. Next: `unmatched`.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence
from itertools import compress, groupby
from operator import itemgetter
from typing import Any, cast

from streamlib.state.segments import MAX_TIME

Match = tuple[int, bytes]
"""Timestamp and serialized value of a row."""

MIN_SPAN_MS = 1_000
"""Shorter spans would cost more than they hold."""

_ROW_OVERHEAD_BYTES = 330  # two bytes objects, a tuple, a list, a dict entry
NO_MATCHES: list[Match] = []

time_of = itemgetter(0)
_FEW_SPANS = 4  # beyond that the rows of a batch are far apart, and few spans have any


class RecentRows:
    """Rows by key and time, several for each.

    Args:
        window_size_ms: The longest span of time that is asked for.
        memory_bytes: Bound for all rows; 0 keeps none.

    Attributes:
        complete_from: All rows of this time (ms) and later are here.
        used_bytes: An estimate of what all rows take.
    """

    def __init__(self, window_size_ms: int, memory_bytes: int) -> None:
        self._span_ms = max(window_size_ms, MIN_SPAN_MS)
        self._memory_bytes = memory_bytes
        self.forget(complete_from=0)

    @property
    def rows_max(self) -> int:
        """About how many rows there may be."""
        return self._memory_bytes // _ROW_OVERHEAD_BYTES

    def forget(self, complete_from: int) -> None:
        """Forget all rows; those of ``complete_from`` (ms) and later will be added."""
        self._spans: dict[int, dict[bytes, list[Match]]] = {}
        self._bytes: dict[int, int] = {}
        self.used_bytes = 0
        self.complete_from = complete_from if self._memory_bytes else MAX_TIME

    def find(self, key: bytes, time_from: int, time_to: int) -> list[Match]:
        """The rows of a key in ``[time_from, time_to]`` (ms), in the order of time, then of arrival.

        That span must not be longer than a window, nor begin before ``complete_from``. Look at the rows before the
        next `add`.
        """
        if time_to < time_from:
            return NO_MATCHES
        first, last = time_from // self._span_ms, time_to // self._span_ms
        found = NO_MATCHES
        span = self._spans.get(first)
        if span is not None and (rows := span.get(key)) is not None:
            found = between(rows, time_from, time_to)
        if last != first and (span := self._spans.get(last)) is not None and (rows := span.get(key)) is not None:
            later = between(rows, time_from, time_to)
            return found + later if found else later
        return found

    def find_many(self, keys: Sequence[bytes | None], firsts: list[int], lasts: list[int]) -> list[list[Match]]:
        """The rows of each key in ``[first, last]`` (ms), as `find` gives them; none for no key."""
        begin, end = min(firsts) // self._span_ms, max(lasts) // self._span_ms
        if end - begin >= _FEW_SPANS:
            find = self.find
            return [
                NO_MATCHES if key is None else find(key, first, last)
                for key, first, last in zip(keys, firsts, lasts, strict=True)
            ]
        found = [NO_MATCHES] * len(keys)
        for number in range(begin, end + 1):
            span: dict[Any, list[Match]] = self._spans.get(number, {})
            if not span:
                continue
            of_keys = list(map(span.get, keys))
            for probe in compress(range(len(keys)), of_keys):
                rows = between(of_keys[probe], firsts[probe], lasts[probe])  # type: ignore[arg-type]
                if rows:
                    found[probe] = found[probe] + rows if found[probe] else rows
        return found

    def add(self, keys: list[bytes], rows: Sequence[bytes | None], timestamps: list[int], live_from: int) -> None:
        """Keep rows, in the order of arrival; a None is left out, and what is older than ``live_from`` (ms)."""
        if not self._memory_bytes or not keys:
            return
        oldest = max(self.complete_from, live_from)
        if min(timestamps) < oldest or None in rows:
            kept = [
                number
                for number, (row, time) in enumerate(zip(rows, timestamps, strict=True))
                if row is not None and time >= oldest
            ]
            keys, rows = [keys[number] for number in kept], [rows[number] for number in kept]
            timestamps = [timestamps[number] for number in kept]
        spans = [time // self._span_ms for time in timestamps]
        first = 0
        for number, same in groupby(spans):
            last = first + sum(1 for _ in same)
            self._extend(number, keys[first:last], cast("Sequence[bytes]", rows[first:last]), timestamps[first:last])
            first = last
        self._tidy(live_from)

    def _extend(self, number: int, keys: list[bytes], rows: Sequence[bytes], timestamps: list[int]) -> None:
        """Keep rows of one span."""
        span = self._spans.setdefault(number, {})
        get = span.get
        for key, match in zip(keys, zip(timestamps, rows, strict=True), strict=True):
            of_key = get(key)
            if of_key is None:
                span[key] = [match]
            elif of_key[-1][0] <= match[0]:
                of_key.append(match)
            else:
                insort(of_key, match, key=time_of)
        added = len(keys) * (_ROW_OVERHEAD_BYTES + len(keys[-1]) + len(rows[-1]))
        self._bytes[number] = self._bytes.get(number, 0) + added
        self.used_bytes += added

    def _tidy(self, live_from: int) -> None:
        """Let go what is older than ``live_from`` (ms), and the oldest spans while there is too much."""
        while self._spans and (oldest_span := min(self._spans)) * self._span_ms + self._span_ms <= live_from:
            self._drop(oldest_span)
        while self._spans and self.used_bytes > self._memory_bytes:
            oldest = min(self._spans)
            self._drop(oldest)
            self.complete_from = max(self.complete_from, (oldest + 1) * self._span_ms)

    def _drop(self, number: int) -> None:
        del self._spans[number]
        self.used_bytes -= self._bytes.pop(number, 0)


def between(rows: list[Match], time_from: int, time_to: int) -> list[Match]:
    """The rows in ``[time_from, time_to]``."""
    if rows[0][0] >= time_from and rows[-1][0] <= time_to:
        return rows
    return rows[bisect_left(rows, time_from, key=time_of) : bisect_left(rows, time_to + 1, key=time_of)]
