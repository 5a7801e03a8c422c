"""Cogroups: names, repartition topics, old values, and the table as a whole."""

from datetime import timedelta
from typing import Any

import pytest

from streamlib import (
    CogroupedKStream,
    KGroupedStream,
    KTable,
    SessionWindows,
    StreamsBuilder,
    TimeWindows,
    TopologyError,
    serdes,
)
from streamlib.testing.topology_test_driver import TopologyTestDriver

pytestmark = pytest.mark.filterwarnings("ignore::streamlib.UnstableNameWarning")


def grouped(builder: StreamsBuilder, topic: str) -> KGroupedStream[str, int]:
    return builder.stream(topic, serdes.STRING, serdes.INT64).group_by_key()


def plus(key: str, value: int, total: int) -> int:
    return total + value


def minus(key: str, value: int, total: int) -> int:
    return total - value


def balance(builder: StreamsBuilder) -> CogroupedKStream[str, int]:
    return grouped(builder, "in").cogroup(plus).cogroup(grouped(builder, "out"), minus)


def sent(builder: StreamsBuilder, table: KTable[Any, int], records: Any, **config: Any) -> list[Any]:
    table.to_stream(lambda key, _: str(key), key_serde=serdes.STRING).to("result")
    with TopologyTestDriver(builder.build(), {"application_id": "app", "statestore_cache_max_bytes": 0, **config}) as d:
        result = d.create_output_topic("result", serdes.STRING, serdes.INT64)
        for topic, key, value, timestamp in records:
            d.create_input_topic(topic, serdes.STRING, serdes.INT64).pipe_input(key, value, timestamp_ms=timestamp)
        return [(row.key, row.value, row.timestamp_ms) for row in result.read_records_to_list()]


@pytest.mark.parametrize("cache_bytes", [0, 1 << 20])
def test_records_of_all_streams_go_into_one_row(cache_bytes: int) -> None:
    builder = StreamsBuilder()
    table = balance(builder).aggregate(int, store="balance", value_serde=serdes.INT64)
    records = [("in", "a", 7, 1), ("out", "a", 2, 2), ("out", "b", 1, 3), ("in", "a", 1, 0)]
    rows = sent(builder, table, records, statestore_cache_max_bytes=cache_bytes)
    assert rows == [("a", 7, 1), ("a", 5, 2), ("b", -1, 3), ("a", 6, 2)]


def test_each_stream_keeps_its_own_time_when_windowed() -> None:
    builder = StreamsBuilder()
    windows = TimeWindows.of(timedelta(milliseconds=10), grace=timedelta(milliseconds=100))
    table = balance(builder).windowed_by(windows).aggregate(int, store="balance", value_serde=serdes.INT64)
    records = [("in", "a", 7, 1), ("in", "a", 7, 200), ("out", "a", 2, 100), ("in", "a", 2, 5)]
    assert [key for key, *_ in sent(builder, table, records)] == ["[a@0/10]", "[a@200/210]", "[a@100/110]"]


def test_sessions_span_the_records_of_all_streams() -> None:
    builder = StreamsBuilder()
    windows = SessionWindows.of(timedelta(milliseconds=10))
    table = balance(builder).windowed_by(windows)
    sums = table.aggregate(int, lambda key, one, other: one + other, store="balance", value_serde=serdes.INT64)
    rows = sent(builder, sums, [("in", "a", 7, 1), ("out", "a", 2, 9)])
    assert rows == [("[a@1/1]", 7, 1), ("[a@1/1]", None, 1), ("[a@1/9]", 5, 9)]


def test_each_aggregation_sends_old_values_when_the_table_is_grouped() -> None:
    builder = StreamsBuilder()
    table = balance(builder).aggregate(int, store="balance", value_serde=serdes.INT64)
    totals = table.group_by(lambda key, value: ("all", value)).reduce(int.__add__, int.__sub__, store="total")
    rows = sent(builder, totals, [("in", "a", 7, 1), ("in", "b", 3, 2), ("out", "a", 2, 3)])
    assert rows == [("all", 7, 1), ("all", 10, 2), ("all", 8, 3)]


def test_a_cogroup_can_be_joined() -> None:
    builder = StreamsBuilder()
    table = balance(builder).aggregate(int, store="balance", value_serde=serdes.INT64)
    stream = builder.stream("ask", serdes.STRING, serdes.INT64)
    stream.join(table, lambda left, right: left * right, value_serde=serdes.INT64).to("answers")
    records = [("in", "a", 7, 1), ("ask", "a", 10, 2)]
    with TopologyTestDriver(builder.build(), {"application_id": "app"}) as driver:
        for topic, key, value, timestamp in records:
            driver.create_input_topic(topic, serdes.STRING, serdes.INT64).pipe_input(key, value, timestamp_ms=timestamp)
        answers = driver.create_output_topic("answers", serdes.STRING, serdes.INT64)
        assert [row.value for row in answers.read_records_to_list()] == [70]


def test_topics_are_named_after_store_or_grouping_and_used_again_by_a_second_aggregation() -> None:
    builder = StreamsBuilder()
    named = builder.stream("in", serdes.STRING, serdes.INT64).group_by(lambda key, value: key, name="by-key")
    unnamed = builder.stream("out", serdes.STRING, serdes.INT64).group_by(lambda key, value: key)
    cogrouped = named.cogroup(plus).cogroup(unnamed, minus).cogroup(grouped(builder, "more"), plus)
    cogrouped.aggregate(int, store="one")
    cogrouped.aggregate(int, store="two", name="named")
    topology = builder.build()
    assert list(topology.repartition_topics) == ["by-key-repartition", "one-repartition"]
    assert {"named-cogroup-agg-0", "named-cogroup-agg-2", "named-cogroup-merge"} < topology.nodes.keys()
    assert frozenset({"by-key-repartition", "one-repartition", "more"}) in topology.copartition_groups
    assert len(topology.subtopologies) == 3


def test_a_stream_that_takes_part_already_gets_another_aggregator() -> None:
    builder = StreamsBuilder()
    first = grouped(builder, "in")
    table = first.cogroup(plus).cogroup(first, minus).aggregate(int, store="balance", value_serde=serdes.INT64)
    assert sent(builder, table, [("in", "a", 7, 1)]) == [("a", -7, 1)]


def test_every_mistake_is_told_when_the_topology_is_built() -> None:
    builder = StreamsBuilder()
    cogrouped = grouped(builder, "in").cogroup(plus).cogroup(grouped(StreamsBuilder(), "else"), plus)
    cogrouped.aggregate(None, store="a", name="a")  # type: ignore[arg-type]
    cogrouped.windowed_by("1 s").aggregate(int, store="b")  # type: ignore[call-overload]
    with pytest.raises(TopologyError) as raised:
        builder.build()
    for part in ("two builders", '"a-cogroup-agg-0" needs a function as its initializer', "windowed_by needs windows"):
        assert part in str(raised.value)
