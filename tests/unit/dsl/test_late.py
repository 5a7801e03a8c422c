"""Late records as a side output: which come, what they carry, and that nothing else changes."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from streamlib import (
    EmitStrategy,
    JoinWindows,
    KStream,
    KTable,
    SessionWindows,
    SlidingWindows,
    StreamsBuilder,
    TimeWindows,
    TopologyError,
    Windowed,
    serdes,
)
from streamlib.testing.topics import Row
from streamlib.testing.topology_test_driver import TopologyTestDriver

pytestmark = pytest.mark.filterwarnings("ignore::streamlib.UnstableNameWarning")
S = serdes.STRING
Rows = list[tuple[Any, Any, int]]


def ms(number: int) -> timedelta:
    return timedelta(milliseconds=number)


def tumbling(size: int = 10, advance: int | None = None) -> TimeWindows:
    return TimeWindows.of(ms(size), advance=None if advance is None else ms(advance))


def counting(windows: Any, late_to: Any = "late", emit: EmitStrategy = EmitStrategy.ON_WINDOW_UPDATE) -> StreamsBuilder:
    builder = StreamsBuilder("app")
    grouped = builder.stream("in", S, S).group_by_key()
    table: KTable[Windowed[str], int] = grouped.windowed_by(windows).emit_strategy(emit).count(late_to=late_to)
    table.to_stream().map(lambda key, count: (key.key, str(count)), key_serde=S, value_serde=S).to("out")
    return builder


def run(builder: StreamsBuilder, rows: Rows, **config: int) -> TopologyTestDriver:
    driver = TopologyTestDriver(builder.build(), config)
    topic = driver.create_input_topic("in", S, S)
    for key, value, timestamp in rows:
        topic.pipe_input(key, value, timestamp)
    return driver


def late_rows(driver: TopologyTestDriver, topic: str = "late") -> list[tuple[Any, ...]]:
    """Key, value, timestamp, and the window's bounds."""
    found = []
    for row in driver.logs.topics[topic]:
        headers = dict(row.headers)
        bounds = int(headers["streamlib.late.window.start"] or 0), int(headers["streamlib.late.window.end"] or 0)
        found.append((row.key, row.value, row.timestamp_ms, *bounds))
    return found


def late_count(driver: TopologyTestDriver, reason: str = "late") -> int:
    return driver.metrics.total("dropped_records_total", reason=reason)


@pytest.mark.parametrize("cache", [0, 1_000_000])
@pytest.mark.parametrize("emit", list(EmitStrategy))
def test_late_records_come_as_they_are_with_the_window_they_missed(emit: EmitStrategy, cache: int) -> None:
    with run(counting(tumbling(), emit=emit), [("a", "1", 3)], statestore_cache_max_bytes=cache) as driver:
        topic = driver.create_input_topic("in", S, S)
        topic.pipe_input("a", "2", 25)
        topic.pipe_input("a", "3", 4, headers=[("trace", b"x")])
        topic.pipe_input("b", None, 9)
        assert late_rows(driver) == [(b"a", b"3", 4, 0, 10), (b"b", None, 9, 0, 10)]
        assert driver.logs.topics["late"][0].headers == (
            ("trace", b"x"),
            ("streamlib.late.window.start", b"0"),
            ("streamlib.late.window.end", b"10"),
            ("streamlib.late.stream.time", b"25"),
        )
        assert late_count(driver) == 2
        assert all("late" not in str(row.value) for row in driver.logs.topics["out"])


def test_a_record_comes_once_for_each_hopping_window_it_missed() -> None:
    with run(counting(tumbling(10, 5)), [("a", "1", 12), ("a", "2", 8)]) as driver:
        assert late_rows(driver) == [(b"a", b"2", 8, 0, 10)]
        driver.create_input_topic("in", S, S).pipe_input("a", "3", 2)
        assert late_rows(driver)[1:] == [(b"a", b"3", 2, 0, 10)]
        driver.create_input_topic("in", S, S).pipe_input("a", "4", 40)
        driver.create_input_topic("in", S, S).pipe_input("a", "5", 8)
        assert late_rows(driver)[2:] == [(b"a", b"5", 8, 0, 10), (b"a", b"5", 8, 5, 15)]
        assert late_count(driver) == 4


def test_each_closed_sliding_window_is_told_when_a_record_is_late() -> None:
    windows = SlidingWindows.of(ms(10), grace=ms(5))
    with run(counting(windows), [("a", "1", 100), ("a", "2", 90), ("a", "3", 50)]) as driver:
        assert late_rows(driver) == [(b"a", b"2", 90, 80, 90), (b"a", b"3", 50, 50, 60)]
        assert late_count(driver) == 2


def test_the_session_that_would_have_been_is_told_when_a_record_is_late() -> None:
    with run(counting(SessionWindows.of(ms(5))), [("a", "1", 100), ("b", "2", 90), ("b", "3", 96)]) as driver:
        assert late_rows(driver) == [(b"b", b"2", 90, 90, 90)]
        assert late_count(driver) == 1


@pytest.mark.parametrize("windows", [tumbling(), tumbling(10, 5), SlidingWindows.of(ms(10)), SessionWindows.of(ms(5))])
@pytest.mark.parametrize("emit", list(EmitStrategy))
def test_batches_give_the_same_late_records_as_single_ones(windows: Any, emit: EmitStrategy) -> None:
    times = [5, 60, 7, 61, 58, 90, 20, 91, 75, 88, 3, 120, 119, 101]
    found = []
    for rows_at_once in (1, 5, 100):
        with TopologyTestDriver(
            counting(windows, emit=emit).build(), {"statestore_cache_max_bytes": 0}, batch_rows=rows_at_once
        ) as driver:
            driver.pipe_rows("in", [Row(b"k", b"%d" % time, time, ()) for time in times])
            found.append((late_rows(driver), late_count(driver)))
            assert late_count(driver) == len(late_rows(driver)) > 2
    assert found[0] == found[1] == found[2]


def test_a_function_says_what_becomes_of_late_records() -> None:
    def keep(late: KStream[str, str]) -> None:
        late.filter(lambda key, value: key != "b").map_values(str.upper).to("kept")

    with run(counting(tumbling(), keep), [("a", "x", 25), ("a", "y", 4), ("b", "z", 5)]) as driver:
        assert late_rows(driver, "kept") == [(b"a", b"Y", 4, 0, 10)]
        assert [row.value for row in driver.logs.topics["out"]] == [b"1"]


@pytest.mark.parametrize("windows", [tumbling(), SlidingWindows.of(ms(10)), SessionWindows.of(ms(5))])
@pytest.mark.parametrize("emit", list(EmitStrategy))
def test_no_late_record_is_lost_when_the_worker_has_crashed(windows: Any, emit: EmitStrategy) -> None:
    times = [100_000_000, 200_000_000, 5]  # far beyond the retention of a segment
    with run(counting(windows, emit=emit), [("a", "1", time) for time in times[:2]]) as driver:
        driver.crash()
        driver.restart()
        driver.create_input_topic("in", S, S).pipe_input("a", "2", 5)
        assert [row[:3] for row in late_rows(driver)] == [(b"a", b"2", 5)]
        assert (late_count(driver), late_count(driver, "expired")) == (1, 0)


def test_values_are_decoded_for_late_records_when_counting_need_not_read_them() -> None:
    values: list[str] = []
    builder = counting(tumbling(), lambda late: late.for_each(lambda key, value: values.append(value)))
    with run(builder, [("a", "x", 25), ("a", "y", 4)], decode_unread_values=False):
        assert values == ["y"]


def test_names_stay_when_late_records_go_to_a_topic() -> None:
    plain, with_late = counting(tumbling(), None).build(), counting(tumbling()).build()
    name = "KSTREAM-AGGREGATE-0000000002"
    assert set(with_late.nodes) - set(plain.nodes) == {f"{name}-late", f"{name}-late-sink"}
    assert with_late.stores.keys() == plain.stores.keys()


@pytest.mark.parametrize("late_to", ["no/topic", 5])
def test_a_target_of_late_records_is_refused_when_it_is_none(late_to: Any) -> None:
    with pytest.raises(TopologyError, match="late"):
        counting(tumbling(), late_to).build()


@pytest.mark.parametrize("join", ["join", "left_join", "outer_join"])
@pytest.mark.parametrize("in_memory", [False, True])
def test_records_that_come_too_late_for_a_join_are_passed_on(join: str, in_memory: bool) -> None:
    builder = StreamsBuilder("app")
    left, right = builder.stream("in", S, S), builder.stream("others", S, serdes.INT64)
    method: Callable[..., KStream[str, str]] = getattr(left, join)
    options = {"late_to": "late", "in_memory": in_memory, "value_serde": S}
    method(right, lambda one, other: f"{one}{other}", JoinWindows.of(ms(10), after=ms(3)), **options).to("out")
    day = 10_000_000
    with run(builder, [("a", "x", day), ("a", "y", 5), (None, "z", 6)]) as driver:
        assert late_rows(driver) == [(b"a", b"y", 5, 0, 8)]
        assert late_count(driver, "expired") == 1
        others = driver.create_input_topic("others", S, serdes.INT64)
        others.pipe_input("a", 1, day + 1)
        others.pipe_input("a", 7, 20)
        assert late_rows(driver)[1:] == [(b"a", (7).to_bytes(8), 20, 17, 30)]
        driver.crash()
        driver.restart()
        driver.create_input_topic("others", S, serdes.INT64).pipe_input("a", 8, 30)
        assert late_rows(driver)[2:] == [(b"a", (8).to_bytes(8), 30, 27, 40)]
        assert b"x1" in [row.value for row in driver.logs.topics["out"]]


def cogrouped(windows: Any, late_to: Any) -> StreamsBuilder:
    builder = StreamsBuilder("app")
    one, two = builder.stream("in", S, S).group_by_key(), builder.stream("numbers", S, serdes.INT64).group_by_key()
    both = one.cogroup(lambda key, value, total: f"{total}{value}")
    windowed: Any = both.cogroup(two, lambda key, value, total: f"{total}{value}").windowed_by(windows)
    merger = (lambda key, left, right: left + right,) if isinstance(windows, SessionWindows) else ()
    table = windowed.aggregate(lambda: "", *merger, value_serde=S, late_to=late_to)
    table.to_stream().map(lambda key, total: (key.key, total), key_serde=S, value_serde=S).to("out")
    return builder


@pytest.mark.parametrize("windows", [tumbling(), SlidingWindows.of(ms(9)), SessionWindows.of(ms(9))])
def test_late_records_of_each_cogrouped_stream_are_written_as_their_stream_is(windows: Any) -> None:
    with run(cogrouped(windows, "late"), [("a", "1", 3), ("a", "2", 50), ("a", "3", 5)]) as driver:
        numbers = driver.create_input_topic("numbers", S, serdes.INT64)
        numbers.pipe_input("a", 4, 6)  # late for the other stream only
        numbers.pipe_input("a", 5, 60)
        numbers.pipe_input("b", 6, 7)
        assert [row[:3] for row in late_rows(driver)] == [(b"a", b"3", 5), (b"b", bytes([0] * 7 + [6]), 7)]
        assert late_count(driver) == 2


def test_the_function_gets_the_late_records_of_each_cogrouped_stream() -> None:
    streams: list[KStream[Any, Any]] = []
    builder = cogrouped(tumbling(), streams.append)
    assert len(streams) == 2
    streams[0].map_values(str.upper).to("late-texts")
    streams[1].map_values(lambda number: number + 1).to("late-numbers")
    with run(builder, [("a", "x", 50), ("a", "y", 5)]) as driver:
        numbers = driver.create_input_topic("numbers", S, serdes.INT64)
        numbers.pipe_input("a", 1, 50)
        numbers.pipe_input("a", 2, 5)
        assert [row[:3] for row in late_rows(driver, "late-texts")] == [(b"a", b"Y", 5)]
        assert [row[1] for row in late_rows(driver, "late-numbers")] == [bytes([0] * 7 + [3])]


def test_names_of_a_cogroup_stay_when_late_records_are_sent_on() -> None:
    plain, late = (cogrouped(tumbling(), to).build() for to in (None, "late"))
    added = [name for name in late.nodes if name not in plain.nodes]
    assert [name for name in late.nodes if name in plain.nodes] == list(plain.nodes)
    assert [name.rpartition("-late")[2] for name in added] == ["", "-sink", "", "-sink"]
    assert list(late.stores) == list(plain.stores)
