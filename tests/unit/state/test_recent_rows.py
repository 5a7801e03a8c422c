from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from streamlib.state.probes import Probes
from streamlib.state.recent_rows import RecentRows
from streamlib.state.spans import MIN_SPAN_MS

ROOM = 10**9
TIMES = st.integers(0, 6 * MIN_SPAN_MS)


class Kept:
    """`RecentRows` over a store that has every row."""

    def __init__(self, window_ms: int, memory_bytes: int) -> None:
        self.fetched = 0
        self.recent = RecentRows(window_ms, memory_bytes, self._fetch)
        self._rows: dict[tuple[bytes, int, int], bytes] = {}
        self._sequence = 0

    def _fetch(self, keys: list[bytes], timestamps: list[int], sequences: list[int]) -> list[bytes]:
        self.fetched += len(keys)
        return [self._rows[each] for each in zip(keys, timestamps, sequences, strict=True)]

    def add(self, keys: list[bytes], rows: Sequence[bytes | None], timestamps: list[int], live_from: int = 0) -> None:
        sequences = range(self._sequence, self._sequence + len(keys))
        self._sequence += len(keys)
        for *place, row in zip(keys, timestamps, sequences, rows, strict=True):
            if row is not None:
                self._rows[tuple(place)] = row
        self.recent.add(keys, rows, timestamps, sequences, live_from)


@given(
    batches=st.lists(st.lists(st.tuples(st.sampled_from([b"a", b"b"]), TIMES), min_size=1), max_size=8),
    memory_bytes=st.sampled_from([0, 1_500, 2_500, 5_000, 10_000, ROOM]),
    window_ms=st.sampled_from([0, 10, MIN_SPAN_MS, 2 * MIN_SPAN_MS, 5 * MIN_SPAN_MS]),
    probes=st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c"]), TIMES), max_size=20),
)
def test_rows_found_are_all_rows_there_were_when_the_time_is_complete(
    batches: list[list[tuple[bytes, int]]], memory_bytes: int, window_ms: int, probes: list[tuple[bytes, int]]
) -> None:
    kept, model, number = Kept(window_ms, memory_bytes), [], 0
    for batch in batches:
        rows = [b"%d" % (number + position) for position in range(len(batch))]
        number += len(rows)
        kept.add([key for key, _ in batch], rows, [time for _, time in batch])
        model += [(key, time, row) for (key, time), row in zip(batch, rows, strict=True)]
        assert 0 <= kept.recent.used_bytes <= memory_bytes
    for key, time in probes:
        if time >= kept.recent.complete_from:
            own = [(at, row) for other, at, row in model if other == key and time <= at <= time + window_ms]
            assert kept.recent.find(key, time, time + window_ms) == sorted(own, key=lambda match: match[0])


@given(
    rows=st.lists(st.tuples(st.sampled_from([b"a", b"b"]), TIMES), min_size=1, max_size=20),
    probes=st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c", None]), TIMES), min_size=1, max_size=20),
    window_ms=st.sampled_from([0, 10, MIN_SPAN_MS, 4 * MIN_SPAN_MS, 100 * MIN_SPAN_MS]),
    memory_bytes=st.sampled_from([2_500, ROOM]),
)
def test_many_keys_find_what_each_finds(
    rows: list[tuple[bytes, int]], probes: list[tuple[bytes | None, int]], window_ms: int, memory_bytes: int
) -> None:
    kept = Kept(window_ms, memory_bytes)
    kept.add([key for key, _ in rows], [b"%d" % n for n in range(len(rows))], [time for _, time in rows])
    found = kept.recent.find_many(Probes([key for key, _ in probes], [time for _, time in probes], 0, window_ms))
    assert found == [[] if key is None else kept.recent.find(key, time, time + window_ms) for key, time in probes]


def test_everything_is_complete_when_there_is_room() -> None:
    kept = Kept(10, ROOM)
    kept.add([b"a", b"a"], [b"1", b"2"], [5_000, 3])
    assert kept.recent.complete_from == 0
    assert kept.recent.find(b"a", 0, 10) == [(3, b"2")]


def test_the_oldest_rows_go_first_when_memory_is_short() -> None:
    kept = Kept(10, 2_500)
    for time in (0, 2 * MIN_SPAN_MS, 4 * MIN_SPAN_MS):
        kept.add([b"a"], [b"x"], [time])
    assert kept.recent.complete_from == MIN_SPAN_MS
    assert kept.recent.find(b"a", 4 * MIN_SPAN_MS, 4 * MIN_SPAN_MS) == [(4 * MIN_SPAN_MS, b"x")]
    assert kept.fetched == 0


def test_values_are_fetched_when_memory_is_too_short_for_those_of_a_window() -> None:
    kept = Kept(4 * MIN_SPAN_MS, 20_000)
    times = [0, 1, MIN_SPAN_MS, 2 * MIN_SPAN_MS, 3 * MIN_SPAN_MS]
    values = [b"%d" % number * 5_000 for number in range(len(times))]
    for time, value in zip(times, values, strict=True):
        kept.add([b"a"], [value], [time])
    kept.add([b"b"], [None], [4 * MIN_SPAN_MS])
    assert kept.recent.complete_from == 0
    assert kept.recent.find(b"a", 0, 4 * MIN_SPAN_MS) == list(zip(times, values, strict=True))
    assert 0 < kept.fetched < len(times)


def test_values_are_fetched_by_their_numbers_when_rows_between_were_left_out() -> None:
    kept = Kept(4 * MIN_SPAN_MS, 5_000)
    kept.add([b"a"] * 5, [b"1", None, b"2", b"3", b"4" * 9_000], [7, 7, 7, 7, 7])
    kept.add([b"a"], [b"5"], [7])
    assert [row[:1] for _, row in kept.recent.find(b"a", 7, 7)] == [b"1", b"2", b"3", b"4", b"5"]
    assert kept.fetched == 5


def test_expired_rows_take_no_memory() -> None:
    kept = Kept(10, ROOM)
    for time in range(0, 20 * MIN_SPAN_MS, MIN_SPAN_MS):
        kept.add([b"a"], [b"x"], [time], live_from=max(0, time - MIN_SPAN_MS))
        used = kept.recent.used_bytes
    assert used < 3 * 1_500
    assert kept.recent.complete_from == 0


def test_rows_without_a_value_are_left_out_when_others_are_kept() -> None:
    kept = Kept(10, ROOM)
    kept.add([b"a", b"a"], [None, b"1"], [1, 2])
    kept.add([b"a"], [None], [3])
    assert kept.recent.find(b"a", 0, 10) == [(2, b"1")]


def test_nothing_is_kept_when_there_is_no_memory() -> None:
    kept = Kept(10, 0)
    kept.add([b"a"], [b"1"], [1])
    assert kept.recent.complete_from > 1
    assert kept.recent.used_bytes == 0
