from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlib.errors import ProcessingError
from streamlib.operators.join_table import stream_global_table_join, stream_table_join
from streamlib.record import RecordBatch, Windowed
from streamlib.serdes import INT64, STRING
from streamlib.topology.nodes import (
    Node,
    StreamGlobalTableJoin,
    StreamTableJoin,
    TableFilter,
    TableMapValues,
    TableSource,
)

TABLE = TableSource(name="table", store="t")


def pair(left: Any, right: Any) -> str:
    return f"{left}+{right}"


def join(*, left: bool = False, table: str = "table", **changes: Any) -> StreamTableJoin:
    return StreamTableJoin(
        **{"name": "join", "table": table, "joiner": pair, "left": left, "stores": ("t",), **changes}
    )


def joined(site: Any, spec: Any, node: Node, *others: Node, cache_bytes: int = 0, **store: Any) -> Any:
    """The operator, over a table with the rows a: 1 and b: 5."""
    builder = stream_table_join if isinstance(node, StreamTableJoin) else stream_global_table_join
    operator = site.build(builder, node, others=[TABLE, *others], spec=spec("t", **store), cache_bytes=cache_bytes)
    if site.tables["t"].spec.kind == "key_value":
        site.tables["t"].store.put_many([b"a", b"b"], [1, 5], [10, 10])
    return operator


def test_a_row_meets_the_value_of_its_key(site, spec, records):
    joined(site, spec, join()).process(records(("a", "x", 3), ("c", "y", 4), ("b", "z", 2)))
    [batch] = site.out
    assert batch.offsets == [100, 102]
    assert site.forwarded() == [("a", "x+1", 3), ("b", "z+5", 2)]
    assert site.dropped() == 0


def test_other_columns_are_the_same_lists_when_every_row_finds_its_match(site, spec, records):
    batch = records(("a", "x", 3), ("b", "z", 2), headers=[[("h", b"1")], []])
    joined(site, spec, join()).process(batch)
    [out] = site.out
    assert (out.keys is batch.keys, out.headers is batch.headers) == (True, True)


def test_a_row_without_match_meets_none_when_left_joined(site, spec, records):
    joined(site, spec, join(left=True)).process(records(("a", "x", 3), ("c", "y", 4), (None, "z", 5)))
    assert site.forwarded() == [("a", "x+1", 3), ("c", "y+None", 4), (None, "z+None", 5)]
    assert site.dropped() == 0


@pytest.mark.parametrize(("left", "null_keys"), [(False, 1), (True, 0)])
def test_rows_without_value_or_key_are_dropped_and_counted(site, spec, records, left, null_keys):
    joined(site, spec, join(left=left)).process(records(("a", None, 1), (None, None, 2), (None, "x", 3)))
    assert site.dropped(node="join", reason="null-value") == 2
    assert site.dropped(node="join", reason="null-key") == null_keys


def test_the_joiner_sees_the_key_when_asked(site, spec, records):
    node = join(with_key=True, joiner=lambda key, left, right: [key, left, right])
    joined(site, spec, node).process(records(("a", "x", 3)))
    assert site.forwarded() == [("a", ["a", "x", 1], 3)]


def test_rows_that_only_the_cache_knows_are_found(site, spec, records):
    operator = joined(site, spec, join(left=True), cache_bytes=1 << 20)
    cache = site.tables["t"].cache
    cache.put(b"a", None, 11, "a")
    cache.put(b"c", 9, 11, "c")
    operator.process(records(("a", "x", 3), ("b", "x", 3), ("c", "y", 4), ("c", "z", 4)))
    assert [row[1] for row in site.forwarded()] == ["x+None", "x+5", "y+9", "z+9"]


def test_an_object_of_the_cache_is_not_handed_out_when_it_can_change(site, spec, records):
    operator = joined(site, spec, join(joiner=lambda _, right: right), cache_bytes=1 << 20)
    cached: list[int] = [1]
    site.tables["t"].cache.put(b"c", cached, 11, "c")
    operator.process(records(("c", "y", 4)))
    cached.append(2)
    assert site.forwarded() == [("c", [1], 4)]


def test_values_are_computed_from_the_nearest_store_when_the_table_has_none(site, spec, records):
    big = TableFilter(name="big", parents=("table",), predicate=lambda _, v: v > 3)
    text = TableMapValues(name="text", parents=("big",), mapper=lambda k, v: f"{k}{v}", with_key=True)
    operator = joined(site, spec, join(table="text", left=True), big, text)
    operator.process(records(("a", "x", 3), ("b", "y", 4)))
    assert site.forwarded() == [("a", "x+None", 3), ("b", "y+b5", 4)]


def test_the_row_is_reported_at_the_join_when_the_joiner_or_a_table_function_raises(skipping, site, spec, records):
    bad = TableMapValues(name="bad", parents=("table",), mapper=lambda v: 1 // (v - 1))
    operator = joined(skipping, spec, join(table="bad"), bad)
    operator.process(records(("a", "x", 3), ("b", "y", 4)))
    assert skipping.forwarded() == [("b", "y+0", 4)]
    assert [failure[1:] for failure in skipping.failures] == [("join", "a", "x", 3, 100)]
    with pytest.raises(ProcessingError):
        joined(site, spec, join(joiner=lambda *_: 1 // 0)).process(records(("a", "x", 3)))


def test_windowed_keys_find_their_row_in_a_window_store(site, spec, records):
    operator = joined(site, spec, join(), kind="window", retention_ms=86_400_000, window_size_ms=10)
    rows = site.tables["t"]
    keys = [Windowed("a", 10, 20), Windowed("a", 20, 30)]
    rows.store.put_many(rows.raw_keys(keys[:1]), [7], [12])
    operator.process(records(*((key, "x", 3) for key in keys)))
    assert site.forwarded() == [(keys[0], "x+7", 3)]


def global_join(**changes: Any) -> StreamGlobalTableJoin:
    return StreamGlobalTableJoin(
        **{
            "name": "join",
            "store": "t",
            "key_selector": lambda _, v: v["ref"],
            "joiner": lambda _, right: right,
            **changes,
        }
    )


def test_a_global_table_is_looked_up_by_the_selected_key_whatever_the_stream_key(site, spec, records):
    joined(site, spec, global_join()).process(records((None, {"ref": "a"}, 3), ("k", {"ref": "c"}, 4)))
    assert site.forwarded() == [(None, 1, 3)]
    assert site.dropped() == 0


@pytest.mark.parametrize(("left", "expected", "dropped"), [(False, [], 1), (True, [("k", None, 3)], 0)])
def test_a_null_selected_key_joins_with_none_only_when_left(site, spec, records, left, expected, dropped):
    joined(site, spec, global_join(left=left)).process(records(("k", {"ref": None}, 3)))
    assert site.forwarded() == expected
    assert site.dropped(reason="null-key") == dropped


def test_the_selector_is_not_called_when_there_is_no_value(site, spec, records):
    joined(site, spec, global_join(left=True)).process(records(("k", None, 3)))
    assert site.out == []
    assert site.dropped(reason="null-value") == 1


def test_the_row_is_reported_when_the_selector_raises(skipping, spec, records):
    joined(skipping, spec, global_join(left=True)).process(records(("k", {}, 3), ("k", {"ref": "b"}, 4)))
    assert skipping.forwarded() == [("k", 5, 4)]
    assert [failure[1:3] for failure in skipping.failures] == [("join", "k")]


@given(
    rows=st.lists(
        st.tuples(st.sampled_from(["a", "b", "c", None]), st.sampled_from([0, 1, 2, None]), st.integers(0, 20)),
        min_size=1,
    ),
    left=st.booleans(),
    cache_bytes=st.sampled_from([0, 1 << 20]),
)
def test_whole_batches_give_what_single_rows_give(new_site, spec, rows, left, cache_bytes):
    node = join(left=left, joiner=lambda value, right: (right or 0) // value)
    whole, single = new_site(skip_errors=True), new_site(skip_errors=True)
    operators = [
        joined(each, spec, node, cache_bytes=cache_bytes, key_serde=STRING, value_serde=INT64)
        for each in (whole, single)
    ]
    keys, values, timestamps = map(list, zip(*rows, strict=True))
    operators[0].process(RecordBatch(keys, values, timestamps, list(range(len(rows)))))
    for row, (key, value, timestamp) in enumerate(rows):
        operators[1].process(RecordBatch([key], [value], [timestamp], [row]))
    assert whole.forwarded() == single.forwarded()
    assert whole.failures == single.failures
    assert whole.dropped() == single.dropped()
