from dataclasses import replace
from typing import Any

import pytest

from streamlib.serdes import JSON, STRING
from streamlib.topology.interference import needs_record_order, region
from streamlib.topology.nodes import (
    Branch,
    Filter,
    ForEach,
    MapValues,
    Node,
    PassThrough,
    Sink,
    Source,
    StreamAggregate,
    StreamTableJoin,
    TableFilter,
    TableSource,
    TableToStream,
)
from streamlib.topology.processor_nodes import ProcessorNode
from streamlib.topology.suppress_nodes import TableSuppress
from streamlib.topology.table_join_nodes import TableJoin, TableJoinMerge
from streamlib.topology.topology import Topology


def sink(name: str, *parents: str, topic: str | None = "") -> Sink:
    to = name if topic == "" else topic
    return Sink(name=name, parents=parents, topic=to, topic_fn=None if to else str, key_serde=STRING, value_serde=JSON)


def through(name: str, *parents: str) -> MapValues:
    return MapValues(name=name, parents=parents, mapper=str)


def table(name: str, *parents: str, store: str = "t") -> TableSource:
    return TableSource(name=name, parents=parents, store=store, stores=(store,))


def count(name: str, *parents: str, store: str) -> StreamAggregate:
    return StreamAggregate(name=name, parents=parents, kind="count", store=store, stores=(store,))


def join(name: str, *parents: str, on: str, store: str) -> StreamTableJoin:
    return StreamTableJoin(name=name, parents=parents, table=on, joiner=max, stores=(store,))


def table_join(name: str, parent: str, *, on: str, store: str) -> TableJoin:
    return TableJoin(name=name, parents=(parent,), table=on, joiner=max, stores=(store,))


def held(name: str, parent: str) -> TableSuppress:
    return TableSuppress(name=name, parents=(parent,), buffer="b", stores=("b",), wait_ms=5)


def plan(*nodes: Node) -> Topology:
    sources: list[Any] = [
        Source(name=name, topics=(name,), key_serde=STRING, value_serde=JSON) for name in ("source", "other")
    ]
    return Topology("test", {node.name: node for node in [*sources, *nodes]}, {}, ())


SEPARATE = {
    "a processor above a suppressed table": plan(
        ProcessorNode(name="p", parents=("source",), supplier=object),
        table("t", "p"),
        held("h", "t"),
        TableToStream(name="ts", parents=("h",)),
        sink("out", "ts"),
    ),
    "a processor below a join that does not wait": plan(
        table("t", "other"),
        join("j", "source", on="t", store="t"),
        ProcessorNode(name="p", parents=("j",), supplier=object),
    ),
    "one chain": plan(
        through("m", "source"), count("c", "m", store="s"), TableToStream(name="ts", parents=("c",)), sink("out", "ts")
    ),
    "two sinks to two topics": plan(sink("a", "source"), sink("b", "source")),
    "one sink with a topic for each record": plan(sink("a", "source", topic=None)),
    "two aggregations of one stream": plan(count("a", "source", store="s"), count("b", "source", store="t")),
    "ways that meet again in one region": plan(
        Filter(name="f", parents=("source",), predicate=max),
        through("m", "source"),
        PassThrough(name="p", parents=("f", "m")),
        sink("out", "p"),
    ),
    "ways that meet again in an exit of one region": plan(through("m", "source"), count("c", "source", "m", store="s")),
    "branches to topics of their own": plan(
        Branch(name="b", parents=("source",), predicates=(max,), targets=("b1",), default="b0"),
        PassThrough(name="b1", parents=("b",)),
        PassThrough(name="b0", parents=("b",)),
        sink("x", "b1"),
        sink("y", "b0"),
    ),
    "a join with the table of another source": plan(
        table("t", "other"), join("j", "source", on="t", store="t"), sink("out", "j")
    ),
    "two joins with one table": plan(
        table("t", "other"), join("j", "source", on="t", store="t"), join("k", "j", on="t", store="t"), sink("out", "k")
    ),
    "two joins of the source's table with one table of another": plan(
        table("t", "source", store="s"),
        table("u", "other", store="o"),
        table_join("j", "t", on="u", store="o"),
        table_join("k", "u", on="t", store="s"),
        TableJoinMerge(name="m", parents=("j", "k"), store="r", stores=("r",)),
        table_join("j2", "m", on="u", store="o"),
        TableJoinMerge(name="m2", parents=("j2",)),
        TableToStream(name="ts", parents=("m2",)),
        sink("out", "ts"),
    ),
    "two sinks to one topic from two sources": plan(sink("a", "source", topic="x"), sink("b", "other", topic="x")),
}

INTERFERING = {
    "a processor below a suppressed table": plan(
        table("t", "source"),
        held("h", "t"),
        TableToStream(name="ts", parents=("h",)),
        ProcessorNode(name="p", parents=("ts",), supplier=object),
    ),
    "a processor below a join that waits": plan(
        table("t", "other"),
        replace(join("j", "source", on="t", store="t"), grace_ms=5),
        ProcessorNode(name="p", parents=("j",), supplier=object),
    ),
    "a join with the stream's own table": plan(
        table("t", "source"), join("j", "source", on="t", store="t"), sink("out", "j")
    ),
    "a join with a table over the stream's own": plan(
        table("t", "source"),
        TableFilter(name="f", parents=("t",), predicate=max),
        join("j", "source", on="f", store="t"),
        sink("out", "j"),
    ),
    "a table joined with itself": plan(
        table("t", "source"),
        table_join("j", "t", on="t", store="t"),
        table_join("k", "t", on="t", store="t"),
        TableJoinMerge(name="m", parents=("j", "k")),
    ),
    "a table joined with an aggregation of the same source": plan(
        table("t", "source"),
        count("c", "source", store="s"),
        table_join("j", "t", on="c", store="s"),
        table_join("k", "c", on="t", store="t"),
        TableJoinMerge(name="m", parents=("j", "k")),
    ),
    "a join with an aggregation of its own result": plan(
        join("j", "source", on="c", store="s"), count("c", "j", store="s"), sink("out", "j")
    ),
    "a merge below two stateful operators": plan(
        table("t", "source"),
        TableToStream(name="ts", parents=("t",)),
        count("c", "source", store="s"),
        TableToStream(name="cs", parents=("c",)),
        PassThrough(name="p", parents=("ts", "cs")),
        sink("out", "p"),
    ),
    "a merge of a stateful operator with its input": plan(
        join("j", "source", on="t", store="t"),
        PassThrough(name="p", parents=("source", "j")),
        sink("out", "p"),
        table("t", "other"),
    ),
    "a for_each below two regions": plan(
        table("t", "other"),
        join("j", "source", on="t", store="t"),
        ForEach(name="e", parents=("source", "j"), action=print),
    ),
    "a stateful operator fed by two regions": plan(
        table("t", "other"), join("j", "source", on="t", store="t"), count("c", "source", "j", store="s")
    ),
    "two sinks to one topic": plan(sink("a", "source", topic="x"), through("m", "source"), sink("b", "m", topic="x")),
    "a sink with a topic for each record beside another": plan(sink("a", "source", topic=None), sink("b", "source")),
}


@pytest.mark.parametrize("name", SEPARATE)
def test_whole_batches_are_right_when_ways_stay_apart(name):
    assert not needs_record_order(SEPARATE[name], "source")


@pytest.mark.parametrize("name", INTERFERING)
def test_single_records_are_needed_when_ways_meet(name):
    assert needs_record_order(INTERFERING[name], "source")


def test_a_region_ends_at_stateful_operators_tables_and_sinks():
    topology = plan(
        through("m", "source"),
        sink("a", "m"),
        table("t", "m"),
        TableToStream(name="ts", parents=("t",)),
        through("n", "m"),
        sink("b", "n", "ts"),
    )
    assert region(topology, "source") == (["m", "n"], ["a", "t", "b"])
    assert region(topology, "t") == (["ts"], ["b"])
