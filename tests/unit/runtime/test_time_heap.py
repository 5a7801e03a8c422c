from hypothesis import given
from hypothesis import strategies as st

from streamlib.runtime.time_heap import TimeHeap


def emptied(heap: TimeHeap[int]) -> list[int]:
    found = []
    while heap.first_time is not None:
        found.append(heap.pop())
    return found


@given(st.lists(st.integers(0, 9)))
def test_entries_come_in_the_order_of_their_times(times: list[int]) -> None:
    heap: TimeHeap[int] = TimeHeap()
    for time in times:
        heap.push(time, time)
    assert heap.first_time == min(times, default=None)
    assert emptied(heap) == sorted(times)


def test_entries_of_one_time_come_as_from_javas_priority_queue() -> None:
    heap: TimeHeap[int] = TimeHeap()
    for entry in range(5):
        heap.push(7, entry)
    assert emptied(heap) == [0, 4, 3, 2, 1]


def test_nothing_is_left_when_it_is_cleared() -> None:
    heap: TimeHeap[int] = TimeHeap()
    heap.push(1, 1)
    heap.clear()
    assert heap.first_time is None
