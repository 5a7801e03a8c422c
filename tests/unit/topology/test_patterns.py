"""Sources that read all topics that match a pattern."""

import re

import pytest

from streamlib import StreamsBuilder, TopologyBuilder, TopologyError, serdes
from streamlib.topology.patterns import resolved

S = serdes.STRING


def patterned(*patterns: str) -> StreamsBuilder:
    builder = StreamsBuilder("app")
    for number, pattern in enumerate(patterns):
        builder.stream(re.compile(pattern), S, S).to(f"out-{number}")
    return builder


def problems(builder: StreamsBuilder | TopologyBuilder) -> list[str]:
    with pytest.raises(TopologyError) as caught:
        builder.build()
    return list(caught.value.problems)


def test_the_text_of_the_plan_shows_the_pattern_before_and_after_topics_are_known() -> None:
    topology = patterned("in-.*").build()
    assert "Source: KSTREAM-SOURCE-0000000000 (topics: in-.*)\n" in topology.describe()
    found = resolved(topology, ["in-b", "out-0", "in-a", "a-in-a"], "app")
    assert found.describe() == topology.describe()
    assert found.subtopologies[0].source_topics == ("in-a", "in-b")
    assert '["in-.*"]' not in topology.to_json()
    assert 't1[/"in-.*"/]' in topology.to_mermaid()


def test_streams_of_an_equal_pattern_are_read_by_one_source() -> None:
    sources = [name for name in patterned("in-.*", "in-.*", "other-.*").build().nodes if "SOURCE" in name]
    assert sources == ["KSTREAM-SOURCE-0000000000", "KSTREAM-SOURCE-0000000004"]


def test_flags_tell_patterns_apart() -> None:
    builder = StreamsBuilder("app")
    for flags in (0, re.IGNORECASE):
        builder.stream(re.compile("in", flags), S, S).to("out")
    topology = builder.build()
    assert resolved(topology, ["IN"], "app").subtopologies[1].source_topics == ("IN",)


def test_joined_topics_are_known_once_a_pattern_is_resolved() -> None:
    builder = StreamsBuilder("app")
    table = builder.table("names", S, S, store="names")
    builder.stream(re.compile("in-.*"), S, S).join(table, lambda left, right: left + right).to("out")
    topology = builder.build()
    assert topology.copartition_groups == ()
    assert resolved(topology, ["in-a", "names"], "app").copartition_groups == (frozenset({"in-a", "names"}),)


def test_a_topic_that_goes_is_forgotten() -> None:
    topology = resolved(patterned("in-.*").build(), ["in-a", "in-b"], "app")
    assert resolved(topology, ["in-b"], "app").subtopologies[0].source_topics == ("in-b",)


def test_a_topic_that_two_patterns_match_is_a_mistake() -> None:
    topology = patterned("in-.*", ".*-a").build()
    with pytest.raises(
        TopologyError, match=r'"in-a" matches two patterns, "in-\.\*" of "KSTREAM-SOURCE-0000000000" and'
    ):
        resolved(topology, ["in-a"], "app")


def test_a_pattern_must_not_match_what_is_read_by_name() -> None:
    builder = patterned("in-.*")
    builder.global_table("in-x", S, S, store="x")
    assert [problem.partition(" of ")[0] for problem in problems(builder)] == [
        '"in-x", which the topology reads by its name, matches the pattern "in-.*"'
    ]


def test_equal_patterns_read_in_different_ways_are_mistakes() -> None:
    builder = patterned("in-.*")
    builder.stream(re.compile("in-.*"), S, serdes.INT64).to("out")
    assert problems(builder) == [
        '"in-.*" is read with the value_serde string and with int64: read it once, then map its values'
    ]


def test_a_source_of_a_topology_reads_one_pattern() -> None:
    builder = TopologyBuilder("app").add_source("one", re.compile("in-.*"), "more").add_sink("out", "out", "one")
    assert problems(builder) == ['the source "one" has a pattern, and cannot read other topics: add another one']
    builder = TopologyBuilder("app").add_source("a", re.compile("in")).add_source("b", re.compile("in"))
    assert problems(builder) == ['the pattern "in" is read by "a" and by "b": read it once']
