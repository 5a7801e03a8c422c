"""What users may write for where to begin."""

from datetime import timedelta
from typing import Any

import pytest

from streamlib import ConfigError, StreamsBuilder, StreamsConfig, TopologyBuilder, TopologyError
from streamlib.offset_reset import offset_reset
from streamlib.topology.nodes import Source


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("earliest", "earliest"),
        ("none", "none"),
        ("by_duration:PT1H", timedelta(hours=1)),
        ("by_duration:P2DT3H4M5.5S", timedelta(days=2, hours=3, minutes=4, seconds=5.5)),
        ("by_duration:pt0s", timedelta()),
        (timedelta(seconds=1), timedelta(seconds=1)),
    ],
)
def test_text_becomes_what_it_means(given: Any, expected: Any) -> None:
    assert offset_reset(given) == expected
    assert StreamsConfig("app", auto_offset_reset=given).auto_offset_reset == given


@pytest.mark.parametrize("wrong", ["latst", "by_duration:", "by_duration:P", "by_duration:PT", "PT1H", "", 5, None])
def test_anything_else_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="is one of earliest, latest, none, by_duration:PT1H, not"):
        offset_reset(wrong)
    with pytest.raises(ConfigError, match="auto_offset_reset is one of"):
        StreamsConfig("app", auto_offset_reset=wrong)


@pytest.mark.parametrize("wrong", ["by_duration:-PT1H", timedelta(seconds=-1)])
def test_a_negative_duration_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"cannot be negative|is one of"):
        offset_reset(wrong)


def test_a_source_has_the_duration_that_was_given_as_text() -> None:
    builder, nodes = StreamsBuilder(), TopologyBuilder()
    builder.stream("in", offset_reset="by_duration:PT1M", name="s").for_each(print)
    nodes.add_source("s", "in", offset_reset="by_duration:PT1M")
    for topology in (builder.build(), nodes.build()):
        source = topology.nodes["s"]
        assert isinstance(source, Source)
        assert source.offset_reset == timedelta(minutes=1)


def test_a_wrong_one_is_a_mistake_of_the_topology() -> None:
    builder, nodes = StreamsBuilder(), TopologyBuilder()
    builder.stream("in", offset_reset="newest").for_each(print)
    nodes.add_source("s", "in", offset_reset="newest")
    for build, where in ((builder.build, "in"), (nodes.build, "s")):
        with pytest.raises(TopologyError, match=f'the offset_reset of "{where}" is one of earliest'):
            build()
