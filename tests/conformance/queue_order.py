"""Which of several topics is next, exactly as the Java driver decides it. Next: `driver`, which asks."""


class QueueOrder:
    """The topics that have records, by the time of their first one.

    Among equal times the order is that of Java's ``PriorityQueue``: a binary heap in which an entry moves up only past
    strictly later ones and down only past strictly earlier ones, the left one if both are equal. `heapq` moves entries
    otherwise, so it gives another order.

    Source: PartitionGroup.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[int, str]] = []

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def first_time(self) -> int | None:
        """The time of the next topic, or None when there is none."""
        return self._heap[0][0] if self._heap else None

    def add(self, time: int, topic: str) -> None:
        """Add a topic that is not there."""
        heap = self._heap
        heap.append((time, topic))
        place = len(heap) - 1
        while place > 0 and time < heap[parent := (place - 1) // 2][0]:
            heap[place], heap[parent] = heap[parent], heap[place]
            place = parent

    def take(self) -> str:
        """Remove the next topic."""
        heap = self._heap
        (_, topic), last = heap[0], heap.pop()
        if heap:
            heap[0] = last
            self._move_down()
        return topic

    def _move_down(self) -> None:
        heap, place = self._heap, 0
        while children := range(2 * place + 1, min(2 * place + 3, len(heap))):
            child = min(children, key=lambda index: heap[index][0])
            if heap[place][0] <= heap[child][0]:
                return
            heap[place], heap[child] = heap[child], heap[place]
            place = child
