"""What a stack is about: the task, the node, and the function of the user that was called."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from streamlib import Serde, StreamsBuilder, serdes
from streamlib.runtime.culprit import culprit
from streamlib.testing.topology_test_driver import TopologyTestDriver

HERE = Path(__file__).name


class Seen:
    """Takes note of the stacks in which it is called; gives its last argument."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def here(self, *arguments: Any) -> Any:
        self.told.append(culprit(sys._getframe()))
        return arguments[-1]


def run(build: Callable[[StreamsBuilder], object], rows: int = 1) -> None:
    builder = StreamsBuilder("culprit")
    build(builder)
    with TopologyTestDriver(builder.build()) as driver:
        topic = driver.create_input_topic("in", serdes.STRING, serdes.STRING)
        for _ in range(rows):
            topic.pipe_input("k", "v")


def test_the_node_of_the_line_is_named_when_a_fused_function_runs() -> None:
    seen = Seen()

    def build(builder: StreamsBuilder) -> None:
        stream = builder.stream("in", serdes.STRING, serdes.STRING).map_values(str.upper, name="first")
        stream.map_values(seen.here, name="second").filter(lambda k, v: True, name="third").to("out")

    run(build)
    assert seen.told[0].startswith('task=0_0 node="second" in here (')
    assert f"{HERE}:" in seen.told[0]


def test_the_node_is_named_when_an_operator_calls_the_function() -> None:
    seen = Seen()

    def build(builder: StreamsBuilder) -> None:
        grouped = builder.stream("in", serdes.STRING, serdes.STRING).group_by_key()
        grouped.reduce(seen.here, store="sums", name="sum")

    run(build, rows=2)
    assert seen.told[0].startswith('task=0_0 node="sum" in here (')


def test_the_called_function_is_named_when_it_calls_others() -> None:
    seen = Seen()

    def parse(value: str) -> Any:
        return json.loads('{"a": 1}', object_hook=seen.here)

    def build(builder: StreamsBuilder) -> None:
        builder.stream("in", serdes.STRING, serdes.STRING).map_values(parse, name="parse").for_each(lambda k, v: None)

    run(build)
    assert 'node="parse" in parse (' in seen.told[0]


def test_the_task_is_named_when_a_serde_runs() -> None:
    seen = Seen()
    serde = Serde("slow", str.encode, lambda data: seen.here(data.decode()))
    run(lambda builder: builder.stream("in", serdes.STRING, serde).to("out"))
    assert seen.told[0].startswith("task=0_0 in <lambda> (")


def test_the_users_frame_is_named_when_no_topology_is_on_the_stack() -> None:
    frames: list[FrameType] = []
    json.loads('{"a": 1}', object_hook=lambda _: frames.append(sys._getframe(1)))
    assert "node=" not in culprit(frames[0])
    assert "in test_the_users_frame_is_named_when_no_topology_is_on_the_stack (" in culprit(frames[0])
