"""Sinks that name a topic for each record: what their function gets, and what happens when it raises."""

from datetime import timedelta
from typing import Any

import pytest

from streamlib import (
    JoinWindows,
    ProcessingError,
    RecordContext,
    StreamsBuilder,
    TopologyBuilder,
    TopologyError,
    serdes,
)
from streamlib.operators.sink import sink
from streamlib.record import RecordBatch, TopicPartition
from streamlib.testing.topics import Row
from streamlib.testing.topology_test_driver import TopologyTestDriver
from streamlib.topology.nodes import Sink

S = serdes.STRING


def batch(**more: Any) -> RecordBatch:
    return RecordBatch(["a", "b", "c"], ["x", "y", "x"], [1, 2, 3], [10, 11, 12], **more)


def naming(site: Any, topic_fn: Any, *, with_context: bool = False) -> Any:
    node = Sink(name="out", topic=None, topic_fn=topic_fn, with_context=with_context, key_serde=S, value_serde=S)
    return site.build(sink, node)


def test_rows_of_one_topic_go_together_in_their_order(site: Any) -> None:
    naming(site, lambda key, value: value).process(batch())
    assert [(part.keys, part.offsets) for _, part in site.sent] == [(["a", "c"], [10, 12]), (["b"], [11])]
    assert site.topics == ["x", "y"]


def test_the_function_gets_where_the_record_came_from(site: Any) -> None:
    seen = []
    site.tp = TopicPartition("in", 3)
    headers = [(), (("h", b"1"),), ()]

    def topic(key: Any, value: Any, context: RecordContext) -> str:
        seen.append(context)
        return "t"

    naming(site, topic, with_context=True).process(batch(headers=headers))
    assert seen[1] == RecordContext("in", 3, 11, 2, (("h", b"1"),))
    assert [context.offset for context in seen] == [10, 11, 12]


def test_nothing_is_said_of_the_origin_when_a_punctuator_has_forwarded(site: Any) -> None:
    seen = []
    site.tp = None
    naming(site, lambda key, value, context: seen.append(context) or "t", with_context=True).process(batch())
    assert seen[0] == RecordContext(None, None, None, 1, ())


def test_a_function_that_raises_is_treated_by_the_policy(site: Any, skipping: Any) -> None:
    def topic(key: Any, value: Any) -> str:
        return {"x": "known"}[value]

    naming(skipping, topic).process(batch())
    assert [part.keys for _, part in skipping.sent] == [["a", "c"]]
    assert skipping.failures == [("KeyError('y')", "out", "b", "y", 2, 11)]
    with pytest.raises(ProcessingError, match="out failed at offset 11"):
        naming(site, topic).process(batch())
    assert site.sent == []


@pytest.mark.filterwarnings("ignore::streamlib.UnstableNameWarning")
def test_a_cache_tells_the_record_that_was_last_when_it_is_flushed() -> None:
    builder = StreamsBuilder("app")
    counts = builder.stream("in", S, S).group_by_key().count(store="n").to_stream()
    counts.to(lambda key, value, context: f"{key}-{context.topic}-{context.offset}", value_serde=serdes.INT64)
    with TopologyTestDriver(builder.build(), batch_rows=3, commit_rows=3) as driver:
        driver.pipe_rows("in", [Row(key, b"1", time, ()) for time, key in enumerate([b"a", b"b", b"a"])])
        written = driver.produced_topic_names() - {"app-n-changelog"}
    assert written == {"a-in-2", "b-in-1"}


@pytest.mark.filterwarnings("ignore::streamlib.UnstableNameWarning")
def test_offsets_are_told_when_streams_are_joined_below_which_a_sink_asks() -> None:
    builder = StreamsBuilder("app")
    left, right = builder.stream("a", S, S), builder.stream("b", S, S)
    joined = left.join(right, lambda one, other: one + other, JoinWindows.of(timedelta(seconds=1)), name="j")
    joined.to(lambda key, value, context: f"{context.topic}-{context.offset}")
    with TopologyTestDriver(builder.build(), batch_rows=10) as driver:
        driver.pipe_rows("a", [Row(b"k", b"1", 0, ()), Row(b"l", b"1", 0, ())])
        driver.pipe_rows("b", [Row(key, b"2", 0, ()) for key in (b"x", b"k", b"l")])
        assert driver.produced_topic_names() >= {"b-1", "b-2"}


def test_a_function_of_one_argument_is_a_mistake() -> None:
    builder, nodes = StreamsBuilder(), TopologyBuilder()
    builder.stream("in").to(lambda key: "t", name="out")  # type: ignore[arg-type, misc]
    with pytest.raises(TopologyError, match=r'"out" cannot ask for topics: .* takes neither'):
        builder.build()
    nodes.add_source("in", "in").add_sink("out", lambda key: "t", "in")  # type: ignore[arg-type, misc]
    with pytest.raises(TopologyError, match=r'"out" cannot ask for topics: .* takes neither'):
        nodes.build()
