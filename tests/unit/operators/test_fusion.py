import linecache
import traceback
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlib.errors import ProcessingError
from streamlib.record import ChangeBatch, RecordBatch
from streamlib.serdes import JSON, STRING
from streamlib.topology.nodes import (
    Branch,
    Filter,
    FlatMap,
    FlatMapValues,
    ForEach,
    MapRows,
    MapValues,
    Node,
    PassThrough,
    Peek,
    RepartitionFilter,
    SelectKey,
    Sink,
    TableToStream,
)


def sink(name: str, *parents: str) -> Sink:
    return Sink(name=name, parents=parents, topic=name, key_serde=STRING, value_serde=JSON)


def below(*parents: str) -> dict[str, Any]:
    return {"name": "node", "parents": parents or ("source",)}


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (Filter(**below(), predicate=lambda _, v: v > 1), [("b", 2, 20), (None, 3, 30)]),
        (Filter(**below(), predicate=lambda _, v: v > 1, negate=True), [("a", 1, 10)]),
        (Filter(**below(), predicate=lambda k, _: k), [("a", 1, 10), ("b", 2, 20)]),
        (RepartitionFilter(**below()), [("a", 1, 10), ("b", 2, 20)]),
        (RepartitionFilter(**below(), keep_null_keys=True), [("a", 1, 10), ("b", 2, 20), (None, 3, 30)]),
        (MapRows(**below(), mapper=lambda k, v: (v, k)), [(1, "a", 10), (2, "b", 20), (3, None, 30)]),
        (MapRows(**below(), mapper=lambda k, v: [v, k]), [(1, "a", 10), (2, "b", 20), (3, None, 30)]),
        (MapValues(**below(), mapper=lambda v: -v), [("a", -1, 10), ("b", -2, 20), (None, -3, 30)]),
        (
            MapValues(**below(), mapper=lambda k, v: [k, v], with_key=True),
            [("a", ["a", 1], 10), ("b", ["b", 2], 20), (None, [None, 3], 30)],
        ),
        (SelectKey(**below(), mapper=lambda k, v: (k, v)), [(("a", 1), 1, 10), (("b", 2), 2, 20), ((None, 3), 3, 30)]),
        (
            FlatMap(**below(), mapper=lambda k, v: [(k, i) for i in range(v - 1)]),
            [("b", 0, 20), (None, 0, 30), (None, 1, 30)],
        ),
        (FlatMapValues(**below(), mapper=lambda v: range(v - 1)), [("b", 0, 20), (None, 0, 30), (None, 1, 30)]),
        (
            FlatMapValues(**below(), mapper=lambda k, v: [k] * (v - 1), with_key=True),
            [("b", "b", 20), (None, None, 30), (None, None, 30)],
        ),
        (Peek(**below(), action=lambda *_: None), [("a", 1, 10), ("b", 2, 20), (None, 3, 30)]),
        (PassThrough(**below()), [("a", 1, 10), ("b", 2, 20), (None, 3, 30)]),
        (TableToStream(**below()), [("a", 1, 10), ("b", 2, 20), (None, 3, 30)]),
    ],
)
def test_rows_are_those_of_the_node_when_it_stands_alone(site, records, node, expected):
    site.fuse(node, sink("out", "node"))(records(("a", 1, 10), ("b", 2, 20), (None, 3, 30)))
    assert site.exited("out") == expected


def test_headers_and_offsets_follow_their_rows_when_rows_are_dropped_and_multiplied(site, records):
    headers = [[("h", b"1")], [], [("h", b"3")]]
    site.fuse(
        Filter(name="f", parents=("source",), predicate=lambda _, v: v != 2),
        FlatMapValues(name="m", parents=("f",), mapper=lambda v: [v, v]),
        sink("out", "m"),
    )(records(("a", 1, 10), ("b", 2, 20), ("c", 3, 30), headers=headers))
    [(_, batch)] = site.sent
    assert batch.offsets == [100, 100, 102, 102]
    assert batch.headers == [headers[0], headers[0], headers[2], headers[2]]


def test_offsets_stay_none_when_rows_come_from_a_cache_flush(site):
    forward = site.fuse(Filter(name="f", parents=("source",), predicate=lambda _, v: v > 1), sink("out", "f"))
    forward(RecordBatch(["a", "b"], [1, 2], [10, 20]))
    [(_, batch)] = site.sent
    assert (batch.keys, batch.offsets, batch.headers) == (["b"], None, None)


def test_unchanged_columns_are_the_same_lists_when_every_row_comes_out_once(site, records):
    batch = records(("a", 1, 10), ("b", 2, 20), headers=[[], []])
    site.fuse(
        MapValues(name="m", parents=("source",), mapper=str),
        Peek(name="p", parents=("m",), action=print),
        sink("out", "p"),
    )(batch)
    [(_, result)] = site.sent
    assert result.values == ["1", "2"]
    for column in ("keys", "timestamps", "offsets", "headers"):
        assert getattr(result, column) is getattr(batch, column)


def test_the_batch_itself_comes_out_when_no_function_is_on_the_way(site):
    batch = ChangeBatch(["a"], [1], [10], olds=[0])
    site.fuse(sink("table", "source"), TableToStream(name="s", parents=("source",)), sink("stream", "s"))(batch)
    assert [out for _, out in site.sent] == [batch, batch]


def test_nothing_is_forwarded_when_no_row_passes(site, records):
    site.fuse(Filter(name="f", parents=("source",), predicate=lambda *_: False), sink("out", "f"))(records(("a", 1, 1)))
    assert site.sent == []


def test_a_row_takes_the_first_branch_that_accepts_it_when_split(site, records):
    site.fuse(
        Branch(
            name="b",
            parents=("source",),
            predicates=(lambda _, v: v > 10, lambda _, v: v > 5),
            targets=("big", "middle"),
            default="rest",
        ),
        *(PassThrough(name=name, parents=("b",)) for name in ("big", "middle", "rest")),
        *(sink(f"to-{name}", name) for name in ("big", "middle", "rest")),
    )(records(("a", 11, 1), ("b", 7, 2), ("c", 1, 3), ("d", 12, 4)))
    assert [site.exited(f"to-{name}") for name in ("big", "middle", "rest")] == [
        [("a", 11, 1), ("d", 12, 4)],
        [("b", 7, 2)],
        [("c", 1, 3)],
    ]


def test_a_row_goes_nowhere_when_no_branch_accepts_it_and_there_is_no_default(site, records):
    site.fuse(
        Branch(name="b", parents=("source",), predicates=(lambda _, v: v > 10,), targets=("big",)),
        PassThrough(name="big", parents=("b",)),
        sink("out", "big"),
    )(records(("a", 11, 1), ("b", 7, 2)))
    assert site.exited("out") == [("a", 11, 1)]


def test_children_get_each_row_depth_first_when_there_are_several(site, records):
    seen: list[tuple[str, int]] = []

    def see(name: str) -> Any:
        return lambda _, value: seen.append((name, value))

    site.fuse(
        FlatMapValues(name="twice", parents=("source",), mapper=lambda v: [v, v + 1]),
        Peek(name="left", parents=("twice",), action=see("left")),
        ForEach(name="below-left", parents=("left",), action=see("below-left")),
        ForEach(name="right", parents=("twice",), action=see("right")),
        ForEach(name="last", parents=("source",), action=see("last")),
    )(records(("a", 1, 1), ("b", 10, 2)))
    assert seen == [
        *[("left", 1), ("below-left", 1), ("right", 1), ("left", 2), ("below-left", 2), ("right", 2), ("last", 1)],
        *[
            ("left", 10),
            ("below-left", 10),
            ("right", 10),
            ("left", 11),
            ("below-left", 11),
            ("right", 11),
            ("last", 10),
        ],
    ]


def test_ways_that_meet_keep_the_order_of_single_rows_when_merged(site, records):
    site.fuse(
        Filter(name="f", parents=("source",), predicate=lambda _, v: v > 1),
        MapValues(name="m", parents=("source",), mapper=lambda v: v * 10),
        PassThrough(name="merge", parents=("f", "m")),
        MapValues(name="after", parents=("merge",), mapper=lambda v: v + 1),
        sink("out", "after"),
    )(records(("a", 1, 1), ("b", 2, 2)))
    assert site.exited("out") == [("a", 11, 1), ("b", 3, 2), ("b", 21, 2)]


def test_a_function_is_called_once_per_way_and_row_when_many_merges_follow_each_other(site, records):
    calls: list[int] = []
    nodes: list[Node] = []
    last = "source"
    for number in range(12):
        nodes += [
            PassThrough(name=f"l{number}", parents=(last,)),
            Filter(name=f"r{number}", parents=(last,), predicate=lambda _, v: v < 0),
            PassThrough(name=f"m{number}", parents=(f"l{number}", f"r{number}")),
        ]
        last = f"m{number}"
    site.fuse(*nodes, Peek(name="peek", parents=(last,), action=lambda _, v: calls.append(v)), sink("out", "peek"))(
        records(("a", 1, 1), ("b", 2, 2))
    )
    assert calls == [1, 2]
    assert site.exited("out") == [("a", 1, 1), ("b", 2, 2)]


def test_the_loop_stays_small_when_many_merges_without_functions_follow_each_other(site, records):
    nodes: list[Node] = []
    last = "source"
    for number in range(14):
        nodes += [
            PassThrough(name=f"l{number}", parents=(last,)),
            RepartitionFilter(name=f"r{number}", parents=(last,)),
            PassThrough(name=f"m{number}", parents=(f"l{number}", f"r{number}")),
        ]
        last = f"m{number}"
    forward = site.fuse(*nodes, sink("out", last), file_name="<merges>")
    assert len(linecache.getlines("<merges>")) < 500
    forward(records((None, 1, 1), ("b", 2, 2)))
    assert len(site.exited("out")) == 1 + 2**14


@pytest.mark.parametrize("siblings", [False, True])
def test_python_accepts_the_loop_when_the_run_is_very_deep(site, records, siblings):
    nodes: list[Node] = []
    last = "source"
    for number in range(60):
        name = f"n{number}"
        if number % 3 == 0:
            nodes.append(FlatMapValues(name=name, parents=(last,), mapper=lambda v: [v]))
        elif number % 3 == 1:
            nodes.append(Filter(name=name, parents=(last,), predicate=lambda *_: True))
        else:
            nodes.append(MapValues(name=name, parents=(last,), mapper=lambda v: v + 1))
        if siblings:
            nodes.append(sink(f"s{number}", name))
        last = name
    if siblings:
        nodes = [*nodes, *(ForEach(name=f"e{n}", parents=(f"n{n}",), action=lambda *_: None) for n in range(60))]
    site.fuse(*nodes, sink("out", last))(records(("a", 0, 1), ("b", 5, 2)))
    assert site.exited("out") == [("a", 20, 1), ("b", 25, 2)]


def test_only_the_failing_node_loses_the_row_when_errors_are_skipped(skipping, records):
    skipping.fuse(
        Peek(name="peek", parents=("source",), action=lambda _, v: None),
        MapValues(name="fails", parents=("peek",), mapper=lambda v: 10 // (v - 2)),
        sink("mapped", "fails"),
        Filter(name="keeps", parents=("peek",), predicate=lambda _, v: v > 1),
        sink("kept", "keeps"),
        sink("all", "source"),
    )(records(("a", 1, 10), ("b", 2, 20), ("c", 3, 30)))
    assert skipping.exited("mapped") == [("a", -10, 10), ("c", 10, 30)]
    assert skipping.exited("kept") == [("b", 2, 20), ("c", 3, 30)]
    assert len(skipping.exited("all")) == 3
    [(error, *place)] = skipping.failures
    assert "division" in error
    assert place == ["fails", "b", 2, 20, 101]


@pytest.mark.parametrize(
    "node",
    [
        Filter(**below(), predicate=lambda _, v: 1 // (v - 2) is not None),
        MapRows(**below(), mapper=lambda k, v: (k, 1 // (v - 2))),
        MapRows(**below(), mapper=lambda k, v: (k, v) if v != 2 else v),
        MapRows(**below(), mapper=lambda k, v: (k, v) if v != 2 else (k, v, v)),
        MapValues(**below(), mapper=lambda v: 1 // (v - 2)),
        SelectKey(**below(), mapper=lambda _, v: 1 // (v - 2)),
        Peek(**below(), action=lambda _, v: 1 // (v - 2)),
        FlatMap(**below(), mapper=lambda k, v: [(k, 1 // (v - 2))]),
        FlatMap(**below(), mapper=lambda k, v: [(k, v)] if v != 2 else None),
        FlatMapValues(**below(), mapper=lambda v: [1 // (v - 2)]),
    ],
)
@pytest.mark.parametrize("siblings", [False, True])
def test_the_other_rows_come_out_when_one_row_fails_at_any_kind_of_node(skipping, records, node, siblings):
    more = [sink("other", "source")] if siblings else []
    skipping.fuse(node, sink("out", "node"), *more)(
        records(("a", 1, 10), ("b", 2, 20), ("c", 3, 30), headers=[[("h", b"1")], [("h", b"2")], [("h", b"3")]])
    )
    assert [(timestamp) for _, _, timestamp in skipping.exited("out")] == [10, 30]
    [(_, batch), *_] = [sent for sent in skipping.sent if sent[0] == "out"]
    assert (batch.offsets, batch.headers) == ([100, 102], [[("h", b"1")], [("h", b"3")]])
    assert [failure[1:] for failure in skipping.failures] == [("node", "b", 2, 20, 101)]


def test_a_failing_branch_predicate_drops_the_row_for_all_branches(skipping, records):
    skipping.fuse(
        Branch(
            name="b",
            parents=("source",),
            predicates=(lambda _, v: 1 // (v - 2) > 0,),
            targets=("one",),
            default="rest",
        ),
        PassThrough(name="one", parents=("b",)),
        PassThrough(name="rest", parents=("b",)),
        sink("out", "one"),
        sink("others", "rest"),
    )(records(("a", 3, 10), ("b", 2, 20), ("c", 1, 30)))
    assert (skipping.exited("out"), skipping.exited("others")) == ([("a", 3, 10)], [("c", 1, 30)])
    assert [failure[1] for failure in skipping.failures] == ["b"]


def test_results_before_the_error_stay_when_a_flat_map_raises_while_it_is_walked(skipping, records):
    def words(value: int) -> Any:
        yield value
        if value == 2:
            raise ValueError("no more")
        yield value + 1

    skipping.fuse(FlatMapValues(name="f", parents=("source",), mapper=words), sink("out", "f"))(
        records(("a", 1, 10), ("b", 2, 20), ("c", 3, 30))
    )
    assert [value for _, value, _ in skipping.exited("out")] == [1, 2, 2, 3, 4]
    assert [failure[1:3] for failure in skipping.failures] == [("f", "b")]


def test_the_flat_map_is_not_blamed_when_a_node_below_it_fails(skipping, site, records):
    nodes = [
        FlatMapValues(name="f", parents=("source",), mapper=lambda v: [v, v + 1]),
        MapValues(name="m", parents=("f",), mapper=lambda v: 10 // (v - 2)),
        sink("out", "m"),
    ]
    skipping.fuse(*nodes)(records(("a", 1, 10), ("b", 2, 20)))
    assert [value for _, value, _ in skipping.exited("out")] == [-10, 10]
    assert [failure[1:4] for failure in skipping.failures] == [("m", "a", 2), ("m", "b", 2)]
    with pytest.raises(ProcessingError, match="m failed at offset 100"):
        site.fuse(*nodes)(records(("a", 1, 10)))
    assert [failure[1] for failure in site.failures] == ["m"]


def test_the_message_shows_what_came_when_a_map_gives_no_pair(skipping, records):
    skipping.fuse(MapRows(name="m", parents=("source",), mapper=lambda *_: 7), sink("out", "m"))(records(("a", 1, 1)))
    assert "must give (key, value) pairs, not 7" in skipping.failures[0][0]


def test_the_error_is_reported_without_offset_when_rows_have_none(skipping):
    forward = skipping.fuse(MapValues(name="m", parents=("source",), mapper=lambda v: 1 // v), sink("out", "m"))
    forward(RecordBatch(["a", "b"], [0, 1], [10, 20]))
    assert [failure[1:] for failure in skipping.failures] == [("m", "a", 0, 10, None)]
    assert skipping.exited("out") == [("b", 1, 20)]


def test_the_traceback_shows_generated_line_with_node_name_when_a_function_raises(site, records):
    forward = site.fuse(
        MapValues(name="KSTREAM-MAPVALUES-0000000001", parents=("source",), mapper=lambda v: 1 // v),
        sink("out", "KSTREAM-MAPVALUES-0000000001"),
        file_name="<streamlib topology words subtopology 0 KSTREAM-SOURCE-0000000000>",
    )
    with pytest.raises(ProcessingError) as raised:
        forward(records(("a", 0, 1)))
    text = "".join(traceback.format_exception(raised.value.__cause__))
    assert 'File "<streamlib topology words subtopology 0 KSTREAM-SOURCE-0000000000' in text
    assert "# KSTREAM-MAPVALUES-0000000001" in text


def test_each_traceback_shows_its_own_source_when_two_regions_have_one_file_name(site, records):
    forwards = [
        site.fuse(MapValues(name=name, parents=("source",), mapper=lambda v: 1 // v), sink("out", name))
        for name in ("first", "second")
    ]
    for name, forward in zip(("first", "second"), forwards, strict=True):
        with pytest.raises(ProcessingError) as raised:
            forward(records(("a", 0, 1)))
        assert f"# {name}\n" in "".join(traceback.format_exception(raised.value.__cause__))


TREE: list[Node] = [
    Filter(name="f", parents=("source",), predicate=lambda _, v: v % 3),
    MapValues(name="m", parents=("f",), mapper=lambda v: 12 // (v - 4)),
    FlatMapValues(name="fm", parents=("source",), mapper=lambda v: range(v % 3)),
    Branch(
        name="b",
        parents=("fm",),
        predicates=(lambda k, v: k == "a" and 1 // v, lambda _, v: v == 1),
        targets=("b1", "b2"),
        default="b0",
    ),
    PassThrough(name="b1", parents=("b",)),
    PassThrough(name="b2", parents=("b",)),
    PassThrough(name="b0", parents=("b",)),
    PassThrough(name="merge", parents=("b0", "m", "b1")),
    SelectKey(name="k", parents=("merge",), mapper=lambda k, v: f"{k}{5 // v}"),
    sink("first", "k", "b2"),
    sink("second", "merge"),
    sink("third", "m"),
]


@given(
    rows=st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.integers(0, 9), st.integers(0, 50)), min_size=1),
    with_headers=st.booleans(),
)
def test_a_whole_batch_gives_what_single_rows_give(new_site, rows, with_headers):
    whole, single = new_site(skip_errors=True), new_site(skip_errors=True)
    keys, values, timestamps = map(list, zip(*rows, strict=True))
    headers = [[("h", bytes([number % 256]))] for number in range(len(rows))] if with_headers else None
    whole.fuse(*TREE)(RecordBatch(keys, values, timestamps, list(range(len(rows))), headers))
    forward = single.fuse(*TREE)
    for number, (key, value, timestamp) in enumerate(rows):
        forward(RecordBatch([key], [value], [timestamp], [number], None if headers is None else [headers[number]]))
    assert whole.failures == single.failures
    for name in ("first", "second", "third"):
        assert whole.exited(name) == single.exited(name)
        for column in ("offsets", "headers"):
            columns = [
                [entry for exit_, batch in run.sent if exit_ == name for entry in getattr(batch, column) or []]
                for run in (whole, single)
            ]
            assert columns[0] == columns[1]
