"""Windows that close while no records come: what comes out, when, and what is late afterwards."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from streamlib import (
    BufferConfig,
    EmitStrategy,
    JoinWindows,
    KStream,
    SessionWindows,
    SlidingWindows,
    StreamsBuilder,
    Suppressed,
    TimeWindows,
    TopologyError,
    serdes,
)
from streamlib.testing.topology_test_driver import TopologyTestDriver

pytestmark = pytest.mark.filterwarnings("ignore::streamlib.UnstableNameWarning")
S = serdes.STRING
FINAL = Suppressed.until_window_closes(BufferConfig.unbounded())
IDLE_MS = 5_000
WINDOWS = [
    pytest.param(TimeWindows.of(timedelta(seconds=10), grace=timedelta(seconds=2)), id="tumbling"),
    pytest.param(
        TimeWindows.of(timedelta(seconds=10), advance=timedelta(seconds=10), grace=timedelta(seconds=2)), id="hopping"
    ),
    pytest.param(SlidingWindows.of(timedelta(seconds=9), grace=timedelta(seconds=2)), id="sliding"),
    pytest.param(SessionWindows.of(timedelta(seconds=8), grace=timedelta(seconds=2)), id="session"),
]


def counted(windows: Any, *, final: str) -> StreamsBuilder:
    builder = StreamsBuilder("app")
    windowed = builder.stream("in", S, S).group_by_key().windowed_by(windows)
    if final == "emit":
        table = windowed.emit_strategy(EmitStrategy.ON_WINDOW_CLOSE).count(late_to="late")
    else:
        table = windowed.count(late_to="late").suppress(FINAL)
    table.to_stream().map(lambda key, count: (key.key, str(count)), key_serde=S, value_serde=S).to("out")
    return builder


def driver(builder: StreamsBuilder, cache: int = 0, idle_ms: int = IDLE_MS, **options: int) -> TopologyTestDriver:
    config = {"close_windows_after_idle_ms": idle_ms, "statestore_cache_max_bytes": cache}
    return TopologyTestDriver(builder.build(), config, initial_wall_clock_ms=1_000_000, **options)


def pipe(run: TopologyTestDriver, key: str, value: str, timestamp: int, topic: str = "in") -> None:
    run.create_input_topic(topic, S, S).pipe_input(key, value, timestamp)


def wait(run: TopologyTestDriver, ms: int) -> None:
    run.advance_wall_clock_time(timedelta(milliseconds=ms))


def out(run: TopologyTestDriver, topic: str = "out") -> list[str]:
    return [row.value.decode() for row in run.logs.topics[topic] if row.value is not None]


@pytest.mark.parametrize("windows", WINDOWS)
@pytest.mark.parametrize("final", ["emit", "suppress"])
@pytest.mark.parametrize("cache", [0, 1_000_000])
def test_windows_close_by_the_time_that_has_passed_without_records(windows: Any, final: str, cache: int) -> None:
    with driver(counted(windows, final=final), cache) as run:
        pipe(run, "a", "x", 9_000)
        pipe(run, "a", "y", 9_000)
        wait(run, 2_000)
        assert out(run) == []
        wait(run, 30_000)
        assert out(run) == ["2"]
        pipe(run, "a", "z", 9_500)
        wait(run, 60_000)
        assert out(run) == ["2"]
        assert out(run, "late") == ["z"]
        assert run.metrics.total("dropped_records_total", reason="late") == 1


def test_a_window_closes_when_its_end_and_grace_have_passed_and_not_before() -> None:
    with driver(counted(TimeWindows.of(timedelta(seconds=10), grace=timedelta(seconds=2)), final="emit")) as run:
        pipe(run, "a", "x", 5_000)
        wait(run, 6_999)  # stream time is 11,999
        assert out(run) == []
        wait(run, 1_000)
        assert out(run) == ["1"]


def test_nothing_closes_when_records_keep_coming_or_nobody_asks() -> None:
    windows = TimeWindows.of(timedelta(seconds=10))
    for idle_ms, step_ms in ((0, 60_000), (IDLE_MS, IDLE_MS - 1)):
        with driver(counted(windows, final="emit"), idle_ms=idle_ms) as run:
            for _ in range(5):
                pipe(run, "a", "x", 5_000)
                wait(run, step_ms)
            assert out(run) == []


def test_time_goes_on_from_the_next_record_when_it_is_later() -> None:
    with driver(counted(TimeWindows.of(timedelta(seconds=10)), final="emit")) as run:
        pipe(run, "a", "x", 5_000)
        wait(run, 20_000)
        pipe(run, "a", "y", 25_500)
        wait(run, 4_000)
        assert out(run) == ["1"]
        pipe(run, "a", "z", 24_000)  # closed? stream time is 25,500, the window ends at 30,000
        wait(run, IDLE_MS)
        assert out(run) == ["1", "2"]


@pytest.mark.parametrize("windows", WINDOWS)
@pytest.mark.parametrize("final", ["emit", "suppress"])
def test_held_windows_close_and_closed_ones_stay_so_after_a_crash(windows: Any, final: str) -> None:
    with driver(counted(windows, final=final)) as run:
        pipe(run, "a", "x", 9_000)
        run.crash()
        run.restart()
        assert out(run) == []
        wait(run, 30_000)
        assert out(run) == ["1"]
        run.crash()
        run.restart()
        pipe(run, "a", "y", 9_000)
        wait(run, 30_000)
        assert out(run) == ["1"]
        assert out(run, "late") == ["y"]


def joined(kind: str) -> StreamsBuilder:
    builder = StreamsBuilder("app")
    left, right = builder.stream("in", S, S), builder.stream("others", S, S)
    join: Callable[..., KStream[str, str]] = getattr(left, kind)
    windows = JoinWindows.of(timedelta(seconds=10), grace=timedelta(seconds=2))
    join(right, lambda one, other: f"{one}+{other}", windows, value_serde=S).to("out")
    return builder


@pytest.mark.parametrize(("kind", "alone"), [("left_join", ["x+None"]), ("outer_join", ["x+None", "None+y"])])
@pytest.mark.parametrize("crash", [False, True])
def test_records_without_a_match_come_out_when_no_records_come(kind: str, alone: list[str], crash: bool) -> None:
    with driver(joined(kind)) as run:
        pipe(run, "a", "x", 5_000)
        pipe(run, "b", "y", 6_000, "others")
        if crash:
            run.crash()
            run.restart()
        wait(run, 10_999)
        assert out(run) == []
        wait(run, 10_000)
        assert out(run) == alone
        if crash:
            run.crash()
            run.restart()
        wait(run, 20_000)
        pipe(run, "c", "z", 5_000)
        wait(run, 20_000)
        assert out(run) == [*alone, "z+None"]


def test_an_inner_join_holds_nothing_and_a_match_still_comes() -> None:
    with driver(joined("join")) as run:
        pipe(run, "a", "x", 5_000)
        wait(run, 60_000)
        pipe(run, "a", "y", 6_000, "others")
        assert out(run) == ["x+y"]


def closing(close_after_idle: timedelta | None, *, final: str, suppressed: timedelta | None = None) -> StreamsBuilder:
    builder = StreamsBuilder("app")
    windows = TimeWindows.of(timedelta(seconds=10))
    windowed = builder.stream("in", S, S).group_by_key().windowed_by(windows, close_after_idle=close_after_idle)
    if final == "emit":
        table = windowed.emit_strategy(EmitStrategy.ON_WINDOW_CLOSE).count()
    else:
        table = windowed.count().suppress(FINAL, close_after_idle=suppressed)
    table.to_stream().map(lambda key, count: (key.key, str(count)), key_serde=S, value_serde=S).to("out")
    return builder


@pytest.mark.parametrize("final", ["emit", "suppress"])
@pytest.mark.parametrize("worker_ms", [0, 2_000, 100_000])
def test_what_an_operation_says_goes_before_the_setting(final: str, worker_ms: int) -> None:
    with driver(closing(timedelta(seconds=20), final=final), idle_ms=worker_ms) as run:
        pipe(run, "a", "x", 9_000)
        wait(run, 19_000)
        assert out(run) == []
        wait(run, 1_000)
        assert out(run) == ["1"]


@pytest.mark.parametrize("final", ["emit", "suppress"])
def test_windows_of_an_operation_stay_open_when_it_says_never(final: str) -> None:
    with driver(closing(timedelta(), final=final)) as run:
        pipe(run, "a", "x", 9_000)
        wait(run, 1_000_000)
        assert out(run) == []


def test_a_suppression_may_wait_longer_than_the_windows_above() -> None:
    with driver(closing(timedelta(seconds=2), final="suppress", suppressed=timedelta(seconds=30)), idle_ms=0) as run:
        pipe(run, "a", "x", 9_000)
        wait(run, 29_000)
        assert out(run) == []
        wait(run, 1_000)
        assert out(run) == ["1"]


@pytest.mark.parametrize("windows", WINDOWS)
def test_windows_of_cogrouped_streams_close_as_their_operation_says(windows: Any) -> None:
    builder = StreamsBuilder("app")
    grouped = builder.stream("in", S, S).group_by_key()
    windowed: Any = grouped.cogroup(lambda key, value, total: total + value)
    windowed = windowed.windowed_by(windows, close_after_idle=timedelta(seconds=3))
    merger = (lambda key, left, right: left + right,) if isinstance(windows, SessionWindows) else ()
    table = windowed.aggregate(lambda: "", *merger, value_serde=S).suppress(FINAL)
    table.to_stream().map(lambda key, total: (key.key, total), key_serde=S, value_serde=S).to("out")
    with driver(builder, idle_ms=0) as run:
        pipe(run, "a", "x", 9_000)
        wait(run, 2_000)
        assert out(run) == []
        wait(run, 30_000)
        assert out(run) == ["x"]


def test_a_join_lets_rows_without_a_match_go_as_it_says() -> None:
    builder = StreamsBuilder("app")
    left, right = builder.stream("in", S, S), builder.stream("others", S, S)
    windows = JoinWindows.of(timedelta(seconds=10))
    idle = timedelta(seconds=20)
    left.left_join(right, lambda a, b: f"{a}+{b}", windows, value_serde=S, close_after_idle=idle).to("out")
    with driver(builder, idle_ms=0) as run:
        pipe(run, "a", "x", 9_000)
        wait(run, 19_000)
        assert out(run) == []
        wait(run, 1_000)
        assert out(run) == ["x+None"]


@pytest.mark.parametrize("wrong", [timedelta(seconds=-1), 5])
def test_an_idle_time_that_is_none_is_a_mistake(wrong: Any) -> None:
    with pytest.raises(TopologyError, match="windowed_by cannot close windows after an idle time of"):
        closing(wrong, final="emit").build()
    with pytest.raises(TopologyError, match="KTABLE-SUPPRESS-0000000003 cannot close windows after an idle"):
        closing(None, final="suppress", suppressed=wrong).build()
