"""Stores and old values of tables: who gets a store, and who has to send the value before an update."""

from datetime import timedelta
from typing import Any

import pytest

from streamlib import KTable, StreamsBuilder, TimeWindows, Topology, serdes
from streamlib.topology.nodes import TableSource

pytestmark = pytest.mark.filterwarnings("ignore::streamlib.UnstableNameWarning")
TEXT: dict[str, Any] = {"key_serde": serdes.STRING, "value_serde": serdes.STRING}


def table(builder: StreamsBuilder, **options: Any) -> KTable[str, str]:
    return builder.table("t", serdes.STRING, serdes.STRING, name="t", **options)


def sends_old(topology: Topology) -> dict[str, bool]:
    return {name: node.send_old for name, node in topology.nodes.items() if hasattr(node, "send_old")}


def test_a_table_has_no_store_when_nobody_needs_its_rows() -> None:
    builder = StreamsBuilder()
    table(builder).filter(lambda k, v: True, name="f").map_values(str.upper, name="m").to_stream().to("out")
    topology = builder.build()
    assert topology.stores == {}
    assert sends_old(topology) == {"t": False, "f": False, "m": False}


def test_a_filter_hears_old_values_when_the_table_above_has_a_store() -> None:
    builder = StreamsBuilder()
    source = table(builder, store="rows")
    source.filter(lambda k, v: True, name="f").to_stream().to("out")
    source.map_values(str.upper, name="m").to_stream().to("out2")
    assert sends_old(builder.build()) == {"t": True, "f": True, "m": False}


def test_the_whole_chain_sends_old_values_when_a_table_is_grouped() -> None:
    builder = StreamsBuilder()
    table(builder).map_values(str.upper, name="m").group_by(lambda k, v: (v, k)).count(store="c")
    topology = builder.build()
    assert sends_old(topology) == {"t": True, "m": True, "KTABLE-AGGREGATE-0000000007": False}
    assert list(topology.stores) == ["t-STATE-STORE-0000000000", "c"]


def test_old_values_are_asked_for_no_further_up_when_a_table_has_its_own_store() -> None:
    builder = StreamsBuilder()
    table(builder).map_values(str.upper, name="m", store="upper").group_by(lambda k, v: (v, k)).count(store="c")
    topology = builder.build()
    assert sends_old(topology) == {"t": False, "m": True, "KTABLE-AGGREGATE-0000000007": False}
    assert topology.nodes["t"].stores == ()


def test_an_aggregation_sends_old_values_when_a_filter_comes_after_it() -> None:
    builder = StreamsBuilder()
    counts = builder.stream("in", **TEXT).group_by_key().count(name="counts", store="c")
    counts.filter(lambda k, v: v > 1, name="f").to_stream().to("out")
    assert sends_old(builder.build()) == {"counts": True, "f": True}


def test_a_derived_table_gets_a_store_only_when_it_is_named() -> None:
    builder = StreamsBuilder()
    named = table(builder).filter(lambda k, v: True, store="kept")
    asked = table_of_other(builder).filter(lambda k, v: True, store=True)
    assert (named.queryable_store_name, asked.queryable_store_name) == ("kept", None)
    assert list(builder.build().stores) == ["kept"]


def table_of_other(builder: StreamsBuilder) -> KTable[str, str]:
    return builder.table("other", serdes.STRING, serdes.STRING)


def test_a_stream_as_a_table_is_stored_when_it_is_named() -> None:
    builder = StreamsBuilder()
    rows = builder.stream("in", **TEXT).select_key(lambda k, v: v).to_table(name="rows", store="rows")
    assert rows.queryable_store_name == "rows"
    topology = builder.build()
    node = topology.nodes["rows"]
    assert isinstance(node, TableSource)
    assert (node.store, node.stores) == ("rows", ("rows",))
    assert list(topology.repartition_topics) == ["rows-repartition"]


def test_store_options_reach_the_store() -> None:
    builder = StreamsBuilder(in_memory=True)
    counts = builder.stream("in", **TEXT).group_by_key()
    counts.count(store="a", caching=False, logging=False)
    counts.count(store="b", in_memory=False, topic_configs={"segment.bytes": "1000"})
    windows = counts.windowed_by(TimeWindows.of(timedelta(seconds=5), grace=timedelta(seconds=1)))
    windows.count(store="c")
    windows.reduce(lambda a, b: a, store="d", retention=timedelta(minutes=1))
    stores = builder.build().stores
    assert [(s.persistent, s.caching, s.logging) for s in stores.values()] == [
        (False, False, False),
        (True, True, True),
        (False, True, True),
        (False, True, True),
    ]
    assert stores["b"].topic_configs == {"segment.bytes": "1000"}
    assert [(s.kind, s.retention_ms, s.window_size_ms) for s in stores.values()][2:] == [
        ("window", 6000, 5000),
        ("window", 60_000, 5000),
    ]
    assert [s.value_serde.name for s in stores.values()] == ["int64", "int64", "int64", "string"]


def test_a_grouping_has_one_repartition_topic_when_it_is_named() -> None:
    builder = StreamsBuilder()
    named = builder.stream("in", **TEXT).group_by(lambda k, v: v, name="by-value")
    named.count(store="a")
    named.reduce(lambda a, b: a, store="b")
    grouped = table(builder).group_by(lambda k, v: (v, k), name="by-name")
    grouped.count(store="c")
    grouped.reduce(lambda a, b: a, lambda a, b: a, store="d")
    assert list(builder.build().repartition_topics) == ["by-value-repartition", "by-name-repartition"]


def test_a_grouped_table_travels_as_changes() -> None:
    builder = StreamsBuilder()
    table(builder).group_by(lambda k, v: (len(v), k), name="g", key_serde=serdes.INT64).count(store="c", name="agg")
    topology = builder.build()
    for name in ("agg-sink", "agg-source"):
        node: Any = topology.nodes[name]
        assert (node.key_serde.name, node.value_serde.name) == ("int64", "changed[string]")
    assert topology.nodes["agg"].parents == ("agg-source",)
