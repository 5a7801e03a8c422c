from typing import Any

import pytest

from streamlib.operators.window_aggregate import window_aggregate
from streamlib.record import RecordBatch, Windowed
from streamlib.serdes import INT64
from streamlib.topology.nodes import WindowAggregate
from streamlib.topology.windows import EmitStrategy, SlidingWindows, TimeWindows

MB = 1 << 20
SECOND = 1_000


def final_count(windows: Any, **changes: Any) -> WindowAggregate:
    settings: dict[str, Any] = {"kind": "count", "emit": EmitStrategy.ON_WINDOW_CLOSE, **changes}
    return WindowAggregate(name="count", windows=windows, store="w", **settings)


@pytest.fixture
def build(spec: Any) -> Any:
    def make(site: Any, windows: Any, *, retention_ms: int | None = None, cache_bytes: int = 0, **changes: Any) -> Any:
        kept = spec(
            "w",
            kind="window",
            retention_ms=retention_ms or windows.default_retention_ms,
            window_size_ms=windows.size_ms,
            value_serde=INT64,
            time_ordered=True,
            inclusive_retention=True,
        )
        operator = site.build(window_aggregate, final_count(windows, **changes), spec=kept, cache_bytes=cache_bytes)
        operator.init()
        return operator

    return make


def emitted(site: Any) -> list[tuple[str, int, int]]:
    return [(key.key, key.start, value) for key, value, *_ in site.forwarded()]


@pytest.mark.parametrize("cache_bytes", [0, MB])
def test_windows_come_once_by_time_then_key_when_they_close(site, build, records, cache_bytes) -> None:
    operator = build(site, TimeWindows(10, 10, 5), retention_ms=100, cache_bytes=cache_bytes)
    operator.process(records(("b", 1, 1), ("a", 1, 2), ("a", 1, 3), ("c", 1, 12), ("aa", 1, 14)))
    assert site.forwarded() == []
    operator.process(records(("z", 1, 25), ("z", 1, 26), ("a", 1, 11)))
    assert site.forwarded() == [
        (Windowed("a", 0, 10), 2, 3),
        (Windowed("b", 0, 10), 1, 1),
        (Windowed("aa", 10, 20), 1, 14),
        (Windowed("c", 10, 20), 1, 12),
    ]
    assert site.dropped(reason="late") == 1
    operator.flush()
    assert site.forwarded() == []


def test_results_come_in_the_middle_of_a_batch_when_a_record_there_closes_windows(site, build, records) -> None:
    operator = build(site, TimeWindows(10, 10, 0))
    headers = [[("n", str(number).encode())] for number in range(4)]
    operator.process(records(("a", 1, 1), ("a", 1, 10), ("a", 1, 11), ("a", 1, 25), headers=headers))
    first, second = site.out
    assert (first.keys, first.values, first.headers, first.offsets) == (
        [Windowed("a", 0, 10)],
        [1],
        [headers[1]],
        [101],
    )
    assert (second.keys, second.values, second.headers) == ([Windowed("a", 10, 20)], [2], [headers[3]])


def test_old_values_are_none_when_they_are_wanted(site, build, records) -> None:
    operator = build(site, TimeWindows(10, 10, 0), send_old=True)
    operator.process(records(("a", 1, 1), ("a", 1, 2), ("a", 1, 10)))
    assert site.forwarded() == [(Windowed("a", 0, 10), 2, 2, None)]


def test_sliding_windows_come_once_when_they_close(site, build, records) -> None:
    operator = build(site, SlidingWindows(10, 0))
    operator.process(records(("a", 1, 20), ("a", 1, 25), ("b", 1, 30), ("b", 1, 31), ("b", 1, 37)))
    assert emitted(site) == [("a", 10, 1), ("a", 15, 2), ("b", 20, 1), ("a", 21, 1), ("b", 21, 2)]


def test_nothing_comes_twice_when_the_operator_begins_anew(site, build, records) -> None:
    operator = build(site, TimeWindows(10, 10, 0), retention_ms=1_000)
    operator.process(records(("a", 1, 1), ("a", 1, 10)))
    assert emitted(site) == [("a", 0, 1)]
    assert site.processor_metadata == {"w": 10}
    operator.init()
    operator.process(records(("b", 1, 11), ("b", 1, 21)))
    assert emitted(site) == [("a", 10, 1), ("b", 10, 1)]


def test_everything_in_the_store_comes_when_nothing_is_known_of_earlier_results(site, build, records) -> None:
    operator = build(site, TimeWindows(10, 10, 0), retention_ms=1_000)
    operator.process(records(("a", 1, 1), ("a", 1, 10)))
    assert emitted(site) == [("a", 0, 1)]
    site.processor_metadata.clear()
    operator.init()
    operator.process(records(("b", 1, 21)))
    assert emitted(site) == [("a", 0, 1), ("a", 10, 1)]


def test_results_wait_for_the_wall_clock_when_they_are_throttled(site, build, records) -> None:
    site.emit_interval_ms = SECOND
    operator = build(site, TimeWindows(10, 10, 0), retention_ms=10_000)
    operator.process(records(("a", 1, 1), ("a", 1, 10)))
    assert emitted(site) == [("a", 0, 1)]
    operator.process(records(("a", 1, 20)))
    site.clock.advance_ms(SECOND - 1)
    operator.process(records(("a", 1, 30)))
    assert emitted(site) == []
    site.clock.advance_ms(1)
    operator.process(records(("a", 1, 31)))
    assert emitted(site) == [("a", 10, 1), ("a", 20, 1)]


@pytest.mark.parametrize("windows", [TimeWindows(10, 10, 0), TimeWindows(10, 3, 4), SlidingWindows(10, 3)])
def test_the_throttle_loses_nothing_when_stream_time_outruns_the_retention(new_site, build, windows) -> None:
    batch = RecordBatch(["a"] * 500, ["v"] * 500, list(range(10, 1_010, 2)))
    held, free = new_site(emit_interval_ms=SECOND), new_site()
    for site in (held, free):
        build(site, windows).process(batch)
    everything = emitted(free)
    assert len(everything) > 90
    found = emitted(held)
    assert found == everything[: len(found)]
    assert len(everything) - len(found) < 8  # those at the end wait for the clock
    assert len(held.out) <= len(free.out)


def test_a_window_is_lost_when_one_record_outruns_the_retention_without_a_cache(site, build, records) -> None:
    operator = build(site, TimeWindows(10, 10, 0))
    operator.process(records(("a", 1, 1), ("a", 1, 500)))
    assert emitted(site) == []


def test_a_window_is_kept_when_one_record_outruns_the_retention_with_a_cache(site, build, records) -> None:
    site.emit_interval_ms = SECOND
    operator = build(site, TimeWindows(10, 10, 0), cache_bytes=MB)
    operator.process(records(("z", 1, 1), ("z", 1, 10)))
    assert emitted(site) == [("z", 0, 1)]
    operator.process(records(("a", 1, 500)))
    operator.flush()
    assert emitted(site) == [("z", 10, 1)]


def test_the_next_record_closes_windows_when_a_function_fails_on_the_one_that_would(skipping, build, records) -> None:
    def fail_on_bad(key: str, value: str, aggregate: int) -> int:
        if value == "bad":
            raise ValueError(value)
        return aggregate + 1

    operator = build(
        skipping, TimeWindows(10, 10, 0), kind="aggregate", initializer=int, aggregator=fail_on_bad, retention_ms=99
    )
    batch = records(("a", "good", 1), ("a", "bad", 10), ("a", "good", 11))
    operator.process(batch)
    (results,) = skipping.out
    assert (results.keys, results.values, results.offsets) == ([Windowed("a", 0, 10)], [1], [102])


@pytest.mark.parametrize("windows", [TimeWindows(10, 10, 3), TimeWindows(10, 4, 0), SlidingWindows(7, 2)])
def test_results_are_those_of_single_records_when_they_come_in_batches(new_site, build, records, windows) -> None:
    times = [3, 9, 12, 10, 14, 22, 21, 30, 28, 31, 45, 44, 60, 61, 59, 75, 93, 92, 140]
    rows = [("ab"[number % 2], "v", at) for number, at in enumerate(times)]
    single, whole = new_site(), new_site()
    operator = build(single, windows)
    for row in rows:
        operator.process(records(row))
    build(whole, windows).process(records(*rows))
    assert single.forwarded() == whole.forwarded() != []
    assert single.changelog.rows == whole.changelog.rows
