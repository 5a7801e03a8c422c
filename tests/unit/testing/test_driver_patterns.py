"""The driver reads any topic that matches a pattern."""

import re

import pytest

from streamlib import FixedKeyProcessor, FixedKeyRecord, StreamsBuilder, serdes
from streamlib.testing import TopologyTestDriver

S, I = serdes.STRING, serdes.INT64  # noqa: E741


class Where(FixedKeyProcessor[str, str, str]):
    """Tells where records come from."""

    def process(self, record: FixedKeyRecord[str, str]) -> None:
        assert self.context.record_metadata is not None
        topic, partition, offset = self.context.record_metadata
        self.context.forward(record.with_value(f"{topic} {partition} {offset}"))


def driver(batch_rows: int = 1) -> TopologyTestDriver:
    builder = StreamsBuilder("app", default_key_serde=S, default_value_serde=S)
    stream = builder.stream(re.compile("in-.*"))
    stream.process_values(Where, name="where").to("out")
    stream.group_by_key().count(store="counts")
    builder.stream("start").to(lambda key, _: f"in-{key}")
    return TopologyTestDriver(builder.build(), batch_rows=batch_rows)


def test_each_topic_has_offsets_of_its_own() -> None:
    with driver() as d:
        for topic in ("in-a", "in-b", "in-a"):
            d.create_input_topic(topic, S, S).pipe_input("k", "v")
        out = d.create_output_topic("out", S, S)
        assert out.read_values_to_list() == ["in-a 0 0", "in-b 0 0", "in-a 0 1"]
        assert d.get_key_value_store("counts").get("k") == 3


def test_a_topic_that_the_topology_writes_is_read_too() -> None:
    with driver() as d:
        d.create_input_topic("start", S, S).pipe_input("x", "v")
        assert d.create_output_topic("out", S, S).read_values_to_list() == ["in-x 0 0"]


def test_topics_go_on_where_they_were_after_a_crash() -> None:
    with driver(batch_rows=10) as d:
        topic = d.create_input_topic("in-a", S, S)
        topic.pipe_values(["1", "2"])
        d.crash()
        d.restart()
        topic.pipe_value("3")
        assert d.create_output_topic("out", S, S).read_values_to_list()[-1] == "in-a 0 2"


def test_other_topics_are_refused_with_the_patterns_there_are() -> None:
    with (
        driver() as d,
        pytest.raises(LookupError, match=r'no source reads the topic "an-in"; there are: start, /in-\.\*/'),
    ):
        d.create_input_topic("an-in", S, S).pipe_input("k", "v")
