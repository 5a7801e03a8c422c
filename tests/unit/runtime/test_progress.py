from hypothesis import given
from hypothesis import strategies as st

from streamlib.record import TopicPartition
from streamlib.runtime.progress import Progress, Reached

A, B = TopicPartition("a", 0), TopicPartition("b", 1)

RECORDS = st.lists(st.tuples(st.sampled_from([A, B]), st.integers(1, 3), st.integers(0, 5), st.integers(0, 20)))
"""Partition, step from the offset before, rows that are held for it, and timestamp."""


@given(records=RECORDS, chances=st.lists(st.integers(0, 1_000), max_size=100))
def test_an_input_has_reached_the_first_record_with_a_row_under_way(
    records: list[tuple[TopicPartition, int, int, int]], chances: list[int]
) -> None:
    progress = Progress()
    ends = {A: 0, B: 100}
    times = {A: -1, B: 7}
    stamps: dict[TopicPartition, list[tuple[int, int]]] = {A: [], B: []}
    held: list[tuple[TopicPartition, int]] = []
    for tp, end in ends.items():
        progress.start(tp, end, times[tp])

    def check() -> None:
        assert progress.rows == len(held)
        for tp, end in ends.items():
            first = min((offset for held_tp, offset in held if held_tp == tp), default=None)
            reached = progress.reached(tp, Reached(end, times[tp]), -99)
            assert reached.offset == (end if first is None else first)
            before = [time for offset, time in stamps[tp] if offset < reached.offset]
            assert reached.partition_time_ms == max([{A: -1, B: 7}[tp], *before])

    for number, (tp, step, rows, timestamp) in enumerate(records):
        offset = ends[tp] + step - 1
        for _ in range(rows):
            progress.hold(tp, offset)
            held.append((tp, offset))
        stamps[tp].append((offset, timestamp))
        ends[tp] = offset + 1
        times[tp] = max(times[tp], timestamp)
        progress.taken(tp, ends[tp], times[tp])
        check()
        if held and number < len(chances):
            progress.release(*held.pop(chances[number] % len(held)))
            check()
    while held:
        progress.release(*held.pop(0))
        check()


def test_an_input_stays_where_it_was_committed_while_rows_of_unknown_origin_are_under_way() -> None:
    progress = Progress()
    progress.start(A, 5, -1)
    progress.hold(None, None)
    progress.hold(A, 8)
    progress.taken(A, 9, 30)
    assert progress.reached(A, Reached(9, 30), 5) == (5, -1)
    progress.release(None, None)
    assert progress.reached(A, Reached(9, 30), 5) == (8, -1)
    progress.release(A, 8)
    assert progress.reached(A, Reached(9, 30), 5) == (9, 30)


def test_an_input_that_came_later_counts_like_the_others() -> None:
    progress = Progress()
    progress.hold(B, 3)
    progress.taken(B, 4, 50)
    assert progress.reached(B, Reached(4, 50), 3) == (3, -1)
    progress.hold(B, 6)
    progress.release(B, 3)
    progress.taken(B, 7, 60)
    assert progress.reached(B, Reached(7, 60), 3) == (6, 50)


def test_nothing_is_under_way_after_work_was_dropped() -> None:
    progress = Progress()
    progress.start(A, 0, -1)
    progress.hold(A, 3)
    progress.hold(None, None)
    progress.clear()
    assert progress.rows == 0
    progress.start(A, 0, -1)
    progress.hold(A, 7)
    assert progress.reached(A, Reached(8, 1), 0) == (7, -1)


def test_what_is_kept_of_times_stays_small_while_calls_end() -> None:
    progress = Progress()
    progress.start(A, 0, -1)
    for offset in range(10_000):
        progress.hold(A, offset)
        progress.taken(A, offset + 1, offset)
        if offset >= 8:
            progress.release(A, offset - 8)
    assert len(progress._times[A]) < 20
    assert len(progress._offsets[A]) < 20
    assert progress.reached(A, Reached(10_000, 9_999), 0) == (9_992, 9_991)
