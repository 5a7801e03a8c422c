"""Things in the order of their times, and of equal times in the order of Java's ``PriorityQueue``.

That is a binary heap in which an entry moves up only past strictly later ones and down only past strictly earlier ones,
the left one if both are equal. `heapq` moves entries otherwise, so it would give another order.
Next: `partition_group`, the inputs of a task; `punctuation`, its schedules.
"""

from typing import Generic, TypeVar

T = TypeVar("T")


class TimeHeap(Generic[T]):
    """A priority queue by time."""

    def __init__(self) -> None:
        self._entries: list[tuple[int, T]] = []

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def first_time(self) -> int | None:
        """The lowest time; None when the heap is empty."""
        return self._entries[0][0] if self._entries else None

    def push(self, time: int, entry: T) -> None:
        """Add an entry."""
        heap = self._entries
        heap.append((time, entry))
        place = len(heap) - 1
        while place > 0 and time < heap[parent := (place - 1) // 2][0]:
            heap[place], heap[parent] = heap[parent], heap[place]
            place = parent

    def pop(self) -> T:
        """Remove the entry with the lowest time, which must exist."""
        heap = self._entries
        (_, first), last = heap[0], heap.pop()
        if heap:
            heap[0] = last
            self._move_down()
        return first

    def clear(self) -> None:
        """Remove all entries."""
        self._entries.clear()

    def _move_down(self) -> None:
        heap, place = self._entries, 0
        while children := range(2 * place + 1, min(2 * place + 3, len(heap))):
            child = min(children, key=lambda index: heap[index][0])
            if heap[place][0] <= heap[child][0]:
                return
            heap[place], heap[child] = heap[child], heap[place]
            place = child
