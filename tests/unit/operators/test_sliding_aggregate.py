from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlib.operators.window_aggregate import window_aggregate
from streamlib.record import Windowed
from streamlib.serdes import INT64, JSON
from streamlib.topology.nodes import WindowAggregate
from streamlib.topology.windows import SlidingWindows

MB = 1 << 20
DIFFERENCE = 10
FOREVER = SlidingWindows(DIFFERENCE, 1_000_000)
TIMES = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 60)), min_size=1, max_size=25)


def gathering(windows: SlidingWindows, aggregator: Any = lambda _key, value, so_far: [*so_far, value]) -> Any:
    return WindowAggregate(
        name="gather", windows=windows, kind="aggregate", store="w", initializer=list, aggregator=aggregator
    )


@pytest.fixture(scope="module")
def sliding_spec(spec: Any) -> Any:
    def make(windows: SlidingWindows, **changes: Any) -> Any:
        settings = {
            "retention_ms": windows.default_retention_ms,
            "window_size_ms": windows.size_ms,
            "value_serde": JSON,
        }
        return spec("w", kind="window", **{**settings, **changes})

    return make


@pytest.fixture
def counting(sliding_spec: Any) -> Any:
    def make(site: Any, windows: SlidingWindows, *, cache_bytes: int = 0, **changes: Any) -> Any:
        node = WindowAggregate(name="count", windows=windows, kind="count", store="w", **changes)
        counts = sliding_spec(windows, value_serde=INT64)
        return site.build(window_aggregate, node, spec=counts, cache_bytes=cache_bytes)

    return make


def by_definition(rows: list[tuple[str, Any, int]]) -> dict[tuple[str, int], list[Any]]:
    """Every window that ends at a record, or begins right after one and has records, with its values as they came."""
    found = {}
    for key in {key for key, _, _ in rows}:
        times = [at for own, _, at in rows if own == key]
        starts = {max(0, at - DIFFERENCE) for at in times} | {at + 1 for at in times}
        for start in starts:
            values = [value for own, value, at in rows if own == key and start <= at <= start + DIFFERENCE]
            if values:
                found[key, start] = values
    return found


@given(times=TIMES)
@pytest.mark.parametrize("cache_bytes", [0, MB])
def test_the_rows_are_the_windows_by_definition_whatever_the_order(
    new_site, sliding_spec, records, cache_bytes, times
) -> None:
    rows = [(key, number, at) for number, (key, at) in enumerate(times)]
    site = new_site()
    operator = site.build(window_aggregate, gathering(FOREVER), spec=sliding_spec(FOREVER), cache_bytes=cache_bytes)
    operator.process(records(*rows))
    operator.flush()
    stored = {(raw[:-12].decode(), int.from_bytes(raw[-12:-4])): value for raw, (value, _) in site.stored("w").items()}
    assert stored == by_definition(rows)


@given(times=TIMES, grace=st.integers(0, 30), cut=st.integers(0, 25))
def test_results_are_those_of_single_records_when_they_come_in_batches(
    new_site, sliding_spec, records, times, grace, cut
) -> None:
    windows = SlidingWindows(DIFFERENCE, grace)
    rows = [(key, number, at) for number, (key, at) in enumerate(times)]
    single, parts = new_site(), new_site()
    operator = single.build(window_aggregate, gathering(windows), spec=sliding_spec(windows))
    for row in rows:
        operator.process(records(row))
    operator = parts.build(window_aggregate, gathering(windows), spec=sliding_spec(windows))
    for part in (rows[:cut], rows[cut:]):
        if part:
            operator.process(records(*part))
    assert single.forwarded() == parts.forwarded()
    assert single.changelog.rows == parts.changelog.rows
    assert single.dropped() == parts.dropped()


def test_windows_come_in_the_order_of_java_when_a_record_is_out_of_order(site, counting, records) -> None:
    operator = counting(site, FOREVER)
    operator.process(records(("a", "x", 20), ("a", "x", 26)))
    assert [(key.start, count, at) for key, count, at in site.forwarded()] == [
        (10, 1, 20),
        (21, 1, 26),  # right after the record before
        (16, 2, 26),  # the one that ends here takes over what ended at 20
    ]
    operator.process(records(("a", "x", 23)))
    assert [(key.start, count, at) for key, count, at in site.forwarded()] == [
        (21, 2, 26),
        (16, 3, 26),
        (13, 2, 23),
        (24, 1, 26),  # right after this record, with what follows
    ]


def test_records_share_the_first_window_when_they_are_early(site, counting, records) -> None:
    operator = counting(site, FOREVER)
    operator.process(records(("a", "x", 2), ("a", "x", 5), ("a", "x", 1)))
    assert [(key.start, key.end, count, at) for key, count, at in site.forwarded()] == [
        (0, 10, 1, 2),
        (3, 13, 1, 5),
        (0, 10, 2, 5),
        (2, 12, 2, 5),
        (0, 10, 3, 5),
    ]


def test_old_values_are_what_the_window_started_from(site, counting, records) -> None:
    operator = counting(site, FOREVER, send_old=True)
    operator.process(records(("a", "x", 20), ("a", "x", 26), ("a", "x", 23)))
    rows = [(key.start, count, old) for key, count, _, old in site.forwarded()]
    assert rows[:3] == [(10, 1, 0), (21, 1, 0), (16, 2, 1)]
    assert rows[-1] == (24, 1, None)


def test_a_record_is_late_when_every_window_it_could_be_in_is_closed(site, counting, records) -> None:
    operator = counting(site, SlidingWindows(10, 5))
    operator.process(records(("a", "x", 50), ("a", "x", 35), ("a", "x", 34)))
    # [35, 45] is not closed at 45, but [25, 35] is; the record at 34 could at best be in [34, 44].
    assert [(key.start, count) for key, count, _ in site.forwarded()] == [(40, 1)]
    assert site.dropped(node="count", reason="late") == 2


@pytest.mark.parametrize("cache_bytes", [0, MB])
def test_records_without_key_or_value_are_dropped(site, counting, records, cache_bytes) -> None:
    operator = counting(site, FOREVER, cache_bytes=cache_bytes)
    operator.process(records((None, "x", 50), ("a", None, 50), ("a", "x", 20)))
    operator.process(records((None, None, 50)))
    operator.flush()
    assert site.forwarded() == [(Windowed("a", 10, 20), 1, 20)]
    assert (site.dropped(reason="null-key"), site.dropped(reason="null-value")) == (2, 1)


def test_each_window_comes_once_when_cached(site, counting, records) -> None:
    operator = counting(site, FOREVER, cache_bytes=MB, send_old=True)
    operator.process(records(("a", "x", 20), ("a", "x", 26)))
    operator.process(records(("a", "x", 23)))
    assert site.forwarded() == []
    assert operator.flush() == 0
    rows = site.forwarded()
    assert [(key.start, count, old) for key, count, _, old in rows] == [
        (10, 1, None),
        (21, 2, None),
        (16, 3, None),
        (13, 2, None),
        (24, 1, None),
    ]
    operator.process(records(("a", "x", 30)))
    operator.flush()
    assert [(key.start, count, old) for key, count, _, old in site.forwarded()][:2] == [(24, 2, 1), (21, 3, 2)]


def test_uncommitted_windows_are_forgotten_when_work_is_dropped(site, counting, records) -> None:
    operator = counting(site, FOREVER, cache_bytes=MB)
    operator.process(records(("a", "x", 20)))
    site.tables["w"].cache.discard()
    site.stores["w"].discard()
    operator.init()
    operator.process(records(("a", "x", 24)))
    operator.flush()
    assert [(key.start, count) for key, count, _ in site.forwarded()] == [(14, 1)]


def test_a_window_is_deleted_when_the_aggregate_is_none(site, sliding_spec, records) -> None:
    node = gathering(FOREVER, lambda _key, value, so_far: None if value == "end" else [*(so_far or []), value])
    operator = site.build(window_aggregate, node, spec=sliding_spec(FOREVER))
    operator.process(records(("a", "x", 20), ("a", "end", 20)))
    assert site.forwarded() == [(Windowed("a", 10, 20), ["x"], 20), (Windowed("a", 10, 20), None, 20)]
    assert site.stored("w") == {}


def test_aggregates_stay_apart_when_they_are_changed_in_place(site, sliding_spec, records) -> None:
    def add(_key: str, value: Any, so_far: list[Any]) -> list[Any]:
        so_far.append(value)
        return so_far

    rows = [("a", number, at) for number, at in enumerate([20, 26, 23, 23, 31, 24])]
    site.build(window_aggregate, gathering(FOREVER, add), spec=sliding_spec(FOREVER)).process(records(*rows))
    stored = {("a", int.from_bytes(raw[-12:-4])): value for raw, (value, _) in site.stored("w").items()}
    assert stored == by_definition(rows)
    assert site.forwarded()[0] == (Windowed("a", 10, 20), [0], 20)


@pytest.mark.parametrize("broken", ["initializer", "aggregator"])
def test_the_rest_of_a_record_is_left_out_when_a_function_raises(skipping, sliding_spec, records, broken) -> None:
    calls = []

    def initializer() -> list[Any]:
        if broken == "initializer" and calls:
            raise ValueError("initializer")
        return []

    def add(_key: str, value: Any, so_far: list[Any]) -> list[Any]:
        calls.append(value)
        if broken == "aggregator" and len(calls) == 3:
            raise ValueError("aggregator")
        return [*so_far, value]

    node = WindowAggregate(
        name="gather", windows=FOREVER, kind="aggregate", store="w", initializer=initializer, aggregator=add
    )
    operator = skipping.build(window_aggregate, node, spec=sliding_spec(FOREVER))
    operator.process(records(("a", "x", 20), ("a", "y", 26), ("b", "z", 26)))
    (key, value, at) = skipping.failures[0][2:5]
    assert (skipping.failures[0][1], key, value, at) == ("gather", "a", "y", 26)
    kept = [(key.key, key.start) for key, *_ in skipping.forwarded()]
    assert kept == ([("a", 10)] if broken == "initializer" else [("a", 10), ("a", 21), ("b", 16)])
