"""The inputs of a task, and which of them is next: the one whose first record has the lowest timestamp.

Source: PartitionGroup. Next: `record_queue`, one input; `task`, which takes the runs.
"""

from collections.abc import Mapping

from streamlib.record import FetchedBatch, RecordBatch, TopicPartition
from streamlib.runtime.record_queue import RecordQueue


class PartitionGroup:
    """Queues by partition, in the order of their first records' times.

    Among equal times the order is that of Java's ``PriorityQueue``: a binary heap in which an entry moves up only past
    strictly later ones and down only past strictly earlier ones, the left one if both are equal. `heapq` moves entries
    otherwise, so it would give another order.

    Attributes:
        queues: By partition.
    """

    def __init__(self, queues: Mapping[TopicPartition, RecordQueue]) -> None:
        self.queues = dict(queues)
        self._heap: list[tuple[int, RecordQueue]] = []
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
        arrived, self._arrived = self._arrived, []
        skipped = [queue for queue in arrived if not self._line_up(queue, max_rows)]
        if skipped or not self._heap:
            return None
        queue = self._first()
        run = queue.take(self._heap[0][0] if self._heap else None, max_rows)
        self._line_up(queue, max_rows)
        return queue, run

    def _line_up(self, queue: RecordQueue, max_rows: int) -> bool:
        """Let a queue wait for its turn if it has a record; only now that is decoded."""
        time = queue.head_time(max_rows)
        if time is None:
            return False
        heap = self._heap
        heap.append((time, queue))
        place = len(heap) - 1
        while place > 0 and time < heap[parent := (place - 1) // 2][0]:
            heap[place], heap[parent] = heap[parent], heap[place]
            place = parent
        return True

    def _first(self) -> RecordQueue:
        """Remove the queue whose turn it is."""
        heap = self._heap
        (_, first), last = heap[0], heap.pop()
        if heap:
            heap[0] = last
            self._move_down()
        return first

    def _move_down(self) -> None:
        heap, place = self._heap, 0
        while children := range(2 * place + 1, min(2 * place + 3, len(heap))):
            child = min(children, key=lambda index: heap[index][0])
            if heap[place][0] <= heap[child][0]:
                return
            heap[place], heap[child] = heap[child], heap[place]
            place = child
