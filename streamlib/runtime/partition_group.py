"""The inputs of a task, and which of them is next: the one whose first record has the lowest timestamp.

Source: PartitionGroup. Next: `record_queue`, one input; `task`, which takes the runs.
"""

from collections.abc import Mapping

from streamlib.record import FetchedBatch, RecordBatch, TopicPartition
from streamlib.runtime.record_queue import RecordQueue
from streamlib.runtime.time_heap import TimeHeap
from streamlib.runtime.turns import Turns


class PartitionGroup:
    """Queues by partition, in the order of their first records' times.

    Among equal times the order is that of a `TimeHeap`.

    Attributes:
        queues: By partition.
    """

    def __init__(self, queues: Mapping[TopicPartition, RecordQueue]) -> None:
        self.queues = dict(queues)
        self._heap: TimeHeap[RecordQueue] = TimeHeap()
        self._arrived: list[RecordQueue] = []  # got their first records since the last take, in that order

    @property
    def buffered(self) -> int:
        """Records that wait."""
        return sum(queue.buffered for queue in self.queues.values())

    def start(self, positions: Mapping[TopicPartition, tuple[int, int]]) -> None:
        """Forget what waits, and begin at (offset, partition time) of each input."""
        self._heap.clear()
        self._arrived.clear()
        for tp, (offset, partition_time) in positions.items():
            self.queues[tp].start(offset, partition_time)

    def add(self, tp: TopicPartition, batch: FetchedBatch) -> None:
        """Take in what a poll brought."""
        queue = self.queues[tp]
        if not queue.buffered:
            self._arrived.append(queue)
        queue.add(batch)

    def take(self, max_rows: int) -> tuple[RecordQueue, RecordBatch] | None:
        """The next run of records, at most ``max_rows``, and where it comes from.

        None when nothing waits, or when all that waited in some queue turned out to be skipped: whether to go on
        without that input is to be asked again.
        """
        if not self._lined_up(max_rows):
            return None
        queue = self._heap.pop()
        run = queue.take(self._heap.first_time, max_rows)
        self._line_up(queue, max_rows)
        return queue, run

    def take_turns(self, max_rows: int) -> Turns | None:
        """The next runs, one after the other as `take` would give them, up to where a record must first be decoded.

        None as in `take`.
        """
        if not self._lined_up(max_rows):
            return None
        heap, left = self._heap, max_rows
        runs: list[tuple[RecordQueue, int]] = []
        while True:
            queue = heap.pop()
            if len(heap) == 1:
                queue = self._alternate(queue, heap.pop(), left, runs)
                break
            length = queue.claim(heap.first_time, left)
            runs.append((queue, length))
            left -= length
            time = queue.unclaimed_time
            if time is None or not left:
                break
            heap.push(time, queue)
        turns = Turns(runs)
        self._line_up(queue, max_rows)
        return turns

    def _alternate(
        self, queue: RecordQueue, other: RecordQueue, left: int, runs: list[tuple[RecordQueue, int]]
    ) -> RecordQueue:
        """The turns of the last two queues, ``queue`` first; gives the one that had the last turn.

        A run ends at a record that is later than the head of the other queue, so that one is next.
        """
        (times, row), (other_times, other_row) = queue.unclaimed(), other.unclaimed()
        while True:
            first, last, limit = row, min(len(times), row + left), other_times[other_row]
            row += 1
            while row < last and times[row] <= limit:
                row += 1
            runs.append((queue, row - first))
            left -= row - first
            if not left or row == len(times):
                break
            queue, times, row, other, other_times, other_row = other, other_times, other_row, queue, times, row
        queue.claim_to(row)
        other.claim_to(other_row)
        self._heap.push(other_times[other_row], other)
        return queue

    def _lined_up(self, max_rows: int) -> bool:
        """Whether something can be taken, now that those have lined up which got their first records."""
        arrived, self._arrived = self._arrived, []
        skipped = [queue for queue in arrived if not self._line_up(queue, max_rows)]
        return not skipped and self._heap.first_time is not None

    def _line_up(self, queue: RecordQueue, max_rows: int) -> bool:
        """Let a queue wait for its turn if it has a record; only now that is decoded."""
        time = queue.head_time(max_rows)
        if time is not None:
            self._heap.push(time, queue)
        return time is not None
