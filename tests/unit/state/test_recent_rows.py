from hypothesis import given
from hypothesis import strategies as st

from streamlib.state.recent_rows import MIN_SPAN_MS, RecentRows

ROOM = 10**9
TIMES = st.integers(0, 6 * MIN_SPAN_MS)


@given(
    batches=st.lists(st.lists(st.tuples(st.sampled_from([b"a", b"b"]), TIMES), min_size=1), max_size=8),
    memory_bytes=st.sampled_from([0, 700, 2_000, 10_000, ROOM]),
    window_ms=st.sampled_from([0, 10, MIN_SPAN_MS, 2 * MIN_SPAN_MS]),
    probes=st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c"]), TIMES), max_size=20),
)
def test_rows_found_are_all_rows_there_were_when_the_time_is_complete(
    batches: list[list[tuple[bytes, int]]], memory_bytes: int, window_ms: int, probes: list[tuple[bytes, int]]
) -> None:
    recent, model, number = RecentRows(window_ms, memory_bytes), [], 0
    for batch in batches:
        rows = [b"%d" % (number + position) for position in range(len(batch))]
        number += len(rows)
        recent.add([key for key, _ in batch], rows, [time for _, time in batch], live_from=0)
        model += [(key, time, row) for (key, time), row in zip(batch, rows, strict=True)]
    for key, time in probes:
        if time >= recent.complete_from:
            own = [(at, row) for other, at, row in model if other == key and time <= at <= time + window_ms]
            assert recent.find(key, time, time + window_ms) == sorted(own, key=lambda match: match[0])


@given(
    rows=st.lists(st.tuples(st.sampled_from([b"a", b"b"]), TIMES), min_size=1, max_size=20),
    probes=st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c", None]), TIMES), min_size=1, max_size=20),
    window_ms=st.sampled_from([0, 10, MIN_SPAN_MS, 4 * MIN_SPAN_MS]),
)
def test_many_keys_find_what_each_finds(
    rows: list[tuple[bytes, int]], probes: list[tuple[bytes | None, int]], window_ms: int
) -> None:
    recent = RecentRows(window_ms, ROOM)
    recent.add([key for key, _ in rows], [b"%d" % n for n in range(len(rows))], [time for _, time in rows], live_from=0)
    found = recent.find_many([key for key, _ in probes], [t for _, t in probes], [t + window_ms for _, t in probes])
    assert found == [[] if key is None else recent.find(key, time, time + window_ms) for key, time in probes]


def test_everything_is_complete_when_there_is_room() -> None:
    recent = RecentRows(10, ROOM)
    recent.add([b"a", b"a"], [b"1", b"2"], [5_000, 3], live_from=0)
    assert recent.complete_from == 0
    assert recent.find(b"a", 0, 10) == [(3, b"2")]


def test_the_oldest_rows_go_first_when_memory_is_short() -> None:
    recent = RecentRows(10, 900)
    for time in (0, MIN_SPAN_MS, 2 * MIN_SPAN_MS):
        recent.add([b"a"], [b"x"], [time], live_from=0)
    assert recent.complete_from == MIN_SPAN_MS
    assert recent.find(b"a", 2 * MIN_SPAN_MS, 2 * MIN_SPAN_MS) == [(2 * MIN_SPAN_MS, b"x")]
    assert recent.used_bytes <= 900


def test_expired_rows_take_no_memory() -> None:
    recent = RecentRows(10, ROOM)
    for time in range(0, 20 * MIN_SPAN_MS, MIN_SPAN_MS):
        recent.add([b"a"], [b"x"], [time], live_from=max(0, time - MIN_SPAN_MS))
        used = recent.used_bytes
    assert used < 3 * 500
    assert recent.complete_from == 0


def test_rows_without_a_value_are_left_out_when_others_are_kept() -> None:
    recent = RecentRows(10, ROOM)
    recent.add([b"a", b"a"], [None, b"1"], [1, 2], live_from=0)
    recent.add([b"a"], [None], [3], live_from=0)
    assert recent.find(b"a", 0, 10) == [(2, b"1")]


def test_nothing_is_kept_when_there_is_no_memory() -> None:
    recent = RecentRows(10, 0)
    recent.add([b"a"], [b"1"], [1], live_from=0)
    assert recent.complete_from > 1
    assert recent.used_bytes == 0
