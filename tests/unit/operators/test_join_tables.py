from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlib import StreamsBuilder, serdes
from streamlib.errors import ProcessingError
from streamlib.operators.join_tables import table_join, table_join_getter, table_join_merge
from streamlib.testing.topology_test_driver import TopologyTestDriver
from streamlib.topology.nodes import TableFilter, TableMapValues, TableSource
from streamlib.topology.table_join_nodes import TableJoin, TableJoinMerge

LEFT = TableSource(name="l", store="ls")
RIGHT = TableSource(name="r", store="rs")
KINDS = {"inner": (False, False), "left": (True, False), "outer": (True, True)}
EACH_KIND = pytest.mark.parametrize("kind", KINDS)


def plus(left: Any, right: Any) -> str | None:
    return f"{left}+{right}"


def side(kind: str = "inner", *, is_right: bool = False, **changes: Any) -> TableJoin:
    """The left side of a join over the table ``l``, or the right side over ``r``."""
    keeps_left, keeps_right = KINDS[kind]
    attributes: dict[str, Any] = {
        "name": "join",
        "parents": ("r" if is_right else "l",),
        "table": "l" if is_right else "r",
        "joiner": plus,
        "is_right": is_right,
        "keeps_own": keeps_right if is_right else keeps_left,
        "keeps_other": keeps_left if is_right else keeps_right,
    }
    return TableJoin(**{**attributes, **changes})


def joined(site: Any, spec: Any, node: TableJoin, *others: Any, cache_bytes: int = 0) -> Any:
    """The operator, over another side with the row a: 1 of time 10."""
    specs = [spec("ls"), spec("rs")]
    operator = site.build(table_join, node, others=[LEFT, RIGHT, *others], specs=specs, cache_bytes=cache_bytes)
    site.tables["ls" if node.is_right else "rs"].store.put_many([b"a"], [1], [10])
    return operator


UPDATES = [("a", "x", None, 3), ("a", None, "x", 12), ("b", "y", None, 4), ("b", None, "y", 5), ("b", None, None, 6)]


@pytest.mark.parametrize(
    ("kind", "is_right", "wanted"),
    [
        ("inner", False, [("a", "x+1", 10, None), ("a", None, 12, "x+1")]),
        ("inner", True, [("a", "1+x", 10, None), ("a", None, 12, "1+x")]),
        (
            "left",
            False,
            [
                ("a", "x+1", 10, None),
                ("a", None, 12, "x+1"),
                ("b", "y+None", 4, None),
                ("b", None, 5, "y+None"),
            ],
        ),
        ("left", True, [("a", "1+x", 10, "1+None"), ("a", "1+None", 12, "1+x")]),
        (
            "outer",
            True,
            [
                ("a", "1+x", 10, "1+None"),
                ("a", "1+None", 12, "1+x"),
                ("b", "None+y", 4, None),
                ("b", None, 5, "None+y"),
            ],
        ),
    ],
)
def test_an_update_meets_the_row_of_the_other_side(site, spec, changes, kind, is_right, wanted):
    operator = joined(site, spec, side(kind, is_right=is_right, send_old=True))
    operator.process(changes(*UPDATES))
    assert site.forwarded() == wanted
    assert site.dropped() == 0


@pytest.mark.parametrize("kind", ["left", "outer"])
def test_a_deletion_without_match_is_silent_only_when_the_row_was_not_there(site, spec, changes, kind):
    operator = joined(site, spec, side(kind))
    operator.process(changes(("b", None, None, 1), ("b", None, "y", 2)))
    assert site.forwarded() == [("b", None, 2)]


def test_old_values_are_not_joined_when_nobody_wants_them(site, spec, changes):
    seen: list[Any] = []
    operator = joined(site, spec, side("left", joiner=lambda left, right: seen.append(left)))
    operator.process(changes(("a", "x", "w", 3)))
    [batch] = site.out
    assert (batch.olds, seen) == (None, ["x"])


def test_other_columns_are_the_same_lists_when_every_row_comes_out(site, spec, changes):
    batch = changes(("a", "x", None, 3), ("b", "y", None, 4))
    batch.headers = [[("h", b"1")], []]
    operator = joined(site, spec, side("outer"))
    operator.process(batch)
    [out] = site.out
    assert (out.keys is batch.keys, out.offsets is batch.offsets, out.headers is batch.headers) == (True, True, True)


def test_offsets_and_headers_stay_with_their_rows_when_some_do_not_come_out(site, spec, changes):
    batch = changes(("b", "y", None, 4), ("a", "x", None, 3))
    batch.headers = [[("h", b"1")], [("h", b"2")]]
    joined(site, spec, side()).process(batch)
    [out] = site.out
    assert (out.offsets, out.headers) == ([1], [[("h", b"2")]])


def test_nothing_is_forwarded_when_nothing_comes_out(site, spec, changes):
    joined(site, spec, side()).process(changes(("b", "y", None, 4)))
    assert site.out == []


def test_rows_that_only_the_cache_knows_are_found(site, spec, changes):
    operator = joined(site, spec, side(), cache_bytes=1 << 20)
    site.tables["rs"].cache.put(b"b", 7, 20, "b")
    site.tables["rs"].cache.put(b"a", None, 21, "a")
    operator.process(changes(("a", "x", None, 3), ("b", "y", None, 4)))
    assert site.forwarded() == [("b", "y+7", 20)]


def test_an_update_without_key_is_dropped_and_counted(site, spec, changes):
    joined(site, spec, side("outer", send_old=True)).process(changes((None, "x", None, 1), ("b", "y", "w", 2)))
    assert site.forwarded() == [("b", "y+None", 2, "w+None")]
    assert site.dropped(node="join", reason="null-key") == 1


def test_an_update_that_is_not_the_latest_is_dropped_and_counted(site, spec, changes):
    batch = changes(("a", "x", None, 1), ("a", "y", None, 2), (None, "z", None, 3))
    batch.latest = [False, True, False]
    joined(site, spec, side()).process(batch)
    [out] = site.out
    assert (out.latest, out.offsets) == (None, [1])
    assert site.forwarded() == [("a", "y+1", 10)]
    assert site.dropped(node="join", reason="not-latest") == 1
    assert site.dropped(node="join", reason="null-key") == 1


def test_the_other_side_is_computed_when_it_has_no_store(site, spec, changes):
    big = TableFilter(name="big", parents=("r",), predicate=lambda _, value: value > 1)
    doubled = TableMapValues(name="doubled", parents=("big",), mapper=lambda value: value * 2)
    operator = joined(site, spec, side("left", table="doubled"), big, doubled)
    site.tables["rs"].store.put_many([b"b"], [5], [11])
    operator.process(changes(("a", "x", None, 3), ("b", "y", None, 4)))
    assert site.forwarded() == [("a", "x+None", 3), ("b", "y+10", 11)]


def failing(left: Any, right: Any) -> str:
    if left == "bad":
        raise ValueError(left)
    return f"{left}+{right}"


def test_a_row_is_left_out_when_the_joiner_fails_and_the_policy_is_to_skip(skipping, spec, changes):
    joined(skipping, spec, side(joiner=failing)).process(changes(("a", "bad", None, 3), ("a", "x", "bad", 4)))
    assert skipping.forwarded() == [("a", "x+1", 10)]
    assert skipping.failures == [("ValueError('bad')", "join", "a", "bad", 3, 0)]


def test_a_row_is_left_out_when_the_other_side_cannot_be_computed(skipping, spec, changes):
    mapped = TableMapValues(name="mapped", parents=("r",), mapper=lambda value: 1 // (value - 1))
    operator = joined(skipping, spec, side("outer", table="mapped"), mapped)
    operator.process(changes(("a", "x", None, 3), ("b", "y", None, 4)))
    assert skipping.forwarded() == [("b", "y+None", 4)]
    assert [failure[1:3] for failure in skipping.failures] == [("join", "a")]


def test_the_task_fails_when_the_joiner_does_and_the_policy_is_to_fail(site, spec, changes):
    operator = joined(site, spec, side(joiner=failing))
    with pytest.raises(ProcessingError):
        operator.process(changes(("a", "bad", None, 3)))


def merge(store: str | None = None, *, send_old: bool = False) -> TableJoinMerge:
    return TableJoinMerge(name="merge", parents=("join", "other"), store=store, send_old=send_old)


def test_results_pass_unchanged_when_the_joined_table_has_no_store(site, changes):
    batch = changes(("a", "x", "w", 1))
    site.build(table_join_merge, merge(send_old=True)).process(batch)
    assert site.out == [batch]


@pytest.mark.parametrize("send_old", [False, True])
def test_a_stored_result_is_written_and_forwarded_with_the_old_value_of_the_join(site, spec, changes, send_old):
    operator = site.build(table_join_merge, merge("j", send_old=send_old), spec=spec("j"))
    operator.process(changes(("a", "x", "joined", 1), ("b", "y", None, 2), ("b", None, "y", 3), olds=send_old))
    assert [row[3:] for row in site.forwarded()] == ([("joined",), (None,), ("y",)] if send_old else [()] * 3)
    assert site.stored("j") == {b"a": ("x", 1)}


def test_a_cached_result_comes_out_once_and_with_the_old_value_of_the_store(site, spec, changes):
    node = merge("j", send_old=True)
    operator = site.build(table_join_merge, node, spec=spec("j"), cache_bytes=1 << 20)
    operator.process(changes(("a", "x", None, 1), ("b", None, None, 2)))
    assert (site.forwarded(), operator.flush()) == ([], 0)
    assert site.forwarded() == [("a", "x", 1, None)]
    operator.process(changes(("a", "y", "x", 3), ("a", "z", "y", 4)))
    assert operator.flush() == 0
    assert site.forwarded() == [("a", "z", 4, "x")]


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("inner", [("1+2", 20), None, None, None]),
        ("left", [("1+2", 20), ("3+None", 30), None, None]),
        ("outer", [("1+2", 20), ("3+None", 30), ("None+4", 40), None]),
    ],
)
def test_a_joined_table_without_store_is_read_from_both_sides(site, spec, kind, wanted):
    others = [LEFT, RIGHT, side(kind)]
    getter = site.build(table_join_getter, merge(), others=others, specs=[spec("ls"), spec("rs")])
    site.tables["ls"].store.put_many([b"both", b"left"], [1, 3], [10, 30])
    site.tables["rs"].store.put_many([b"both", b"right"], [2, 4], [20, 40])
    keys = ["both", "left", "right", "neither"]
    found = getter.fetch(keys)
    assert found[3] is None
    assert [getter.compute(key, row) for key, row in zip(keys, found, strict=True)] == wanted


def test_a_joined_table_has_no_row_when_the_joiner_gives_none(site, spec):
    node = side("outer", joiner=lambda left, right: None)
    getter = site.build(table_join_getter, merge(), others=[LEFT, RIGHT, node], specs=[spec("ls"), spec("rs")])
    site.tables["ls"].store.put_many([b"a"], [1], [10])
    assert getter.compute("a", getter.fetch(["a"])[0]) is None


def test_a_joined_table_is_read_through_a_chain_of_filters_and_joins(site, spec):
    third = TableSource(name="t", store="ts")
    upper = TableMapValues(name="upper", parents=("merge",), mapper=lambda value: f"<{value}>")
    outer = side("outer", name="outer", parents=("upper",), table="t")
    specs = [spec("ls"), spec("rs"), spec("ts")]
    getter = site.build(
        table_join_getter,
        TableJoinMerge(name="merge2", parents=("outer", "other2")),
        others=[LEFT, RIGHT, third, side("inner"), merge(), upper, outer],
        specs=specs,
    )
    for number, name in enumerate(["ls", "rs", "ts"], 1):
        site.tables[name].store.put_many([b"a"], [number], [number])
    site.tables["ls"].store.put_many([b"b"], [9], [9])
    site.tables["ts"].store.put_many([b"b"], [8], [8])
    keys = ["a", "b"]
    assert [getter.compute(*row) for row in zip(keys, getter.fetch(keys), strict=True)] == [
        ("<1+2>+3", 3),
        ("None+8", 8),
    ]


@st.composite
def steps(draw: st.DrawFn) -> list[tuple[str, str, str | None]]:
    """Updates of either side for a few keys, the values all different."""
    moves = draw(st.lists(st.tuples(st.sampled_from("LR"), st.sampled_from("ab"), st.booleans()), max_size=20))
    return [(topic, key, f"{topic}{number}" if there else None) for number, (topic, key, there) in enumerate(moves)]


@EACH_KIND
@settings(max_examples=30, deadline=None)
@given(steps=steps(), stored=st.booleans(), cache_bytes=st.sampled_from([0, 1 << 20]))
def test_the_updates_add_up_to_the_join_of_both_tables(kind, steps, stored, cache_bytes):
    builder = StreamsBuilder("app", in_memory=True)
    tables = {topic: builder.table(topic, serdes.STRING, serdes.STRING, store=topic) for topic in "LR"}
    method = {"inner": tables["L"].join, "left": tables["L"].left_join, "outer": tables["L"].outer_join}[kind]
    method(tables["R"], plus, name="j", **({"store": "j"} if stored else {})).to_stream().to("out")
    config = {"application_id": "app", "statestore_cache_max_bytes": cache_bytes}
    sides: dict[str, dict[str, str]] = {"L": {}, "R": {}}
    with TopologyTestDriver(builder.build(), config) as driver:
        topics = {topic: driver.create_input_topic(topic, serdes.STRING, serdes.STRING) for topic in "LR"}
        out = driver.create_output_topic("out", serdes.STRING, serdes.STRING)
        for topic, key, value in steps:
            topics[topic].pipe_input(key, value, timestamp_ms=1)
            sides[topic].pop(key, None)
            if value is not None:
                sides[topic][key] = value
        results = out.read_key_values_to_map()
        left, right = sides["L"], sides["R"]
        keys = {"inner": left.keys() & right.keys(), "left": left.keys(), "outer": left.keys() | right.keys()}[kind]
        wanted = {key: plus(left.get(key), right.get(key)) for key in keys}
        assert {key: value for key, value in results.items() if value is not None} == wanted
        if stored:
            assert {key.decode(): value for key, value, _ in driver.store("j").scan()} == wanted  # type: ignore
