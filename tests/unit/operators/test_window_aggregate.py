from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlib.operators.window_aggregate import window_aggregate
from streamlib.record import RecordBatch, Windowed
from streamlib.serdes import INT64
from streamlib.topology.nodes import WindowAggregate
from streamlib.topology.windows import TimeWindows

MB = 1 << 20
TUMBLING = TimeWindows(10, 10, 0)
HOPPING = TimeWindows(10, 5, 0)


def window_count(windows: TimeWindows = TUMBLING, **changes: Any) -> WindowAggregate:
    return WindowAggregate(name="count", windows=windows, kind="count", store="w", **changes)


@pytest.fixture
def windows_spec(spec: Any) -> Any:
    return spec("w", kind="window", retention_ms=86_400_000, window_size_ms=10, value_serde=INT64)


def test_keys_are_windowed_and_store_keys_have_start_and_sequence(site, windows_spec, records):
    operator = site.build(window_aggregate, window_count(), spec=windows_spec)
    operator.process(records(("a", "x", 3), ("a", "x", 9), ("b", "x", 10)))
    assert site.forwarded() == [
        (Windowed("a", 0, 10), 1, 3),
        (Windowed("a", 0, 10), 2, 9),
        (Windowed("b", 10, 20), 1, 10),
    ]
    assert [key.hex() for key, _, _ in site.changelog.rows[1:]] == [
        "61" + "0000000000000000" + "00000000",
        "62" + "000000000000000a" + "00000000",
    ]


def test_a_record_goes_to_each_window_that_contains_it_oldest_first(site, windows_spec, records):
    operator = site.build(window_aggregate, window_count(HOPPING), spec=windows_spec)
    operator.process(records(("a", "x", 3), ("a", "x", 7), ("a", "x", 14)))
    assert [(row[0].start, row[1]) for row in site.forwarded()] == [(0, 1), (0, 2), (5, 1), (5, 2), (10, 1)]


def test_a_record_is_late_once_stream_time_reaches_the_end_plus_grace(site, windows_spec, records):
    operator = site.build(window_aggregate, window_count(TimeWindows(10, 10, 3)), spec=windows_spec)
    operator.process(records(("a", "x", 5), ("a", "x", 12), ("a", "x", 6)))
    assert [row[0].start for row in site.forwarded()] == [0, 10, 0]
    batch = records(("a", "x", 13), ("a", "x", 7), ("b", "x", 8), ("a", "x", 10), headers=[[("h", b"1")], [], [], []])
    operator.process(batch)
    assert site.out[0].headers == [[("h", b"1")], []]
    assert [(row[0].start, row[1]) for row in site.forwarded()] == [(10, 2), (10, 3)]
    assert site.dropped(node="count", reason="late") == 2


def test_only_the_closed_windows_of_a_record_are_late_when_hopping(site, windows_spec, records):
    operator = site.build(window_aggregate, window_count(HOPPING), spec=windows_spec)
    operator.process(records(("a", "x", 12), ("a", "x", 7)))
    assert [(row[0].start, row[1]) for row in site.forwarded()] == [(5, 1), (10, 1), (5, 2)]
    assert site.dropped(reason="late") == 1


@pytest.mark.parametrize("cache_bytes", [0, MB])
def test_null_keys_are_dropped_and_null_values_count(site, windows_spec, records, cache_bytes):
    operator = site.build(window_aggregate, window_count(), spec=windows_spec, cache_bytes=cache_bytes)
    operator.process(records((None, "x", 50), ("a", None, 3)))
    operator.process(records((None, "x", 50)))
    operator.flush()
    assert site.forwarded() == [(Windowed("a", 0, 10), 1, 3)]
    assert site.dropped(node="count", reason="null-key") == 2
    assert site.dropped() == 2


@pytest.mark.parametrize("windows", [TUMBLING, HOPPING])
def test_one_update_for_each_key_and_window_comes_out_when_cached(site, windows_spec, records, windows):
    operator = site.build(window_aggregate, window_count(windows, send_old=True), spec=windows_spec, cache_bytes=MB)
    operator.process(records(("a", "x", 11), ("b", "x", 12), ("a", "x", 13)))
    operator.flush()
    starts = [10] if windows is TUMBLING else [5, 10]
    assert site.forwarded() == [
        *((Windowed("b", start, start + 10), 1, 12, None) for start in starts),
        *((Windowed("a", start, start + 10), 2, 13, None) for start in starts),
    ]
    operator.process(records(("b", "x", 10)))
    operator.flush()
    assert [row[1:] for row in site.forwarded()] == [(2, 12, 1)] * len(starts)


@pytest.mark.parametrize("cache_bytes", [0, MB])
def test_functions_see_the_plain_key_and_reduce_keeps_the_first_value(site, spec, records, cache_bytes):
    store = spec("w", kind="window", retention_ms=86_400_000)
    node = WindowAggregate(
        name="agg",
        windows=TUMBLING,
        kind="aggregate",
        store="w",
        initializer=list,
        aggregator=lambda k, v, a: [*a, k, v],
    )
    operator = site.build(window_aggregate, node, spec=store, cache_bytes=cache_bytes)
    operator.process(records(("a", 1, 3)))
    operator.process(records(("a", None, 4)))
    operator.flush()
    assert site.forwarded()[-1] == (Windowed("a", 0, 10), ["a", 1, "a", None], 4)
    node = WindowAggregate(name="reduce", windows=TUMBLING, kind="reduce", store="w", aggregator=lambda a, v: a + v)
    operator = site.build(window_aggregate, node, spec=store, cache_bytes=cache_bytes)
    operator.process(records(("a", 1, 3), ("a", 2, 4)))
    operator.flush()
    assert site.forwarded()[-1] == (Windowed("a", 0, 10), 3, 4)


@pytest.mark.parametrize("cache_bytes", [0, MB])
def test_a_record_is_not_tried_in_later_windows_when_it_failed_in_one(skipping, spec, records, cache_bytes):
    def add(_key: str, value: int, aggregate: int) -> int:
        if value == 0 and aggregate == 1:
            raise ValueError("no")
        return aggregate + 1

    node = WindowAggregate(name="agg", windows=HOPPING, kind="aggregate", store="w", initializer=int, aggregator=add)
    store = spec("w", kind="window", retention_ms=86_400_000)
    operator = skipping.build(window_aggregate, node, spec=store, cache_bytes=cache_bytes)
    operator.process(records(("a", 1, 3), ("a", 0, 7), ("b", 1, 7), ("a", 1, 8)))
    operator.flush()
    latest = {(row[0].key, row[0].start): row[1] for row in skipping.forwarded()}
    assert latest == {("a", 0): 2, ("a", 5): 1, ("b", 0): 1, ("b", 5): 1}
    assert [failure[1:] for failure in skipping.failures] == [("agg", "a", 0, 7, 101)]


@given(
    rows=st.lists(
        st.tuples(st.sampled_from(["a", "b", None]), st.sampled_from([1, 2, 0, None]), st.integers(0, 60)), min_size=1
    ),
    windows=st.sampled_from([TUMBLING, HOPPING, TimeWindows(10, 10, 15), TimeWindows(12, 5, 4)]),
    counts=st.booleans(),
    cache_bytes=st.sampled_from([0, MB]),
)
def test_whole_batches_give_what_single_rows_give(new_site, spec, rows, windows, counts, cache_bytes):
    def total(_key: str, value: Any, aggregate: list[int]) -> list[int]:
        aggregate.append(6 // (value or 0))
        return aggregate

    node = (
        window_count(windows, send_old=True)
        if counts
        else WindowAggregate(
            name="agg", windows=windows, kind="aggregate", store="w", initializer=list, aggregator=total, send_old=True
        )
    )
    whole, single = new_site(skip_errors=True), new_site(skip_errors=True)
    store = spec("w", kind="window", retention_ms=86_400_000)
    operators = [each.build(window_aggregate, node, spec=store, cache_bytes=cache_bytes) for each in (whole, single)]
    keys, values, timestamps = map(list, zip(*rows, strict=True))
    operators[0].process(RecordBatch(keys, values, timestamps, list(range(len(rows)))))
    for row, (key, value, timestamp) in enumerate(rows):
        operators[1].process(RecordBatch([key], [value], [timestamp], [row]))
    for operator in operators:
        operator.flush()
    assert whole.forwarded() == single.forwarded()
    assert whole.failures == single.failures
    assert whole.changelog.rows == single.changelog.rows
    assert whole.dropped() == single.dropped()
