from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlib.operators.aggregate import stream_aggregate, table_aggregate
from streamlib.record import Change, RecordBatch
from streamlib.serdes import INT64, JSON
from streamlib.topology.nodes import StreamAggregate, TableAggregate

MB = 1 << 20


def count(*, send_old: bool = False) -> StreamAggregate:
    return StreamAggregate(name="count", kind="count", store="s", send_old=send_old)


def reduce(*, send_old: bool = False) -> StreamAggregate:
    def longer(aggregate: Any, value: Any) -> Any:
        return aggregate + value if value != "delete" else None

    return StreamAggregate(name="reduce", kind="reduce", store="s", aggregator=longer, send_old=send_old)


def collect(*, send_old: bool = False) -> StreamAggregate:
    """Changes its aggregate in place, as Python code likes to."""

    def add(_key: str, value: Any, aggregate: list[Any]) -> list[Any] | None:
        if value == "delete":
            return None
        aggregate.append(value)
        return aggregate

    return StreamAggregate(
        name="collect", kind="aggregate", store="s", initializer=list, aggregator=add, send_old=send_old
    )


def test_each_record_counts_one_more_when_uncached(site, spec, records):
    operator = site.build(stream_aggregate, count(), spec=spec("s", value_serde=INT64))
    operator.process(records(("a", "x", 10), ("b", "x", 5), ("a", "x", 7), headers=[[("h", b"1")], [], [("h", b"3")]]))
    assert site.out[0].headers == [[("h", b"1")], [], [("h", b"3")]]
    assert site.out[0].offsets == [100, 101, 102]
    operator.process(records(("a", "x", 20)))
    assert site.forwarded() == [("a", 1, 10), ("b", 1, 5), ("a", 2, 10), ("a", 3, 20)]
    assert site.stored("s") == {b"a": (3, 20), b"b": (1, 5)}
    assert [row[2] for row in site.changelog.rows] == [10, 5, 10, 20]


def test_the_first_old_value_is_what_the_initializer_gives_when_uncached(site, spec, records):
    batch = records(("a", "x", 1), ("a", "y", 2))
    site.build(stream_aggregate, count(send_old=True), spec=spec("s", value_serde=INT64)).process(batch)
    assert site.forwarded() == [("a", 1, 1, 0), ("a", 2, 2, 1)]
    site.build(stream_aggregate, collect(send_old=True), spec=spec("s")).process(batch)
    assert site.forwarded() == [("a", ["x"], 1, []), ("a", ["x", "y"], 2, ["x"])]
    site.build(stream_aggregate, reduce(send_old=True), spec=spec("s")).process(batch)
    assert site.forwarded() == [("a", "x", 1, None), ("a", "xy", 2, "x")]


@pytest.mark.parametrize("make", [count, reduce, collect])
def test_the_first_old_value_is_none_when_cached(site, spec, records, make):
    operator = site.build(stream_aggregate, make(send_old=True), spec=spec("s"), cache_bytes=MB)
    operator.process(records(("a", "x", 1), ("a", "y", 2)))
    operator.flush()
    [(_, first, _, old)] = site.forwarded()
    assert old is None
    operator.process(records(("a", "z", 3)))
    operator.flush()
    [(_, _, _, old)] = site.forwarded()
    assert old == first


@pytest.mark.parametrize("make", [count, reduce, collect])
@pytest.mark.parametrize("cache_bytes", [0, MB])
def test_records_without_key_or_value_are_dropped_and_counted(site, spec, records, make, cache_bytes):
    operator = site.build(stream_aggregate, make(), spec=spec("s"), cache_bytes=cache_bytes)
    operator.process(records((None, "x", 1), ("a", None, 2), (None, None, 3), ("a", "x", 4)))
    operator.process(records((None, "x", 5)))
    operator.flush()
    assert [row[2] for row in site.forwarded()] == [4]
    assert site.dropped(reason="null-key") == 3
    assert site.dropped(reason="null-value") == 1


def test_results_in_one_batch_stay_apart_when_the_aggregator_changes_its_aggregate_in_place(site, spec, records):
    operator = site.build(stream_aggregate, collect(send_old=True), spec=spec("s"))
    operator.process(records(("a", 1, 1), ("a", 2, 2)))
    operator.process(records(("a", 3, 3), ("a", 4, 4)))
    assert [(row[1], row[3]) for row in site.forwarded()] == [
        *[([1], []), ([1, 2], [1])],
        *[([1, 2, 3], [1, 2]), ([1, 2, 3, 4], [1, 2, 3])],
    ]


def test_flushed_results_stay_as_they_were_when_the_aggregator_goes_on(site, spec, records):
    operator = site.build(stream_aggregate, collect(), spec=spec("s"), cache_bytes=MB)
    operator.process(records(("a", 1, 1), ("a", 2, 2)))
    operator.flush()
    operator.process(records(("a", 3, 3)))
    assert site.forwarded() == [("a", [1, 2], 2)]
    operator.flush()
    assert site.forwarded() == [("a", [1, 2, 3], 3)]


@pytest.mark.parametrize("make", [reduce, collect])
def test_the_row_is_deleted_and_begins_anew_when_the_aggregator_gives_none(site, spec, records, make):
    operator = site.build(stream_aggregate, make(), spec=spec("s"))
    operator.process(records(("a", "x", 10), ("a", "delete", 7), ("a", "y", 3)))
    first = site.forwarded()
    assert [row[2] for row in first] == [10, 10, 3]
    assert first[1][1] is None
    assert site.stored("s") == {b"a": (first[2][1], 3)}
    assert [row[2] for row in site.changelog.rows] == [10, 7, 3]


@pytest.mark.parametrize("make", [reduce, collect])
def test_a_deletion_has_the_time_of_its_record_when_cached(site, spec, records, make):
    operator = site.build(stream_aggregate, make(), spec=spec("s"), cache_bytes=MB)
    operator.process(records(("a", "x", 10), ("b", "x", 1), ("b", "delete", 2)))
    operator.flush()
    assert [(row[0], row[2]) for row in site.forwarded()] == [("a", 10)]
    operator.process(records(("a", "delete", 7)))
    operator.flush()
    assert site.forwarded() == [("a", None, 7)]
    assert site.stored("s") == {}


def test_only_the_last_count_of_each_key_comes_out_when_cached(site, spec, records):
    operator = site.build(stream_aggregate, count(), spec=spec("s", value_serde=INT64), cache_bytes=MB)
    operator.process(records(("a", "x", 10), ("b", "x", 5), ("a", "x", 7), headers=[[("h", b"1")], [], [("h", b"3")]]))
    operator.process(records(("b", "x", 6), ("c", "x", 1)))
    operator.flush()
    assert site.out[0].headers == [[("h", b"3")], (), ()]
    assert site.out[0].offsets is None
    assert site.forwarded() == [("a", 2, 10), ("b", 2, 6), ("c", 1, 1)]
    operator.process(records(("a", "x", 8)))
    operator.flush()
    assert site.forwarded() == [("a", 3, 10)]


@pytest.mark.parametrize("cache_bytes", [0, MB])
@pytest.mark.parametrize("value_serde", [JSON, INT64])
def test_a_record_is_left_out_when_its_aggregator_raises(skipping, spec, records, cache_bytes, value_serde):
    node = StreamAggregate(
        name="sum", kind="aggregate", store="s", initializer=int, aggregator=lambda _, v, a: a + 6 // v
    )
    operator = skipping.build(stream_aggregate, node, spec=spec("s", value_serde=value_serde), cache_bytes=cache_bytes)
    operator.process(records(("a", 1, 10)))
    operator.flush()
    skipping.forwarded()
    operator.process(records(("a", 0, 20), ("b", 0, 21), ("a", 2, 22), ("a", 0, 23), ("b", 3, 24)))
    operator.flush()
    assert skipping.forwarded() == [("a", 9, 22), ("b", 2, 24)]
    assert [failure[1:] for failure in skipping.failures] == [
        ("sum", "a", 0, 20, 100),
        ("sum", "b", 0, 21, 101),
        ("sum", "a", 0, 23, 103),
    ]


def table_sum(**changes: Any) -> TableAggregate:
    return TableAggregate(
        name="sum",
        kind="aggregate",
        store="s",
        **{
            "initializer": lambda: 0,
            "adder": lambda _, v, a: a + v,
            "subtractor": lambda _, v, a: a - v,
            **changes,
        },
    )


@pytest.mark.parametrize("cache_bytes", [0, MB])
def test_the_old_value_is_taken_out_before_the_new_one_is_added(site, spec, records, cache_bytes):
    log = table_sum(
        initializer=str, adder=lambda _, v, a: f"{a}+{v}", subtractor=lambda _, v, a: f"{a}-{v}", send_old=True
    )
    operator = site.build(table_aggregate, log, spec=spec("s"), cache_bytes=cache_bytes)
    for batch in (
        records(("k", Change(1, None), 10)),
        records(("k", Change(2, 1), 5)),
        records(("k", Change(None, 2), 20)),
    ):
        operator.process(batch)
        operator.flush()
    assert site.forwarded() == [("k", "+1", 10, None), ("k", "+1-1+2", 10, "+1"), ("k", "+1-1+2-2", 20, "+1-1+2")]


def test_a_removal_from_nothing_takes_nothing_out(site, spec, records):
    operator = site.build(table_aggregate, table_sum(), spec=spec("s"))
    operator.process(records(("k", Change(None, 5), 10), ("k", Change(7, 5), 20)))
    assert site.forwarded() == [("k", None, 10), ("k", 7, 20)]


def test_the_aggregate_begins_anew_when_the_subtractor_gives_none(site, spec, records):
    node = table_sum(subtractor=lambda _, v, a: a - v or None)
    operator = site.build(table_aggregate, node, spec=spec("s"))
    operator.process(records(("k", Change(5, None), 30), ("k", Change(7, 5), 10), ("k", Change(None, 7), 20)))
    assert site.forwarded() == [("k", 5, 30), ("k", 7, 30), ("k", None, 30)]
    assert site.stored("s") == {}
    assert [row[2] for row in site.changelog.rows] == [30, 30, 20]


def test_a_table_count_can_reach_zero_and_stays(site, spec, records):
    node = TableAggregate(name="count", kind="count", store="s")
    operator = site.build(table_aggregate, node, spec=spec("s", value_serde=INT64))
    operator.process(records(("k", Change("x", None), 1), ("k", Change("y", "x"), 2), ("k", Change(None, "y"), 3)))
    assert site.forwarded() == [("k", 1, 1), ("k", 1, 2), ("k", 0, 3)]


def test_a_table_reduce_takes_the_first_value_as_it_is(site, spec, records):
    node = TableAggregate(name="r", kind="reduce", store="s", adder=lambda a, v: a + v, subtractor=lambda a, v: a - v)
    operator = site.build(table_aggregate, node, spec=spec("s"))
    operator.process(records(("k", Change(5, None), 1), ("k", Change(7, None), 2), ("k", Change(1, 5), 3)))
    assert [row[1] for row in site.forwarded()] == [5, 12, 8]


def test_a_record_without_key_is_an_error_when_a_table_is_aggregated(skipping, spec, records):
    operator = skipping.build(table_aggregate, table_sum(), spec=spec("s"))
    operator.process(records(("k", Change(1, None), 1), (None, Change(1, None), 2)))
    assert [failure[1:3] for failure in skipping.failures] == [("sum", None)]
    assert skipping.forwarded() == [("k", 1, 1)]


@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "c", None]),
            st.sampled_from(["x", "y", "delete", None, 1]),
            st.integers(0, 20),
        ),
        min_size=1,
    ),
    make=st.sampled_from([count, reduce, collect]),
    cache_bytes=st.sampled_from([0, MB]),
    cuts=st.sets(st.integers(0, 30), max_size=3),
)
def test_whole_batches_give_what_single_rows_give(new_site, spec, rows, make, cache_bytes, cuts):
    whole, single = new_site(skip_errors=True), new_site(skip_errors=True)
    operators = [
        each.build(stream_aggregate, make(send_old=True), spec=spec("s"), cache_bytes=cache_bytes)
        for each in (whole, single)
    ]
    edges = [0, *sorted(cut for cut in cuts if 0 < cut < len(rows)), len(rows)]
    for start, end in pairwise(edges):
        keys, values, timestamps = map(list, zip(*rows[start:end], strict=True))
        operators[0].process(RecordBatch(keys, values, timestamps, list(range(start, end))))
        for row, (key, value, timestamp) in enumerate(rows[start:end], start):
            operators[1].process(RecordBatch([key], [value], [timestamp], [row]))
        for operator in operators:
            operator.flush()
    assert whole.forwarded() == single.forwarded()
    assert whole.failures == single.failures
    assert whole.changelog.rows == single.changelog.rows
    assert whole.stored("s") == single.stored("s")
    assert whole.dropped() == single.dropped()
