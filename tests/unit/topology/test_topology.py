"""Pictures of a plan, and sub-topologies that the scenarios do not have."""

import json
from typing import Any

import pytest

from streamlib import StreamsBuilder, Topology, serdes
from streamlib.state.spec import StoreSpec
from streamlib.topology import validate
from streamlib.topology.nodes import PassThrough, Sink, Source
from streamlib.topology.plan import Plan

TEXT: dict[str, Any] = {"key_serde": serdes.STRING, "value_serde": serdes.STRING}


@pytest.fixture
def topology() -> Topology:
    builder = StreamsBuilder("app")
    names = builder.global_table("names", **TEXT, store="names", name="names")
    joined = builder.stream("in", **TEXT, name="in").join(
        names, lambda a, b: a, key_selector=lambda k, v: k, name="named"
    )
    joined.group_by(lambda k, v: v, name="by-value").count(store="counts", name="counts")
    return builder.build()


def test_the_picture_shows_topics_nodes_and_stores(topology: Topology) -> None:
    assert topology.to_mermaid() == (
        "flowchart TD\n"
        '  t0[/"names"/]\n'
        '  t1[/"in"/]\n'
        '  t2[/"by-value-repartition"/]\n'
        '  subgraph p0["global table 0"]\n'
        '    n0["names-source"]\n'
        '    n1["names"]\n'
        '    s0[("names")]\n'
        "  end\n"
        '  subgraph p1["sub-topology 1"]\n'
        '    n2["in"]\n'
        '    n3["named"]\n'
        '    n4["by-value"]\n'
        '    n5["by-value-repartition-filter"]\n'
        '    n6["by-value-repartition-sink"]\n'
        "  end\n"
        '  subgraph p2["sub-topology 2"]\n'
        '    n7["by-value-repartition-source"]\n'
        '    n8["counts"]\n'
        '    s1[("counts")]\n'
        "  end\n"
        "  t0 --> n0\n  n0 --> n1\n  n1 --- s0\n  t1 --> n2\n  n2 --> n3\n  n3 --> n4\n  n4 --> n5\n  n5 --> n6\n"
        "  n6 --> t2\n  t2 --> n7\n  n7 --> n8\n  n8 --- s1\n"
    )


def test_the_json_tells_the_structure_without_functions(topology: Topology) -> None:
    plan = json.loads(topology.to_json())
    assert [node["kind"] for node in plan["nodes"]][:4] == ["Source", "TableSource", "Source", "StreamGlobalTableJoin"]
    assert plan["nodes"][0] == {
        "name": "names-source",
        "kind": "Source",
        "parents": [],
        "topics": ["names"],
        "key_serde": "string",
        "value_serde": "string",
    }
    assert [(part["number"], part["is_global"], part["source_topics"]) for part in plan["subtopologies"]] == [
        (0, True, ["names"]),
        (1, False, ["in"]),
        (2, False, ["by-value-repartition"]),
    ]
    assert plan["repartition_topics"] == [{"name": "by-value-repartition", "partitions": None}]
    assert plan["stores"][1]["name"] == "counts"


def test_topics_get_the_application_id_only_when_they_are_internal(topology: Topology) -> None:
    assert topology.physical_topic("in", "app") == "in"
    assert topology.physical_topic("by-value-repartition", "app") == "app-by-value-repartition"
    assert topology.changelog_topic("counts", "app") == "app-counts-changelog"
    assert [node.name for node in topology.children("in")] == ["named"]


def source(name: str, topic: str) -> Source:
    return Source(name=name, topics=(topic,), **TEXT)


def test_parts_are_joined_when_they_share_a_store() -> None:
    spec = StoreSpec("shared", "key_value", serdes.STRING, serdes.STRING)
    plan = Plan(
        nodes=[
            source("a", "A"),
            source("b", "B"),
            source("c", "C"),
            PassThrough(name="pa", parents=("a",), stores=("shared",)),
            PassThrough(name="pb", parents=("b",)),
            PassThrough(name="pc", parents=("c",), stores=("shared",)),
            Sink(name="out", parents=("pa", "pc"), topic="out", **TEXT),
        ],
        stores=[spec],
        source_kinds={"a": "stream", "b": "stream", "c": "stream"},
    )
    assert validate.problems(plan) == []
    parts = plan.topology().subtopologies
    assert [part.nodes for part in parts] == [("a", "c", "pa", "pc", "out"), ("b", "pb")]
    assert (parts[0].source_topics, parts[0].sink_topics, parts[0].stores) == (("A", "C"), ("out",), ("shared",))


def test_a_store_is_missed_when_a_node_uses_one_that_was_not_added() -> None:
    plan = Plan(
        nodes=[source("a", "A"), PassThrough(name="p", parents=("a",), stores=("lost",))],
        source_kinds={"a": "stream"},
    )
    assert validate.problems(plan) == ['"p" uses the store "lost", which does not exist: add it with add_state_store']


def test_groups_of_equal_partition_counts_are_one_when_they_share_a_topic() -> None:
    plan = Plan(
        nodes=[source(name, name.upper()) for name in "abcde"],
        copartitioned=[frozenset("ab"), frozenset("cd"), frozenset("bc"), frozenset("e")],
    )
    assert plan.topology().copartition_groups == (frozenset("ABCD"),)


def test_the_class_of_topics_is_named_when_each_record_has_its_own() -> None:
    def by_value(key: str, value: str) -> str:
        return value

    builder = StreamsBuilder()
    builder.stream("in", **TEXT).to(by_value, name="sink")
    assert "Sink: sink (extractor class: by_value)" in builder.build().describe()
