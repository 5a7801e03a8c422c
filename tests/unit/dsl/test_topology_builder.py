from typing import Any

import pytest

from streamlib import Processor, Record, Stores, StreamsConfig, TopologyBuilder, TopologyError, serdes
from streamlib.testing.topology_test_driver import TopologyTestDriver

S, I = serdes.STRING, serdes.INT64  # noqa: E741
TOTALS = Stores.key_value_store("totals", S, I, in_memory=True)

DESCRIBED = """Topologies:
   Sub-topology: 0
    Source: numbers (topics: [in])
      --> total
    Processor: total (stores: [totals])
      --> odd, even
      <-- numbers
    Sink: even (topic: even)
      <-- total
    Sink: odd (topic: odd)
      <-- total

"""


class Total(Processor[str, int, str, int]):
    def init(self, context: Any) -> None:
        super().init(context)
        self.totals = context.get_state_store("totals")

    def process(self, record: Record[str, int]) -> None:
        total = (self.totals.get(record.key) or 0) + record.value
        self.totals.put(record.key, total)
        self.context.forward(record.with_value(total), to="odd" if total % 2 else "even")


class Keep(Processor[str, int, str, int]):
    def init(self, context: Any) -> None:
        super().init(context)
        self.store = context.get_state_store("totals")

    def process(self, record: Record[str, int]) -> None:
        self.store.put(record.key, record.value)


class Show(Processor[str, int, str, int]):
    def process(self, record: Record[str, int]) -> None:
        totals = self.context.get_state_store("totals")
        self.context.forward(record.with_value(totals.get(record.key) or -1))


def builder() -> TopologyBuilder:
    return TopologyBuilder("app", default_key_serde=S, default_value_serde=I)


def out(driver: TopologyTestDriver, topic: str) -> list[Any]:
    return driver.create_output_topic(topic, S, I).read_key_values_to_list()


def test_nodes_are_connected_as_they_were_told() -> None:
    topology = (
        builder()
        .add_source("numbers", "in")
        .add_processor("total", Total, "numbers")
        .add_state_store(TOTALS, "total")
        .add_sink("odd", "odd", "total")
        .add_sink("even", "even", "total")
        .build()
    )
    assert sorted(topology.describe()) == sorted(DESCRIBED)
    with TopologyTestDriver(topology) as driver:
        driver.create_input_topic("in", S, I).pipe_key_values([("a", 1), ("a", 1), ("b", 4), ("a", 5)])
        assert (out(driver, "odd"), out(driver, "even")) == ([("a", 1), ("a", 7)], [("a", 2), ("b", 4)])


def test_stores_join_sub_topologies_that_share_them() -> None:
    two = builder().add_source("s1", "t1").add_source("s2", "t2")
    two.add_processor("p1", Total, "s1").add_processor("p2", Total, "s2")
    two.add_sink("odd", "odd", "p1", "p2").add_sink("even", "even", "p1", "p2")
    two.add_state_store(TOTALS, "p1")
    two.connect_processor_and_state_stores("p2", "totals")
    topology = two.build()
    assert [part.stores for part in topology.subtopologies] == [("totals",)]
    with TopologyTestDriver(topology) as driver:
        for topic in ("t1", "t2"):
            driver.create_input_topic(topic, S, I).pipe_input("a", 1)
        assert driver.get_key_value_store("totals").get("a") == 2


def test_every_record_names_its_own_topic_when_a_sink_is_given_a_function() -> None:
    routed = builder().add_source("s", "in").add_sink("by-key", lambda key, _: f"to-{key}", "s")
    with TopologyTestDriver(routed.build()) as driver:
        driver.create_input_topic("in", S, I).pipe_key_values([("a", 1), ("b", 2)])
        assert (out(driver, "to-a"), out(driver, "to-b")) == ([("a", 1)], [("b", 2)])


@pytest.mark.parametrize("kind", ["global", "read only"])
def test_a_store_is_filled_from_its_topic_and_restored_from_it(kind: str) -> None:
    topology = builder()
    if kind == "global":
        topology.add_global_store(TOTALS, "fill-source", "totals-topic", "fill", Keep)
        topology.add_source("s", "in").add_processor("show", Show, "s")
    else:
        topology.add_read_only_state_store(TOTALS, "fill-source", "totals-topic", "fill", Keep)
        topology.add_source("s", "in").add_processor("show", Show, "s")
        topology.connect_processor_and_state_stores("show", "totals")
    built = topology.add_sink("out", "out", "show").build()
    assert built.changelog_topic("totals", "app") == "totals-topic"
    with TopologyTestDriver(built, StreamsConfig("app")) as driver:
        driver.create_input_topic("totals-topic", S, I).pipe_input("a", 5)
        driver.create_input_topic("in", S, I).pipe_input("a", 0)
        driver.crash()
        driver.restart()
        driver.create_input_topic("in", S, I).pipe_input("a", 0)
        assert out(driver, "out") == [("a", 5), ("a", 5)]


def test_mistakes_are_told_together_when_the_topology_is_built() -> None:
    wrong = builder().add_source("empty").add_source("s", "in")
    wrong.add_processor("p", Total).add_processor("q", Total, "nobody").add_sink("s", "out", "q")
    wrong.add_state_store(TOTALS, "nowhere")
    with pytest.raises(TopologyError) as raised:
        wrong.build()
    assert raised.value.problems == (
        'the source "empty" needs at least one topic',
        '"p" needs a parent: name the nodes that feed it',
        '"q" is to be fed by "nobody", which is no node added before',
        '"totals" cannot be connected with "nowhere", which is no processor added before',
        '2 operations are named "s": names must be unique, give each its own (name=...)',
        'nothing uses the store "totals": name it in the operation that needs it, or do not add it',
    )
