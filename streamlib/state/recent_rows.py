"""The newest rows of one side of a stream-stream join, in memory: by span of time, then by key.

Spans are as long as a join window, so that a probe looks into two of them at most. When memory is short the oldest
span goes; of the time after that the rows here are complete, and the engine need not be asked. Next: `unmatched`.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence
from operator import itemgetter

from streamlib.state.segments import MAX_TIME

Match = tuple[int, bytes]
"""Timestamp and serialized value of a row."""

MIN_SPAN_MS = 1_000
"""Shorter spans would cost more than they hold."""

_ROW_OVERHEAD_BYTES = 330  # two bytes objects, a tuple, a list, a dict entry
NO_MATCHES: list[Match] = []

_time_of = itemgetter(0)


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
            found = _between(rows, time_from, time_to)
        if last != first and (span := self._spans.get(last)) is not None and (rows := span.get(key)) is not None:
            later = _between(rows, time_from, time_to)
            return found + later if found else later
        return found

    def add(self, keys: list[bytes], rows: Sequence[bytes | None], timestamps: list[int], live_from: int) -> None:
        """Keep rows, in the order of arrival; a None is left out, and what is older than ``live_from`` (ms)."""
        self.insert(keys, rows, timestamps, live_from)
        self.tidy(live_from)

    def insert(self, keys: list[bytes], rows: Sequence[bytes | None], timestamps: list[int], live_from: int) -> None:
        """The same, without letting anything go: call `tidy` before long."""
        if not self._memory_bytes or not keys:
            return
        span_ms, oldest = self._span_ms, max(self.complete_from, live_from)
        first = beyond = 0
        span: dict[bytes, list[Match]] = {}
        for key, row, timestamp in zip(keys, rows, timestamps, strict=True):
            if row is None or timestamp < oldest:
                continue
            if not first <= timestamp < beyond:
                first = timestamp - timestamp % span_ms
                beyond = first + span_ms
                span = self._spans.setdefault(first // span_ms, {})
            of_key = span.get(key)
            if of_key is None:
                span[key] = [(timestamp, row)]
            elif of_key[-1][0] <= timestamp:
                of_key.append((timestamp, row))
            else:
                insort(of_key, (timestamp, row), key=_time_of)
        if beyond:
            row_bytes = _ROW_OVERHEAD_BYTES + len(keys[-1]) + len(rows[-1] or b"")
            self._bytes[first // span_ms] = self._bytes.get(first // span_ms, 0) + len(keys) * row_bytes
            self.used_bytes += len(keys) * row_bytes

    def tidy(self, live_from: int) -> None:
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


def _between(rows: list[Match], time_from: int, time_to: int) -> list[Match]:
    """The rows in ``[time_from, time_to]``."""
    if rows[0][0] >= time_from and rows[-1][0] <= time_to:
        return rows
    return rows[bisect_left(rows, time_from, key=_time_of) : bisect_left(rows, time_to + 1, key=_time_of)]
