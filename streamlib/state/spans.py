"""Spans of time, in which rows and keys of recent time are held in memory. Next: `recent_rows` and `live_keys`."""

from collections.abc import Iterator
from itertools import groupby

MIN_SPAN_MS = 1_000
"""Shorter spans would cost more than they hold."""


def runs_by_span(times: list[int], span_ms: int) -> Iterator[tuple[int, slice]]:
    """The number of a span, and which neighbours in ``times`` (ms) lie in it, for each run of such."""
    first = 0
    for number, same in groupby([time // span_ms for time in times]):
        last = first + sum(1 for _ in same)
        yield number, slice(first, last)
        first = last
