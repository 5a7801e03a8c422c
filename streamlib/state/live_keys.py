"""Which keys may have sessions that can be read, so that the engine is not searched for the others.

Where there are many keys, most records come when the last session of their key is past the retention. Keys are held by
the time in which their sessions end: who is in no span has none. Next: `session`.
"""

from collections.abc import Iterable

from streamlib.state.segments import MAX_TIME
from streamlib.state.spans import MIN_SPAN_MS, runs_by_span

_SPANS_OF_RETENTION = 4
_KEY_BYTES = 120  # a bytes object, its places in sets


class LiveKeys:
    """Keys by the ends of their sessions; removed sessions may still count.

    Args:
        retention_ms: How long a session can be read.
        max_bytes: Bound, about, for all keys; beyond it the oldest are forgotten. 0 keeps none.

    Attributes:
        complete_from: The keys of all sessions that end then (ms) or later are here.
    """

    def __init__(self, retention_ms: int, max_bytes: int) -> None:
        self._span_ms = max(retention_ms // _SPANS_OF_RETENTION, MIN_SPAN_MS)
        self._max_keys = max_bytes // _KEY_BYTES
        self._spans: dict[int, set[bytes]] = {}
        self.begin(0)

    def begin(self, complete_from: int) -> None:
        """Begin with none; those of sessions that end at ``complete_from`` (ms) or later will be added."""
        self._spans.clear()
        self.complete_from = complete_from if self._max_keys else MAX_TIME

    def add(self, keys: list[bytes], ends: list[int], live_from: int) -> None:
        """Add the keys of sessions; those that end before ``live_from`` (ms) need not be kept."""
        if not self._max_keys:
            return
        for number, run in runs_by_span(ends, self._span_ms):
            self._spans.setdefault(number, set()).update(keys[run])
        for number in [number for number in self._spans if (number + 1) * self._span_ms <= live_from]:
            del self._spans[number]
        while sum(map(len, self._spans.values())) > self._max_keys:
            oldest = min(self._spans)
            del self._spans[oldest]
            self.complete_from = max(self.complete_from, (oldest + 1) * self._span_ms)

    def among(self, keys: Iterable[bytes], live_from: int) -> set[bytes]:
        """Those of some keys that may have sessions that end at ``live_from`` (ms) or later."""
        wanted = set(keys)
        if self.complete_from > max(live_from, 0):
            return wanted
        return set().union(*(span & wanted for span in self._spans.values()))
