"""What becomes of branches that have functions."""

from typing import Any

import pytest

from streamlib import Branched, KStream, StreamsBuilder, TopologyError, serdes

S = serdes.STRING


def stream(builder: StreamsBuilder) -> KStream[str, str]:
    return builder.stream("in", S, S)


def yes(key: Any, value: Any) -> bool:
    return True


def test_the_function_is_given_the_branch_and_its_stream_takes_the_place() -> None:
    builder, seen = StreamsBuilder(), []

    def upper(branch: KStream[str, str]) -> KStream[str, str]:
        seen.append(branch)
        return branch.map_values(str.upper, name="upper")

    branches = stream(builder).split(name="by-").branch(yes, Branched.with_function(upper, "a")).no_default_branch()
    branches["by-a"].to("out", name="out")
    nodes = builder.build().nodes
    assert len(seen) == 1
    assert nodes["upper"].parents == ("by-a",)
    assert nodes["out"].parents == ("upper",)


def test_a_branch_is_not_given_when_it_was_consumed_or_its_function_gives_none() -> None:
    builder, seen = StreamsBuilder(), []
    branches = (
        stream(builder)
        .split(name="by-")
        .branch(yes, Branched.with_consumer(seen.append, "a"))
        .branch(yes, Branched.with_function(seen.append))
        .branch(yes, Branched.as_("c"))
        .default_branch(Branched.with_consumer(lambda rest: rest.to("rest", name="rest")))
    )
    assert list(branches) == ["by-c"]
    assert len(seen) == 2
    assert builder.build().nodes["rest"].parents == ("by-0",)


def test_the_last_name_counts() -> None:
    builder = StreamsBuilder()
    splitter = stream(builder).split(name="by-")
    splitter.branch(yes, Branched.as_("a").with_name("b")).branch(yes, Branched.as_("c"), name="d")
    assert list(splitter.default_branch(Branched.as_("e"))) == ["by-b", "by-d", "by-e"]


def test_a_function_that_gives_no_stream_is_a_mistake() -> None:
    builder = StreamsBuilder()
    wrong: Any = lambda branch: "no stream"  # noqa: E731
    stream(builder).split(name="by-").branch(yes, Branched.with_function(wrong)).default_branch()
    with pytest.raises(TopologyError, match="the function of the branch \"by-1\" gives 'no stream', which is no"):
        builder.build()
