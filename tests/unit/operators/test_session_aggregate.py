from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlib.errors import ProcessingError
from streamlib.operators.session_aggregate import session_aggregate
from streamlib.record import RecordBatch, Windowed
from streamlib.serdes import INT64
from streamlib.topology.nodes import TableSource
from streamlib.topology.session_nodes import SessionAggregate
from streamlib.topology.windows import EmitStrategy, SessionWindows

MB = 1 << 20
GAP = SessionWindows(5)


def counting(windows: SessionWindows = GAP, **changes: Any) -> SessionAggregate:
    return SessionAggregate(name="count", windows=windows, kind="count", store="s", **changes)


def collecting(windows: SessionWindows = GAP, **changes: Any) -> SessionAggregate:
    functions = {
        "initializer": list,
        "aggregator": lambda key, value, aggregate: [*aggregate, value],
        "merger": lambda key, one, other: one + other,
    }
    return SessionAggregate(name="list", windows=windows, kind="aggregate", store="s", **{**functions, **changes})


@pytest.fixture
def counts(spec: Any) -> Any:
    return spec("s", kind="session", retention_ms=5, value_serde=INT64)


@pytest.fixture
def lists(spec: Any) -> Any:
    return spec("s", kind="session", retention_ms=5)


def a(start: int, end: int) -> Windowed[str]:
    return Windowed("a", start, end)


def test_a_session_is_deleted_and_made_anew_when_a_record_lies_within_the_gap(site, counts, records):
    operator = site.build(session_aggregate, counting(), spec=counts)
    operator.process(records(("a", "x", 3), ("a", "x", 8), ("b", "x", 9)))
    assert site.forwarded() == [
        (a(3, 3), 1, 3),
        (a(3, 3), None, 3),
        (a(3, 8), 2, 8),
        (Windowed("b", 9, 9), 1, 9),
    ]
    assert [(key.hex(), at) for key, _, at in site.changelog.rows] == [
        ("61" + "0000000000000003" + "0000000000000003", 3),
        ("61" + "0000000000000003" + "0000000000000003", 8),
        ("61" + "0000000000000008" + "0000000000000003", 8),
        ("62" + "0000000000000009" + "0000000000000009", 9),
    ]


def test_a_new_session_begins_when_a_record_is_one_millisecond_past_the_gap(site, counts, records):
    operator = site.build(session_aggregate, counting(SessionWindows(5, 50)), spec=counts)
    operator.process(records(("a", "x", 10), ("a", "x", 16), ("a", "x", 4)))
    assert [row[0] for row in site.forwarded()] == [a(10, 10), a(16, 16), a(4, 4)]


def test_stream_time_begins_anew_when_work_was_dropped(site, spec, records):
    operator = site.build(
        session_aggregate, counting(), spec=spec("s", kind="session", retention_ms=1_000, value_serde=INT64)
    )
    operator.process(records(("a", "x", 100)))
    operator.init()
    site.forwarded()
    operator.process(records(("a", "x", 50)))
    assert (site.forwarded(), site.dropped(reason="late")) == ([(a(50, 50), 1, 50)], 0)


def test_sessions_are_merged_in_the_order_of_time_when_a_record_joins_them(site, spec, records):
    operator = site.build(
        session_aggregate, collecting(SessionWindows(5, 50)), spec=spec("s", kind="session", retention_ms=55)
    )
    operator.process(records(("a", 3, 20), ("a", 1, 10)))
    site.forwarded()
    operator.process(records(("a", 2, 15)))
    assert site.forwarded() == [(a(10, 10), None, 10), (a(20, 20), None, 20), (a(10, 20), [1, 3, 2], 20)]


def test_no_deletion_comes_out_when_the_session_is_the_same_point(site, counts, records):
    operator = site.build(session_aggregate, counting(send_old=True), spec=counts)
    operator.process(records(("a", "x", 3)))
    operator.process(records(("a", "x", 3)))
    assert site.forwarded() == [(a(3, 3), 1, 3, None), (a(3, 3), 2, 3, None)]


@pytest.mark.parametrize("cache_bytes", [0, MB])
def test_old_values_go_with_deletions_when_asked_for(site, lists, records, cache_bytes):
    operator = site.build(session_aggregate, collecting(send_old=True), spec=lists, cache_bytes=cache_bytes)
    operator.process(records(("a", 1, 3)))
    operator.flush()
    site.forwarded()
    operator.process(records(("a", 2, 8)))
    operator.flush()
    assert site.forwarded() == [(a(3, 3), None, 3, [1]), (a(3, 8), [1, 2], 8, None)]


@pytest.mark.parametrize("cache_bytes", [0, MB])
def test_a_record_is_late_when_the_session_it_would_extend_is_closed(site, counts, records, cache_bytes):
    operator = site.build(session_aggregate, counting(SessionWindows(5, 2)), spec=counts, cache_bytes=cache_bytes)
    operator.process(records(("b", "x", 20), ("a", "x", 12), ("a", "x", 13), ("a", "x", 7)))
    operator.flush()
    assert [row[:2] for row in site.forwarded()] == [(Windowed("b", 20, 20), 1), (a(13, 13), 1)]
    assert site.dropped(node="count", reason="late") == 2


def test_an_old_record_is_taken_when_it_extends_an_open_session(site, spec, records):
    lists = spec("s", kind="session", retention_ms=100)
    operator = site.build(session_aggregate, collecting(SessionWindows(5, 2)), spec=lists)
    operator.process(records(("a", 1, 10), ("b", 1, 16), ("a", 2, 6)))
    assert site.forwarded()[-1] == (a(6, 10), [1, 2], 10)
    assert site.dropped() == 0


@pytest.mark.parametrize("cache_bytes", [0, MB])
def test_null_keys_are_dropped_and_null_values_count(site, counts, records, cache_bytes):
    operator = site.build(session_aggregate, counting(), spec=counts, cache_bytes=cache_bytes)
    operator.process(records((None, "x", 50), ("a", None, 3)))
    operator.process(records((None, "x", 50)))
    operator.flush()
    assert site.forwarded() == [(a(3, 3), 1, 3)]
    assert (site.dropped(node="count", reason="null-key"), site.dropped()) == (2, 2)


def test_headers_come_out_only_when_a_cache_is_between(new_site, counts, records):
    batch = records(("a", "x", 3), ("a", "x", 8), headers=[[("h", b"1")], [("h", b"2")]])
    plain, cached = new_site(), new_site()
    plain.build(session_aggregate, counting(), spec=counts).process(batch)
    operator = cached.build(session_aggregate, counting(), spec=counts, cache_bytes=MB)
    operator.process(batch)
    operator.flush()
    assert [out.headers for out in plain.out] == [None]
    assert plain.out[0].offsets == [100, 101, 101]
    assert [out.headers for out in cached.out] == [[[("h", b"2")]]]


def test_the_first_value_is_taken_as_it_is_when_reducing(site, lists, records):
    node = SessionAggregate(
        name="reduce", windows=GAP, kind="reduce", store="s", aggregator=lambda aggregate, value: f"{aggregate}{value}"
    )
    operator = site.build(session_aggregate, node, spec=lists)
    operator.process(records(("a", "x", 3), ("a", "y", 4)))
    assert [value for _, value, _ in site.forwarded()] == ["x", None, "xy"]


def test_a_session_is_removed_when_the_aggregator_gives_none(site, lists, records):
    node = collecting(aggregator=lambda key, value, aggregate: None if value == 0 else [*aggregate, value])
    operator = site.build(session_aggregate, node, spec=lists)
    operator.process(records(("a", 1, 3), ("a", 0, 4), ("a", 2, 5)))
    assert site.forwarded() == [(a(3, 3), [1], 3), (a(3, 3), None, 3), (a(3, 4), None, 4), (a(5, 5), [2], 5)]
    assert site.stored("s").keys() == {b"a" + bytes.fromhex("0000000000000005" * 2)}


def test_merged_sessions_stay_when_the_merger_raises(skipping, lists, records):
    node = collecting(merger=lambda key, one, other: 1 / 0)
    operator = skipping.build(session_aggregate, node, spec=lists)
    operator.process(records(("a", 1, 3), ("a", 2, 4), ("a", 5, 50)))
    assert skipping.forwarded() == [(a(3, 3), [1], 3), (a(50, 50), [5], 50)]
    assert [failure[1:] for failure in skipping.failures] == [("list", "a", 2, 4, 101)]


@pytest.mark.parametrize("cache_bytes", [0, MB])
def test_merged_sessions_are_gone_when_the_aggregator_raises(skipping, lists, records, cache_bytes):
    node = collecting(aggregator=lambda key, value, aggregate: [*aggregate, 6 // value])
    operator = skipping.build(session_aggregate, node, spec=lists, cache_bytes=cache_bytes)
    operator.process(records(("a", 1, 3)))
    operator.flush()
    operator.process(records(("a", 0, 4)))
    operator.flush()
    assert skipping.forwarded() == [(a(3, 3), [6], 3), (a(3, 3), None, 3)]
    assert len(skipping.failures) == 1


def test_the_error_stops_the_task_when_the_policy_is_to_fail(site, lists, records):
    operator = site.build(session_aggregate, collecting(aggregator=lambda *_: 1 / 0), spec=lists)
    with pytest.raises(ProcessingError, match="list failed at offset 100"):
        operator.process(records(("a", 1, 3)))


def test_results_stay_as_they_are_when_functions_change_aggregates_in_place(site, lists, records):
    def add(key: str, value: int, aggregate: list[int]) -> list[int]:
        aggregate.append(value)
        return aggregate

    node = collecting(aggregator=add, merger=lambda key, one, other: other, send_old=True)
    operator = site.build(session_aggregate, node, spec=lists)
    operator.process(records(("a", 1, 3), ("a", 2, 4), ("a", 3, 4)))
    assert site.forwarded() == [
        (a(3, 3), [1], 3, None),
        (a(3, 3), None, 3, [1]),
        (a(3, 4), [1, 2], 4, None),
        (a(3, 4), None, 4, [1, 2]),
        (a(3, 4), [1, 2, 3], 4, None),
    ]


def test_one_update_comes_out_for_each_session_when_cached(site, counts, records):
    operator = site.build(session_aggregate, counting(), spec=counts, cache_bytes=MB)
    operator.process(records(("a", "x", 3), ("b", "x", 4), ("a", "x", 5)))
    operator.process(records(("a", "x", 9)))
    assert (site.forwarded(), operator.flush(), operator.flush()) == ([], 0, 0)
    assert site.forwarded() == [(Windowed("b", 4, 4), 1, 4), (a(3, 9), 3, 9)]


def test_the_oldest_updates_come_out_when_the_cache_is_full(site, counts, records):
    operator = site.build(session_aggregate, counting(), spec=counts, cache_bytes=5_000)
    operator.process(records(*((str(key), "x", 0) for key in range(20))))
    assert [row[0].key for row in site.forwarded()] == [str(key) for key in range(15)]
    assert operator.flush() == 0
    assert len(site.forwarded()) == 5


def test_each_update_is_read_as_it_comes_when_another_operator_reads_the_store(site, counts, records):
    seen = []
    reader = TableSource(name="reader", stores=("s",))
    operator = site.build(session_aggregate, counting(stores=("s",)), others=[reader], spec=counts)
    site.out = Reading(lambda: seen.append([value for _, value, _ in site.stores["s"].scan()]))
    operator._forward = site.out.append
    operator.process(records(("a", "x", 3), ("a", "x", 5)))
    operator.process(records(("a", "x", 4)))
    assert seen == [[1], [2], [], [3]]


class Reading(list[Any]):
    def __init__(self, look: Any) -> None:
        self.look = look

    def append(self, batch: Any) -> None:
        self.look()


def closing(windows: SessionWindows = GAP, **changes: Any) -> SessionAggregate:
    return counting(windows, emit=EmitStrategy.ON_WINDOW_CLOSE, **changes)


def test_sessions_come_out_once_in_the_order_of_their_ends_when_they_close(site, counts, records):
    operator = site.build(session_aggregate, closing(send_old=True), spec=counts)
    operator.init()
    operator.process(records(("b", "x", 2), ("a", "x", 1), ("a", "x", 4), ("c", "x", 9)))
    assert site.forwarded() == [(Windowed("b", 2, 2), 1, 2, None)]
    operator.process(records(("c", "x", 10), ("c", "x", 11), headers=[[("h", b"1")], [("h", b"2")]]))
    assert (site.out[0].headers, site.out[0].offsets) == ([[("h", b"1")]], [100])
    assert site.forwarded() == [(a(1, 4), 2, 4, None)]
    assert len(site.changelog.rows) == 9


def test_sessions_do_not_come_out_again_when_an_operator_goes_on_after_a_commit(site, counts, records):
    first = site.build(session_aggregate, closing(), spec=counts)
    first.init()
    first.process(records(("a", "x", 1), ("b", "x", 20)))
    assert site.processor_metadata == {"s": 15}
    site.forwarded()
    stored = site.stores["s"]
    second = site.build(session_aggregate, closing(), spec=counts)
    site.stores["s"].restore(*map(list, zip(*site.changelog.rows, strict=True)))
    second.init()
    second.process(records(("b", "x", 30)))
    assert site.forwarded() == [(Windowed("b", 20, 20), 1, 20)]
    assert stored is not site.stores["s"]


def test_closed_sessions_wait_for_the_wall_clock_unless_their_segment_would_expire(site, counts, records):
    site.emit_interval_ms = 1_000
    operator = site.build(session_aggregate, closing(), spec=counts)
    operator.init()
    operator.process(records(("a", "x", 1), ("a", "x", 20)))
    assert [row[0] for row in site.forwarded()] == [a(1, 1)]
    operator.process(records(("a", "x", 40)))
    assert site.forwarded() == []
    operator.process(records(("a", "x", 200_000)))
    assert [row[0] for row in site.forwarded()] == [a(20, 20)]
    operator.process(records(("b", "x", 200_100)))
    site.clock.advance_ms(1_000)
    operator.process(records(("b", "x", 200_110)))
    assert [row[0] for row in site.forwarded()] == [a(200_000, 200_000), Windowed("b", 200_100, 200_100)]


ROWS = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 3), st.integers(0, 60)), min_size=1, max_size=25)


def batches(rows: Any, size: int) -> list[RecordBatch]:
    parts = [rows[first : first + size] for first in range(0, len(rows), size)]
    return [RecordBatch(*(list(column) for column in zip(*part, strict=True))) for part in parts]


@given(rows=ROWS, size=st.integers(2, 25), emit=st.sampled_from(EmitStrategy), old=st.booleans())
def test_a_batch_gives_what_its_records_give_one_by_one(new_site, spec, rows, size, emit, old):
    lists = spec("s", kind="session", retention_ms=13)
    results = []
    for step in (1, size):
        site = new_site(skip_errors=True)
        node = collecting(
            SessionWindows(5, 8),
            emit=emit,
            send_old=old,
            aggregator=lambda key, value, aggregate: None if value == 3 else [*aggregate, 6 // value],
        )
        operator = site.build(session_aggregate, node, spec=lists)
        operator.init()
        for batch in batches(rows, step):
            operator.process(batch)
        failed = [failure[1:] for failure in site.failures]
        results.append((site.forwarded(), site.changelog.rows, site.stored("s"), site.dropped(), failed))
    assert results[0] == results[1]


@given(rows=ROWS)
def test_sessions_are_those_of_sorted_records_when_none_is_late(new_site, spec, rows):
    lists = spec("s", kind="session", retention_ms=1_000)
    for cache_bytes in (0, MB):
        site = new_site()
        operator = site.build(
            session_aggregate, collecting(SessionWindows(5, 900)), spec=lists, cache_bytes=cache_bytes
        )
        for batch in batches(rows, 7):
            operator.process(batch)
        operator.flush()
        last = {(key.key, key.start, key.end): value for key, value, _ in site.forwarded()}
        wanted: dict[Any, list[int]] = {}
        for plain in "ab":
            mine = sorted((at, value) for key, value, at in rows if key == plain)
            while mine:
                length = next((i for i in range(1, len(mine)) if mine[i][0] - mine[i - 1][0] > 5), len(mine))
                session, mine = mine[:length], mine[length:]
                wanted[plain, session[0][0], session[-1][0]] = sorted(value for _, value in session)
        assert {key: sorted(value) for key, value in last.items() if value is not None} == wanted
