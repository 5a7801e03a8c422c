"""Which asynchronous call begins next, and whose results may go on: an order without any waiting in it.

A result goes on when those that must come before it have gone: all earlier ones, or all earlier ones of its key.
Next: `async_calls`, which has the calls made.
"""

from collections import deque
from collections.abc import Hashable
from typing import Any

from streamlib.record import Headers, TopicPartition


class Call:
    """One row, and the call that is made for it.

    Attributes:
        tp: Where the row comes from; None if nobody knows, as for the flush of a cache.
        offset: Of the record it comes from, likewise.
        lane: Equal for equal keys; None for rows without one, which have no order among them.
        ended: Whether there is a result or an error.
    """

    __slots__ = ("ended", "error", "headers", "key", "lane", "offset", "result", "timestamp", "tp", "value")

    def __init__(
        self,
        tp: TopicPartition | None,
        offset: int | None,
        key: Any,
        value: Any,
        timestamp: int,
        headers: Headers = (),
    ) -> None:
        self.tp = tp
        self.offset = offset
        self.key = key
        self.value = value
        self.timestamp = timestamp
        self.headers = headers
        self.lane = lane_of(key)
        self.ended = False
        self.result: Any = None
        self.error: Exception | None = None


def lane_of(key: Any) -> Hashable:
    """What equal keys have in common; keys that cannot be hashed, such as decoded JSON, go by their text."""
    try:
        hash(key)
    except TypeError:
        return repr(key)
    lane: Hashable = key
    return lane


class CallOrder:
    """The calls of one node of one task, from the arrival of their rows until their results went on.

    Args:
        concurrency: So many run at once.
        ordered: Results go on in the order in which rows arrived; if not, as they come, but in that order for each key.
        one_per_key: Calls for equal keys do not overlap.

    Attributes:
        held: Rows that arrived and whose results have not gone on.
    """

    def __init__(self, concurrency: int, *, ordered: bool, one_per_key: bool) -> None:
        self.held = 0
        self._free = concurrency
        self._ordered = ordered
        self._one_per_key = one_per_key
        self._waiting: deque[Call] = deque()  # may begin as soon as there is a free place
        self._behind: dict[Hashable, deque[Call]] = {}  # by key: wait for the end of a call for the same one
        self._lines: dict[Hashable, deque[Call]] = {}  # whose results come in order; one line, or one for each key
        self._ready: deque[Call] = deque()  # may go on

    def add(self, call: Call) -> None:
        """A row arrives."""
        self.held += 1
        line = self._line(call)
        if line is not None:
            self._lines.setdefault(line, deque()).append(call)
        if self._one_per_key and call.lane is not None:
            behind = self._behind.get(call.lane)
            if behind is not None:
                behind.append(call)
                return
            self._behind[call.lane] = deque()
        self._waiting.append(call)

    def begin(self) -> Call | None:
        """The call to make next; None when nothing waits, or as many as may are under way."""
        if not self._free or not self._waiting:
            return None
        self._free -= 1
        return self._waiting.popleft()

    def ended(self, call: Call) -> bool:
        """A call has its result or error; whether anything may go on now."""
        call.ended = True
        self._free += 1
        if self._one_per_key and call.lane is not None:
            behind = self._behind[call.lane]
            if behind:
                self._waiting.append(behind.popleft())
            else:
                del self._behind[call.lane]
        name = self._line(call)
        if name is None:
            self._ready.append(call)
            return True
        line = self._lines[name]
        while line and line[0].ended:
            self._ready.append(line.popleft())
        if not line:
            del self._lines[name]
        return bool(self._ready)

    def take(self, rows_max: int) -> list[Call]:
        """Calls that have ended and whose turn it is, at most ``rows_max``."""
        taken = [self._ready.popleft() for _ in range(min(rows_max, len(self._ready)))]
        self.held -= len(taken)
        return taken

    def _line(self, call: Call) -> Hashable:
        return "all" if self._ordered else call.lane
