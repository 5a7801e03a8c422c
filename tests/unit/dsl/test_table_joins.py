"""Names, stores and old values of joined tables."""

from typing import Any

import pytest

from streamlib import KTable, StreamsBuilder, Topology, TopologyError, serdes
from streamlib.topology.table_join_nodes import TableJoin, TableJoinMerge

pytestmark = pytest.mark.filterwarnings("ignore::streamlib.UnstableNameWarning")
KINDS = ["join", "left_join", "outer_join"]


def table(builder: StreamsBuilder, topic: str, **options: Any) -> KTable[str, str]:
    return builder.table(topic, serdes.STRING, serdes.STRING, name=topic, **options)


def plus(left: str | None, right: str | None) -> str:
    return f"{left}+{right}"


def joined(builder: StreamsBuilder, kind: str = "join", **options: Any) -> KTable[str, str]:
    result: KTable[str, str] = getattr(table(builder, "l"), kind)(table(builder, "r"), plus, **options)
    return result


def sends_old(topology: Topology) -> set[str]:
    return {name for name, node in topology.nodes.items() if getattr(node, "send_old", False)}


def test_numbers_are_taken_in_the_order_of_java_when_nothing_is_named() -> None:
    builder = StreamsBuilder()
    joined(builder).to_stream().to("out")
    assert list(builder.build().nodes)[4:7] == [
        "KTABLE-JOINTHIS-0000000007",
        "KTABLE-JOINOTHER-0000000008",
        "KTABLE-MERGE-0000000006",
    ]


def test_all_three_nodes_are_named_and_take_numbers_when_the_join_is_named() -> None:
    builder = StreamsBuilder()
    joined(builder, name="j").to_stream().to("out")
    assert list(builder.build().nodes)[4:8] == ["j-join-this", "j-join-other", "j", "KTABLE-TOSTREAM-0000000009"]


def test_the_store_takes_the_first_number_when_it_is_asked_for_without_a_name() -> None:
    builder = StreamsBuilder()
    store = "KTABLE-MERGE-STATE-STORE-0000000006"
    assert joined(builder, store=True).queryable_store_name == store
    merge = builder.build().nodes["KTABLE-MERGE-0000000007"]
    assert isinstance(merge, TableJoinMerge)
    assert (merge.store, merge.stores) == (store, (store,))


def test_store_options_and_serdes_reach_the_store_of_the_result() -> None:
    builder = StreamsBuilder()
    result = joined(builder, store="j", caching=False, logging=False, in_memory=True, value_serde=serdes.INT64)
    assert result.queryable_store_name == "j"
    spec = builder.build().stores["j"]
    assert (spec.caching, spec.logging, spec.persistent) == (False, False, False)
    assert (spec.key_serde.name, spec.value_serde.name) == ("string", "int64")


def test_both_sides_get_stores_and_the_result_has_none_when_none_is_asked_for() -> None:
    builder = StreamsBuilder()
    result = joined(builder)
    assert result.queryable_store_name is None
    topology = builder.build()
    assert list(topology.stores) == ["l-STATE-STORE-0000000000", "r-STATE-STORE-0000000003"]
    this, other = (node for node in topology.nodes.values() if isinstance(node, TableJoin))
    assert (this.parents, this.table, this.stores) == (("l",), "r", ("r-STATE-STORE-0000000003",))
    assert (other.parents, other.table, other.stores) == (("r",), "l", ("l-STATE-STORE-0000000000",))


@pytest.mark.parametrize(("kind", "wanted"), [("join", set()), ("left_join", {"l"}), ("outer_join", {"l", "r"})])
def test_a_side_sends_old_values_when_its_rows_come_out_without_a_match(kind: str, wanted: set[str]) -> None:
    builder = StreamsBuilder()
    joined(builder, kind, name="j")
    assert sends_old(builder.build()) == wanted


@pytest.mark.parametrize("store", [None, "kept"])
def test_everything_above_sends_old_values_when_a_filter_follows_the_join(store: str | None) -> None:
    builder = StreamsBuilder()
    result = joined(builder, name="j", **({} if store is None else {"store": store}))
    result.filter(lambda key, value: True, name="f").to_stream().to("out")
    assert sends_old(builder.build()) == {"l", "r", "j-join-this", "j-join-other", "j", "f"}


def test_old_values_are_asked_for_through_filters_and_joins_when_a_joined_table_is_grouped() -> None:
    builder = StreamsBuilder()
    inner = joined(builder, name="j").map_values(str.upper, name="m")
    inner.join(table(builder, "t", store="rows"), plus, name="k").group_by(lambda key, value: (value, key)).count()
    names = {"l", "r", "t", "j-join-this", "j-join-other", "j", "m", "k-join-this", "k-join-other", "k"}
    assert sends_old(builder.build()) == names


def test_a_join_is_read_from_all_stores_below_it_when_it_has_none() -> None:
    builder = StreamsBuilder()
    joined(builder, name="j").join(table(builder, "t"), plus, name="k")
    topology = builder.build()
    stores = ("l-STATE-STORE-0000000000", "r-STATE-STORE-0000000003")
    assert topology.nodes["k-join-other"].stores == stores
    assert topology.nodes["k-join-this"].stores == ("t-STATE-STORE-0000000009",)


def test_a_join_is_read_from_its_own_store_when_it_has_one() -> None:
    builder = StreamsBuilder()
    joined(builder, store="j").join(table(builder, "t"), plus, name="k")
    assert builder.build().nodes["k-join-other"].stores == ("j",)


def test_both_sides_hang_below_one_table_when_it_is_joined_with_itself() -> None:
    builder = StreamsBuilder()
    one = table(builder, "l", store="rows")
    one.join(one, plus, name="j")
    topology = builder.build()
    for name in ("j-join-this", "j-join-other"):
        assert (topology.nodes[name].parents, topology.nodes[name].stores) == (("l",), ("rows",))
    assert topology.nodes["j"].parents == ("j-join-this", "j-join-other")


def test_both_topics_need_equal_partition_counts() -> None:
    builder = StreamsBuilder()
    joined(builder, name="j").join(table(builder, "t"), plus, name="k")
    assert builder.build().copartition_groups == (frozenset({"l", "r", "t"}),)


def test_the_build_fails_when_the_tables_come_from_two_builders() -> None:
    builder = StreamsBuilder()
    table(builder, "l").join(table(StreamsBuilder(), "r"), plus, name="j")
    with pytest.raises(TopologyError, match='"j" combines streams or tables of two builders'):
        builder.build()


@pytest.mark.parametrize("kind", KINDS)
def test_the_build_fails_when_a_table_is_joined_with_something_else(kind: str) -> None:
    builder = StreamsBuilder()
    stream: Any = builder.stream("s", serdes.STRING, serdes.STRING)
    getattr(table(builder, "l"), kind)(stream, plus)
    with pytest.raises(TopologyError, match="a table can be joined with another KTable, got"):
        builder.build()


def test_the_build_fails_when_the_joiner_is_no_function() -> None:
    builder = StreamsBuilder()
    nothing: Any = None
    table(builder, "l").join(table(builder, "r"), nothing, name="j")
    with pytest.raises(TopologyError, match='"j-join-this" needs a function as its joiner, got None'):
        builder.build()


def test_an_unknown_option_is_refused_at_once() -> None:
    builder = StreamsBuilder()
    options: Any = {"nam": "j"}
    with pytest.raises(TypeError, match="nam"):
        table(builder, "l").join(table(builder, "r"), plus, **options)
