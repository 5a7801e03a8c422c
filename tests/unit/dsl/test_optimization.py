"""Kafka Streams' own answers are in the conformance scenarios; here is what Java refuses to build, or gets wrong."""

import warnings
from typing import Any

import pytest

from streamlib import (
    JoinWindows,
    KStream,
    Processor,
    ProcessorContext,
    Record,
    StreamsBuilder,
    Topology,
    TopologyError,
    UnstableNameWarning,
    serdes,
)
from streamlib.config import StreamsConfig
from streamlib.errors import ConfigError
from streamlib.testing import TopologyTestDriver

TEXT: dict[str, Any] = {"key_serde": serdes.STRING, "value_serde": serdes.STRING}


def built(builder: StreamsBuilder, optimization: Any = "all") -> Topology:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnstableNameWarning)
        return builder.build(optimization=optimization)


def rekeyed(builder: StreamsBuilder, topic: str = "in") -> KStream[str, str]:
    return builder.stream(topic, **TEXT).select_key(lambda _, value: value[:1])


def counts_of(topology: Topology, *inputs: tuple[str, str]) -> dict[str, Any]:
    """The rows of the store ``n`` after these records."""
    with TopologyTestDriver(topology) as driver:
        for topic, value in inputs:
            driver.create_input_topic(topic, serdes.STRING, serdes.STRING).pipe_input("k", value, timestamp_ms=1)
        return dict(driver.get_key_value_store("n").all())


class Rekeying(Processor[str, str, str, str]):
    def init(self, context: ProcessorContext[str, str]) -> None:
        self.context = context

    def process(self, record: Record[str, str]) -> None:
        self.context.forward(record.with_key("other"))


def test_two_aggregations_below_one_filter_share_a_topic() -> None:
    builder = StreamsBuilder("app")
    kept = rekeyed(builder).filter(lambda _, value: value != "")
    kept.group_by_key().count(store="n")
    kept.group_by_key().reduce(lambda _, value: value, store="m")
    topology = built(builder)
    assert list(topology.repartition_topics) == ["n-repartition"]
    assert counts_of(topology, ("in", "ab"), ("in", "ac"), ("in", "")) == {"a": 2}


def test_two_branches_share_a_topic() -> None:
    builder = StreamsBuilder("app")
    branches = (
        rekeyed(builder).split(name="by-").branch(lambda _, value: "b" in value, name="b").default_branch(name="x")
    )
    branches["by-b"].group_by_key().count(store="n")
    branches["by-x"].group_by_key().count(store="m")
    topology = built(builder)
    assert list(topology.repartition_topics) == ["n-repartition"]
    assert counts_of(topology, ("in", "ab"), ("in", "ac")) == {"a": 1}


def test_the_lowest_of_several_merges_is_the_place_of_the_topic() -> None:
    builder = StreamsBuilder("app")
    merged = rekeyed(builder, "a").merge(rekeyed(builder, "b")).merge(rekeyed(builder, "c"))
    merged.group_by_key().count(store="n")
    merged.group_by_key().reduce(lambda _, value: value, store="m")
    topology = built(builder)
    assert [part.source_topics for part in topology.subtopologies] == [("a", "b", "c"), ("n-repartition",)]
    assert counts_of(topology, ("a", "x"), ("b", "x"), ("c", "x")) == {"x": 3}


def test_no_record_with_a_new_key_passes_a_shared_topic_by() -> None:
    builder = StreamsBuilder("app")
    one, two = rekeyed(builder, "a"), rekeyed(builder, "b")
    one.group_by_key().reduce(lambda _, value: value, store="m")
    one.merge(two).group_by_key().count(store="n")
    topology = built(builder)
    assert list(topology.repartition_topics) == ["m-repartition", "n-repartition"]
    assert topology.subtopologies[0].source_topics == ("a", "b")
    assert counts_of(topology, ("a", "x"), ("b", "x")) == {"x": 2}


def test_repartitioning_stays_below_a_processor_since_that_makes_new_keys() -> None:
    builder = StreamsBuilder("app")
    stream = rekeyed(builder)
    stream.group_by_key().reduce(lambda _, value: value, store="m")
    stream.process(Rekeying).group_by_key().count(store="n")
    topology = built(builder)
    assert list(topology.repartition_topics) == ["m-repartition", "n-repartition"]
    assert counts_of(topology, ("in", "x"), ("in", "y")) == {"other": 2}


@pytest.mark.parametrize(
    ("optimization", "topics", "source_topic", "joins"),
    [
        ("none", 2, None, 2),
        ("all", 1, "table", 1),
        ("merge.repartition.topics", 1, None, 2),
        (["single.store.self.join"], 2, None, 1),
        ("reuse.ktable.source.topics, single.store.self.join", 2, "table", 1),
    ],
)
def test_only_the_rules_that_were_chosen_apply(optimization: Any, topics: int, source_topic: Any, joins: int) -> None:
    builder = StreamsBuilder("app")
    stream = rekeyed(builder)
    stream.group_by_key().count(store="n")
    stream.group_by_key().count(store="m")
    builder.table("table", **TEXT, store="rows")
    other = builder.stream("other", **TEXT)
    other.join(other, lambda left, right: left + right, JoinWindows(1, 1, 0), store="joined").to("out")
    topology = built(builder, optimization)
    assert len(topology.repartition_topics) == topics
    assert topology.stores["rows"].source_topic == source_topic
    assert sum(name.startswith("joined") for name in topology.stores) == joins


def test_the_builder_can_build_the_same_again_without_optimization() -> None:
    builder = StreamsBuilder("app")
    stream = rekeyed(builder)
    stream.group_by_key().count()
    stream.join(stream, lambda left, right: left + right, JoinWindows(1, 1, 0)).to("out")
    before = built(builder, "none").describe()
    assert built(builder).describe() != before
    assert built(builder, "none").describe() == before


@pytest.mark.parametrize("optimization", ["everything", "all,none", ["merge.repartition.topics", "all"]])
def test_an_unknown_rule_is_a_mistake_that_names_the_known_ones(optimization: Any) -> None:
    builder = StreamsBuilder("app")
    builder.stream("in", **TEXT).to("out")
    with pytest.raises(TopologyError, match=r"reuse\.ktable\.source\.topics"):
        builder.build(optimization=optimization)


def test_the_setting_of_a_worker_says_where_it_belongs() -> None:
    with pytest.raises(ConfigError, match=r'build\(optimization="all"\)'):
        StreamsConfig.from_mapping({"application_id": "app", "topology.optimization": "all"})


def test_a_self_join_goes_on_after_a_record_its_joiner_fails_on() -> None:
    builder = StreamsBuilder("app")
    numbers = builder.stream("in", serdes.STRING, serdes.JSON)
    numbers.join(numbers, lambda left, right: left + right, JoinWindows(5, 5, 0), store="joined").to("out")
    with TopologyTestDriver(built(builder), {"processing_exception_handler": "skip"}) as driver:
        topic = driver.create_input_topic("in", serdes.STRING, serdes.JSON)
        for time, value in enumerate([1, "x", 20]):
            topic.pipe_input("k", value, timestamp_ms=time)
        assert driver.create_output_topic("out", serdes.STRING, serdes.JSON).read_values_to_list() == [2, 21]


def test_a_self_join_counts_records_without_key_or_value() -> None:
    builder = StreamsBuilder("app")
    numbers = builder.stream("in", serdes.STRING, serdes.JSON)
    numbers.join(numbers, lambda left, right: left + right, JoinWindows(5, 5, 0), store="joined").to("out")
    with TopologyTestDriver(built(builder)) as driver:
        topic = driver.create_input_topic("in", serdes.STRING, serdes.JSON)
        topic.pipe_input(None, 1, timestamp_ms=0)
        topic.pipe_input("k", None, timestamp_ms=0)
        assert driver.metrics.total("dropped_records_total") == 2
