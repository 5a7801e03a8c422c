"""How far the inputs of a task may be committed while some of their rows are with asynchronous calls.

Up to the first record of which a row is under way. The partition time that is committed with an offset is that of the
records before it, or lower. Next: `calls`, which holds rows; `task`, which commits.
"""

from collections import Counter, defaultdict, deque
from heapq import heappop, heappush
from typing import NamedTuple

from streamlib.record import TopicPartition


class Reached(NamedTuple):
    """Where an input stands.

    Attributes:
        offset: The next record to process.
        partition_time_ms: Highest timestamp before it, -1 when there is none.
    """

    offset: int
    partition_time_ms: int


class Progress:
    """Rows under way, by the records they come from.

    Attributes:
        rows: How many.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._unknown = 0  # rows that come from no one record
        self._rows: Counter[tuple[TopicPartition, int]] = Counter()
        self._offsets: dict[TopicPartition, list[int]] = {}  # heaps of those in `_rows`, and of some that have gone
        self._times: defaultdict[TopicPartition, deque[Reached]] = defaultdict(lambda: deque([Reached(-1, -1)]))

    def start(self, tp: TopicPartition, offset: int, partition_time_ms: int) -> None:
        """An input begins; of one that was not begun, nothing is known but what was taken since."""
        self._times[tp] = deque([Reached(offset, partition_time_ms)])

    def clear(self) -> None:
        """Nothing is under way."""
        self.rows = self._unknown = 0
        self._rows.clear()
        self._offsets.clear()

    def hold(self, tp: TopicPartition | None, offset: int | None) -> None:
        """A row is under way."""
        self.rows += 1
        if tp is None or offset is None:
            self._unknown += 1
            return
        if not self._rows[tp, offset]:
            heappush(self._offsets.setdefault(tp, []), offset)
        self._rows[tp, offset] += 1

    def release(self, tp: TopicPartition | None, offset: int | None) -> None:
        """It is no longer."""
        self.rows -= 1
        if tp is None or offset is None:
            self._unknown -= 1
            return
        self._rows[tp, offset] -= 1
        if not self._rows[tp, offset]:
            del self._rows[tp, offset]

    def taken(self, tp: TopicPartition, next_offset: int, partition_time_ms: int) -> None:
        """Records up to ``next_offset`` were taken; the partition time is now that."""
        times = self._times[tp]
        if partition_time_ms > times[-1].partition_time_ms:
            times.append(Reached(next_offset, partition_time_ms))
        first = self._first(tp)
        while len(times) > 1 and (first is None or times[1].offset <= first):
            times.popleft()

    def reached(self, tp: TopicPartition, now: Reached, committed: int) -> Reached:
        """Up to where an input is done with.

        Args:
            tp: The input.
            now: Where it stands.
            committed: Where it was at the last commit: there it stays while rows are under way of which nobody knows
                where they come from.
        """
        first = committed if self._unknown else self._first(tp)
        if first is None:
            return now
        before = [time for time in self._times[tp] if time.offset <= first]
        return Reached(first, before[-1].partition_time_ms if before else -1)

    def _first(self, tp: TopicPartition) -> int | None:
        """The lowest offset of which a row is under way."""
        offsets = self._offsets.get(tp)
        while offsets and not self._rows[tp, offsets[0]]:
            heappop(offsets)
        return offsets[0] if offsets else None
