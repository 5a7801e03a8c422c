from datetime import timedelta
from typing import Any

import pytest

from streamlib import (
    EmitStrategy,
    SlidingWindows,
    StreamsBuilder,
    TimeWindowedKStream,
    TimeWindows,
    TopologyError,
    UnlimitedWindows,
    serdes,
)
from streamlib.state.spec import StoreSpec

SECOND = timedelta(seconds=1)
TUMBLING = TimeWindows.of(SECOND)
SLIDING = SlidingWindows.of(SECOND)
CLOSE = EmitStrategy.ON_WINDOW_CLOSE


def windowed(builder: StreamsBuilder, windows: Any) -> TimeWindowedKStream[str, str]:
    return builder.stream("in", serdes.STRING, serdes.STRING).group_by_key().windowed_by(windows)


def counted(windows: Any, emit: EmitStrategy | None, **materialized: Any) -> StoreSpec:
    builder = StreamsBuilder("app")
    stream = windowed(builder, windows)
    stream = stream if emit is None else stream.emit_strategy(emit)
    stream.count(store="w", **materialized)
    return builder.build().stores["w"]


@pytest.mark.parametrize("emit", [None, EmitStrategy.ON_WINDOW_UPDATE])
def test_a_store_is_plain_when_results_do_not_wait(emit: EmitStrategy | None) -> None:
    spec = counted(SLIDING, emit)
    assert (spec.caching, spec.time_ordered, spec.inclusive_retention) == (True, False, False)
    assert (spec.retention_ms, spec.window_size_ms) == (2_000, 1_000)


@pytest.mark.parametrize(("windows", "caching"), [(TUMBLING, True), (SLIDING, False)])
def test_a_store_has_the_order_of_time_when_results_wait(windows: Any, caching: bool) -> None:
    spec = counted(windows, CLOSE)
    assert (spec.caching, spec.time_ordered, spec.inclusive_retention) == (caching, True, True)
    assert not counted(windows, CLOSE, caching=False).caching


def test_retention_is_that_of_java_in_memory_when_results_wait() -> None:
    spec = counted(TUMBLING, CLOSE, in_memory=True)
    assert (spec.time_ordered, spec.inclusive_retention) == (True, False)


def test_each_aggregation_has_its_own_strategy_when_one_stream_gets_two() -> None:
    builder = StreamsBuilder("app")
    updates = windowed(builder, TUMBLING)
    updates.emit_strategy(CLOSE).count(store="once", name="once")
    updates.count(store="always", name="always")
    nodes = builder.build().nodes
    assert [nodes[name].emit for name in ("once", "always")] == [CLOSE, EmitStrategy.ON_WINDOW_UPDATE]  # type: ignore[attr-defined]


def test_unlimited_windows_are_refused_when_results_are_to_wait() -> None:
    builder = StreamsBuilder("app")
    windowed(builder, UnlimitedWindows.of()).emit_strategy(CLOSE).count(store="w")
    with pytest.raises(TopologyError, match="unlimited windows never close"):
        builder.build()


def test_a_strategy_is_refused_when_it_is_none() -> None:
    builder = StreamsBuilder("app")
    windowed(builder, TUMBLING).emit_strategy("on_window_close").count(store="w")  # type: ignore[arg-type]
    with pytest.raises(TopologyError, match="needs EmitStrategy"):
        builder.build()


@pytest.mark.parametrize(("windows", "least"), [(SLIDING, 2_000), (TUMBLING, 1_000)])
def test_a_retention_is_refused_when_it_is_shorter_than_the_windows_need(windows: Any, least: int) -> None:
    builder = StreamsBuilder("app")
    windowed(builder, windows).count(store="w", retention=timedelta(milliseconds=least - 1))
    with pytest.raises(TopologyError, match=f"need {least} ms"):
        builder.build()
    assert counted(windows, None, retention=timedelta(milliseconds=least)).retention_ms == least
