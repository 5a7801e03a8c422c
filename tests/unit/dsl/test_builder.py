"""Mistakes and warnings at build(), and what a builder's defaults mean."""

import warnings
from datetime import timedelta
from typing import Any

import pytest

from streamlib import StreamsBuilder, TimeWindows, Topology, TopologyError, UnstableNameWarning, serdes
from streamlib.state.spec import StoreSpec
from streamlib.topology.nodes import Sink, Source

TEXT: dict[str, Any] = {"key_serde": serdes.STRING, "value_serde": serdes.STRING}


def problems(builder: StreamsBuilder) -> list[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnstableNameWarning)
        with pytest.raises(TopologyError) as raised:
            builder.build()
    return list(raised.value.problems)


def node(topology: Topology, name: str) -> Any:
    return topology.nodes[name]


def test_every_mistake_is_reported_when_a_topology_has_many() -> None:
    builder = StreamsBuilder("app")
    orders = builder.stream("orders", serdes.STRING, str, name="in")  # type: ignore[call-overload]
    orders.filter(None, name="in")
    orders.to("bad topic")
    orders.group_by_key().windowed_by(TimeWindows.of(timedelta(minutes=1))).count(
        store="counts", retention=timedelta(seconds=1)
    )
    builder.table("customers", **TEXT, store="counts")
    builder.stream("customers", **TEXT)
    builder.stream(["orders", "more"], **TEXT)
    builder.add_state_store(StoreSpec("unused", "key_value", serdes.STRING, serdes.STRING))
    elsewhere = StreamsBuilder().table("others", **TEXT)
    orders.join(elsewhere, lambda left, right: left, name="join")
    with pytest.raises(TopologyError) as raised:
        builder.build()
    assert raised.value.problems == (
        "\"orders\": <class 'str'> is not a serde, use one of streamlib.serdes (STRING, INT64, JSON, json(Type)...)",
        "the topic name 'bad topic' cannot be used: only ASCII letters, digits, '.', '_' and '-' are allowed",
        'the store "counts" keeps windows for 1000 ms, but '
        "TimeWindows(size_ms=60000, advance_ms=60000, grace_ms=0) need 60000 ms: give it a longer retention, or none",
        '"join" combines streams or tables of two builders: make both with one StreamsBuilder',
        '"orders" is read by sources with different lists of topics (in, KSTREAM-SOURCE-0000000007): '
        "give all of them the same list, or branch off one stream",
        '"customers" is read as a stream and as a table: read it once and turn it into the other (to_table, to_stream)',
        '2 operations are named "in": names must be unique, give each its own (name=...)',
        '2 stores are named "counts": names must be unique, give each its own (store=...)',
        'nothing uses the store "unused": name it in the operation that needs it, or do not add it',
        '"in" needs a function as its predicate, got None',
    )
    assert str(raised.value).startswith('the topology has 10 mistakes:\n  1. "orders":')


def test_a_table_is_refused_when_its_topic_is_read_twice() -> None:
    builder = StreamsBuilder()
    builder.table("t", **TEXT, store="a")
    builder.table("t", **TEXT, store="b")
    assert problems(builder) == ['"t" is read as a table 2 times: make it once and use it for both']


def test_one_mistake_is_reported_when_two_repartition_topics_have_one_name() -> None:
    builder = StreamsBuilder()
    stream = builder.stream("in", **TEXT)
    stream.repartition(name="same").to("a")
    stream.repartition(name="same").to("b")
    assert problems(builder) == [
        'the repartition topic "same-repartition" is made 2 times: '
        "give the operations it is named after different names"
    ]


@pytest.mark.parametrize(
    ("second", "problem"),
    [
        ({"value_serde": serdes.INT64}, "read with the value_serde string and with int64"),
        ({"offset_reset": "latest"}, "read twice with a different offset_reset"),
        ({"timestamp_extractor": lambda *_: 0}, "read twice with a different timestamp_extractor"),
    ],
)
def test_two_streams_are_refused_when_they_read_one_topic_differently(second: Any, problem: str) -> None:
    builder = StreamsBuilder()
    builder.stream("in", **TEXT)
    builder.stream("in", **(TEXT | second))
    (found,) = problems(builder)
    assert problem in found


def test_a_topic_is_read_once_when_two_streams_read_it_alike() -> None:
    builder = StreamsBuilder()
    builder.stream(["a", "b"], **TEXT).to("x")
    builder.stream(["b", "a"], **TEXT).merge(builder.stream(["a", "b"], **TEXT)).to("y")
    topology = builder.build()
    sources = [entry for entry in topology.nodes.values() if isinstance(entry, Source)]
    assert [source.topics for source in sources] == [("a", "b")]
    assert node(topology, "KSTREAM-MERGE-0000000004").parents == ("KSTREAM-SOURCE-0000000000",)


def test_partition_counts_are_refused_when_a_join_needs_them_equal() -> None:
    builder = StreamsBuilder()
    left = builder.stream("l", **TEXT).repartition(name="left", partitions=3)
    right = builder.stream("r", **TEXT).repartition(name="right", partitions=4).to_table(store="right")
    left.join(right, lambda a, b: a, name="j").to("out")
    assert problems(builder) == [
        'a join needs equal partition counts, but "left-repartition" has 3, "right-repartition" has 4: '
        "give repartition() the same partitions"
    ]


@pytest.mark.parametrize("partitions", [0, -1])
def test_a_repartition_is_refused_when_it_has_no_partitions(partitions: int) -> None:
    builder = StreamsBuilder()
    builder.stream("in", **TEXT).repartition(name="r", partitions=partitions).to("out")
    assert problems(builder) == [f"repartition needs at least 1 partition, got {partitions}"]


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "ä", "a/b", "x" * 250, 7])
def test_a_name_is_refused_when_a_broker_would_refuse_it(name: Any) -> None:
    builder = StreamsBuilder()
    builder.stream("in", **TEXT, name=name).to("out")
    builder.table("t", **TEXT, store=name)
    assert [problem.partition(" cannot be used: ")[0] for problem in problems(builder)] == [
        f"the name {name!r}",
        f"the store name {name!r}",
    ]


def test_a_join_is_refused_when_it_is_with_something_else() -> None:
    builder = StreamsBuilder()
    stream = builder.stream("in", **TEXT)
    table = builder.table("t", **TEXT, store="t")
    rates = builder.global_table("g", **TEXT, store="g")
    stream.join("t", lambda a, b: a)  # type: ignore[call-overload]
    stream.join(table, lambda a, b: a, key_selector=lambda k, v: k)  # type: ignore[call-overload]
    stream.join(rates, lambda a, b: a, name="lookup")  # type: ignore[call-overload]
    stream.group_by_key().windowed_by(timedelta(minutes=1)).count(store="c")  # type: ignore[arg-type]
    assert [problem.partition(", got")[0] for problem in problems(builder)] == [
        "a stream can be joined with a KStream, a KTable or a GlobalKTable",
        "a join with a table is by key: leave out key_selector, use select_key",
        "windowed_by needs windows, e.g. TimeWindows.of(timedelta(...))",
        '"lookup" needs a function as its key_selector',
    ]


def test_an_unknown_option_is_refused_at_once() -> None:
    stream = StreamsBuilder().stream("in", **TEXT)
    with pytest.raises(TypeError, match="stor"):
        stream.group_by_key().count(stor="x")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="nam"):
        StreamsBuilder().table("in", nam="x")  # type: ignore[call-overload]


def test_a_retention_is_refused_when_the_store_has_no_windows() -> None:
    builder = StreamsBuilder()
    builder.stream("in", **TEXT).group_by_key().count(store="c", retention=timedelta(hours=1))
    assert problems(builder) == ['the store "c" has no windows: leave out its retention']


def unnamed() -> StreamsBuilder:
    builder = StreamsBuilder()
    counts = builder.stream("in", **TEXT).select_key(lambda k, v: v).group_by_key().count()
    counts.to_stream().to("out")
    return builder


def test_generated_names_are_listed_once_when_a_topology_is_built() -> None:
    with pytest.warns(UnstableNameWarning) as caught:
        unnamed().build()
    (warning,) = caught
    assert warning.filename == __file__
    assert "KSTREAM-AGGREGATE-STATE-STORE-0000000002, KSTREAM-AGGREGATE-STATE-STORE-0000000002-repartition" in str(
        warning.message
    )


def test_generated_names_are_a_mistake_when_names_are_required() -> None:
    with pytest.raises(TopologyError, match="generated names move"):
        unnamed().build(require_names=True)


def test_nothing_is_warned_of_when_all_that_lasts_is_named() -> None:
    builder = StreamsBuilder()
    counts = builder.stream("in", **TEXT).select_key(lambda k, v: v).group_by_key().count(store="counts")
    counts.filter(lambda k, v: v > 1).to_stream().to("out")
    builder.stream("other", **TEXT).group_by_key().count(logging=False, in_memory=True).to_stream().to("out2")
    assert builder.build(require_names=True).stores.keys() >= {"counts"}


def test_the_same_plan_comes_out_when_it_is_built_twice() -> None:
    builder = StreamsBuilder("app")
    stream = builder.stream("in", **TEXT)
    stream.to("out")
    first = builder.build()
    assert builder.build() == first
    stream.map_values(str.upper).to("upper")
    assert builder.build().nodes.keys() > first.nodes.keys()
    assert first.name == "app"


def test_serdes_stay_as_they_were_when_nothing_else_is_known() -> None:
    builder = StreamsBuilder()
    builder.stream("in", serdes.STRING, serdes.JSON).map(lambda k, v: (v, k)).to("out", name="sink")
    builder.stream("raw").to("raw-out", name="raw-sink")
    topology = builder.build()
    assert (node(topology, "sink").key_serde, node(topology, "sink").value_serde) == (serdes.STRING, serdes.JSON)
    assert node(topology, "raw-sink").value_serde is serdes.BYTES


def test_the_default_serde_is_used_when_an_operation_makes_new_values() -> None:
    builder = StreamsBuilder(default_key_serde=serdes.INT64, default_value_serde=serdes.JSON)
    stream = builder.stream("in", **TEXT)
    stream.to("a", name="untouched")
    stream.map_values(str.split).to("b", name="values")
    stream.select_key(lambda k, v: 1).to("c", name="keys")
    stream.map(lambda k, v: (k, v), key_serde=serdes.STRING).to("d", name="given")
    topology = builder.build()
    pairs = {
        name: (entry.key_serde.name, entry.value_serde.name)
        for name, entry in topology.nodes.items()
        if isinstance(entry, Sink)
    }
    assert pairs == {
        "untouched": ("string", "string"),
        "values": ("string", "json"),
        "keys": ("int64", "string"),
        "given": ("string", "json"),
    }


def test_a_global_table_has_its_topic_as_changelog() -> None:
    builder = StreamsBuilder()
    builder.global_table("rates", **TEXT, store="rates")
    topology = builder.build()
    spec = topology.stores["rates"]
    assert (spec.source_topic, spec.logging) == ("rates", False)
    assert topology.subtopologies[0].is_global
    assert topology.changelog_topic("rates", "app") == "rates"
