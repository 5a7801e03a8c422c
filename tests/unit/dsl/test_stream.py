"""What streams leave in the plan beside their names, which the conformance scenarios compare."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from streamlib import KStream, StreamsBuilder, TimeWindows, Topology, Windowed, serdes
from streamlib.topology.nodes import Branch, RepartitionFilter, Sink, Source, StreamTableJoin

pytestmark = pytest.mark.filterwarnings("ignore::streamlib.UnstableNameWarning")
TEXT: dict[str, Any] = {"key_serde": serdes.STRING, "value_serde": serdes.STRING}


def stream(builder: StreamsBuilder) -> KStream[str, str]:
    return builder.stream("in", serdes.STRING, serdes.STRING)


def only(topology: Topology, kind: type) -> Any:
    (found,) = [node for node in topology.nodes.values() if type(node) is kind]
    return found


def test_branches_are_tried_in_the_order_they_were_added() -> None:
    builder = StreamsBuilder()
    first, second = (lambda k, v: v == "1"), (lambda k, v: v == "2")
    branches = stream(builder).split(name="by-").branch(first, name="one").branch(second).default_branch(name="rest")
    assert list(branches) == ["by-one", "by-2", "by-rest"]
    node = only(builder.build(), Branch)
    assert (node.predicates, node.targets, node.default) == ((first, second), ("by-one", "by-2"), "by-rest")


def test_no_record_goes_on_when_no_branch_takes_it() -> None:
    builder = StreamsBuilder()
    branches = stream(builder).split().branch(lambda k, v: True).no_default_branch()
    assert list(branches) == ["KSTREAM-BRANCH-00000000011"]
    assert only(builder.build(), Branch).default is None


def test_null_keys_are_kept_when_a_left_join_below_wants_them() -> None:
    builder = StreamsBuilder()
    table = builder.table("t", **TEXT, store="t")
    mapped = stream(builder).select_key(lambda k, v: v)
    mapped.repartition(name="kept").peek(print).left_join(table, lambda a, b: a, name="left").to("a")
    mapped.repartition(name="dropped").join(table, lambda a, b: a, name="inner").to("b")
    found = {
        node.name: node.keep_null_keys for node in builder.build().nodes.values() if type(node) is RepartitionFilter
    }
    assert found == {"kept-repartition-filter": True, "dropped-repartition-filter": False}


def test_sources_of_both_sides_are_copartitioned_when_a_stream_is_joined() -> None:
    builder = StreamsBuilder()
    a, b = builder.table("a", **TEXT, store="a"), builder.table("b", **TEXT, store="b")
    joined = stream(builder).join(a, lambda x, y: x, name="1").join(b, lambda x, y: x, name="2")
    joined.select_key(lambda k, v: v).join(a, lambda x, y: x, name="3").to("out")
    assert builder.build().copartition_groups == (frozenset({"in", "a", "b", "3-repartition"}),)


def test_a_stream_is_repartitioned_once_when_it_is_joined_twice_without_a_name() -> None:
    builder = StreamsBuilder()
    table = builder.table("t", **TEXT, store="t")
    rekeyed = stream(builder).select_key(lambda k, v: v, name="rekeyed")
    rekeyed.join(table, lambda a, b: a).to("a")
    rekeyed.join(table, lambda a, b: a).to("b")
    assert list(builder.build().repartition_topics) == ["rekeyed-repartition"]


def test_nothing_is_repartitioned_when_only_values_changed() -> None:
    builder = StreamsBuilder()
    stream(builder).map_values(str.upper).filter(lambda k, v: True).group_by_key().count(store="c")
    assert builder.build().repartition_topics == {}


def test_a_join_reads_the_table_above_when_the_table_has_no_store() -> None:
    builder = StreamsBuilder()
    table = builder.table("t", **TEXT).filter(lambda k, v: True, name="keep").map_values(str.upper, name="upper")
    stream(builder).join(table, lambda a, b: a).to("out")
    topology = builder.build()
    node = only(topology, StreamTableJoin)
    assert (node.table, node.stores) == ("upper", ("t-STATE-STORE-0000000000",))
    assert topology.nodes["KTABLE-SOURCE-0000000002"].stores == ("t-STATE-STORE-0000000000",)


def test_functions_get_the_key_when_they_ask_for_it() -> None:
    builder = StreamsBuilder()
    table = builder.table("t", **TEXT, store="t")
    joined = stream(builder).map_values(lambda k, v: v, with_key=True, name="m")
    joined.join(table, lambda k, a, b: a, with_key=True, name="j").to("out")
    topology = builder.build()
    assert [getattr(topology.nodes[name], "with_key") for name in ("m", "j")] == [True, True]  # noqa: B009


def test_a_windowed_key_goes_by_its_plain_key_only_when_the_topic_is_the_users() -> None:
    builder = StreamsBuilder()
    windowed = stream(builder).group_by_key().windowed_by(TimeWindows.of(timedelta(seconds=1))).count(store="c")
    windowed.to_stream().to("out", name="out")
    windowed.group_by(lambda k, v: (k, v), name="again").count(store="again")
    topology = builder.build()
    out, internal = topology.nodes["out"], topology.repartition_topics["again-repartition"]
    sink = next(node for node in topology.nodes.values() if isinstance(node, Sink) and node.topic == internal.name)
    assert isinstance(out, Sink)
    assert out.key_serde.serialize(Windowed("k", 0, 1000)) == b"k" + bytes(8)
    assert out.key_serde.partition_bytes is not None
    assert sink.key_serde == replace(out.key_serde, partition_bytes=None)


def test_the_partitioner_and_the_partitions_reach_the_plan() -> None:
    builder = StreamsBuilder()
    partitioner = lambda key, value, count: 0  # noqa: E731
    stream(builder).repartition(name="r", partitions=3, partitioner=partitioner).to("out", partitioner=partitioner)
    topology = builder.build()
    sinks = [node for node in topology.nodes.values() if isinstance(node, Sink)]
    assert [sink.partitioner for sink in sinks] == [partitioner, partitioner]
    assert topology.repartition_topics["r-repartition"].partitions == 3


def test_a_source_reads_as_it_was_told() -> None:
    builder = StreamsBuilder()
    extractor = lambda key, value, timestamp, highest: 0  # noqa: E731
    builder.stream("in", **TEXT, name="s", timestamp_extractor=extractor, offset_reset="latest").for_each(print)
    source = only(builder.build(), Source)
    assert (source.name, source.timestamp_extractor, source.offset_reset) == ("s", extractor, "latest")
