"""Records written as lines."""

from pathlib import Path
from typing import Any

import pytest

from streamlib import StreamsBuilder, serdes
from streamlib.testing import TopologyTestDriver

S = serdes.STRING


def run(path: Path | None = None, **options: Any) -> None:
    builder = StreamsBuilder("app")
    builder.stream("in", S, S).print(path, **options)
    topology = builder.build()
    assert "Processor: " + options.get("name", "KSTREAM-PRINTER-0000000001") in topology.describe()
    with TopologyTestDriver(topology) as driver:
        topic = driver.create_input_topic("in", S, S)
        topic.pipe_input("k", "v")
        topic.pipe_input(None, None)


def test_lines_begin_with_the_node_before(capsys: pytest.CaptureFixture[str]) -> None:
    run()
    assert capsys.readouterr().out == "[KSTREAM-SOURCE-0000000000]: k, v\n[KSTREAM-SOURCE-0000000000]: None, None\n"


def test_label_and_mapper_are_the_users(capsys: pytest.CaptureFixture[str]) -> None:
    run(label="seen", mapper=lambda key, value: f"{value} of {key}", name="show")
    assert capsys.readouterr().out == "[seen]: v of k\n[seen]: None of None\n"


def test_lines_are_added_to_a_file(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    run(path, label="a")
    run(path, label="b")
    assert path.read_text().splitlines() == ["[a]: k, v", "[a]: None, None", "[b]: k, v", "[b]: None, None"]
