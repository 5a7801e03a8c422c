"""Stream-stream joins in the plan, beside the names that the conformance scenarios compare."""

from datetime import timedelta
from typing import Any

import pytest

from streamlib import JoinWindows, KStream, StreamsBuilder, TopologyError, UnstableNameWarning, serdes
from streamlib.dsl.join_streams import StreamJoinStep
from streamlib.topology.interference import needs_record_order
from streamlib.topology.internal_topics import internal_topics
from streamlib.topology.stream_join_nodes import StreamStreamJoin

SECONDS = JoinWindows.of(timedelta(seconds=10), grace=timedelta(seconds=5))


def streams(builder: StreamsBuilder) -> list[KStream[str, str]]:
    return [builder.stream(topic, serdes.STRING, serdes.STRING) for topic in ("L", "R")]


def pair(left: Any, right: Any) -> tuple[Any, Any]:
    return left, right


def problems(builder: StreamsBuilder) -> list[str]:
    with pytest.raises(TopologyError) as caught:
        builder.build()
    return list(caught.value.problems)


def test_stores_keep_duplicates_for_the_window_and_the_grace() -> None:
    builder = StreamsBuilder("app")
    left, right = streams(builder)
    configs = {"segment.bytes": "1", "cleanup.policy": "compact"}
    left.outer_join(right, pair, SECONDS, store="s", value_serde=serdes.JSON, topic_configs=configs).to("out")
    topology = builder.build()
    this, other, shared = (
        topology.stores[f"s-{name}-store"] for name in ("outer-this-join", "outer-other-join", "outer-shared-join")
    )
    for spec in (this, other):
        assert (spec.kind, spec.retain_duplicates, spec.timestamped, spec.caching) == ("window", True, False, False)
        assert (spec.retention_ms, spec.window_size_ms) == (25_000, 20_000)
        assert (spec.persistent, spec.exact_expiry) == (True, False)
    assert (shared.kind, shared.retain_duplicates, shared.is_table) == ("key_value", True, False)
    policies = {topic.name: topic.configs["cleanup.policy"] for topic in internal_topics(topology, "app")}
    assert policies == {
        "app-s-outer-this-join-store-changelog": "delete",
        "app-s-outer-other-join-store-changelog": "delete",
        "app-s-outer-shared-join-store-changelog": "compact",
    }
    assert all(topic.configs["segment.bytes"] == "1" for topic in internal_topics(topology, "app"))


def test_rows_expire_one_by_one_when_stores_are_in_memory() -> None:
    builder = StreamsBuilder("app")
    left, right = streams(builder)
    left.join(right, pair, SECONDS, store="s", in_memory=True, logging=False)
    topology = builder.build()
    assert {(spec.persistent, spec.exact_expiry, spec.logging) for spec in topology.stores.values()} == {
        (False, True, False)
    }
    assert internal_topics(topology, "app") == []


def test_both_sides_are_written_with_their_own_serdes() -> None:
    builder = StreamsBuilder("app")
    left, right = streams(builder)
    left.map_values(len, value_serde=serdes.INT64).join(right, pair, SECONDS, store="s", value_serde=serdes.JSON)
    left.join(
        right, pair, SECONDS, store="t", key_serde=serdes.JSON, this_value_serde=serdes.JSON, value_serde=serdes.JSON
    )
    stores = builder.build().stores
    assert stores["s-this-join-store"].value_serde is serdes.INT64
    assert stores["s-other-join-store"].value_serde is serdes.STRING
    assert stores["t-this-join-store"].value_serde is serdes.JSON
    assert stores["t-this-join-store"].key_serde is stores["t-other-join-store"].key_serde is serdes.JSON


def test_topics_are_copartitioned_and_rekeyed_sides_repartitioned_when_streams_are_joined() -> None:
    builder = StreamsBuilder("app")
    left, right = streams(builder)
    rekeyed = left.select_key(lambda k, v: v)
    rekeyed.join(right, pair, SECONDS, name="j", store="s").to("out")
    topology = builder.build()
    assert list(topology.repartition_topics) == ["j-left-repartition"]
    assert topology.copartition_groups == (frozenset({"j-left-repartition", "R"}),)


@pytest.mark.filterwarnings("ignore::streamlib.UnstableNameWarning")
def test_a_stream_is_repartitioned_once_when_unnamed_joins_share_it() -> None:
    builder = StreamsBuilder("app")
    left, right = streams(builder)
    rekeyed = left.select_key(lambda k, v: v)
    rekeyed.join(right, pair, SECONDS)
    rekeyed.join(rekeyed, pair, SECONDS)
    assert len(builder.build().repartition_topics) == 1


def test_only_a_join_with_itself_wants_single_records() -> None:
    builder = StreamsBuilder("app")
    left, right = streams(builder)
    left.left_join(right, pair, SECONDS, store="s", name="j").to("out")
    topology = builder.build()
    assert [needs_record_order(topology, name) for name in ("KSTREAM-SOURCE-0000000000",)] == [False]
    builder = StreamsBuilder("app")
    left, _ = streams(builder)
    left.join(left, pair, SECONDS, store="s", name="j").to("out")
    assert needs_record_order(builder.build(), "KSTREAM-SOURCE-0000000000")


def test_the_step_of_a_join_knows_both_sides() -> None:
    builder = StreamsBuilder("app")
    left, right = streams(builder)
    step = left.join(right, pair, SECONDS, store="s", name="j")._flow.step
    assert isinstance(step, StreamJoinStep)
    assert [windowed.output for windowed in step.windowed] == ["j-this-windowed", "j-other-windowed"]
    assert [node.name for node in step.nodes if isinstance(node, StreamStreamJoin)] == ["j-this-join", "j-other-join"]


def test_every_mistake_is_reported_when_joins_have_many() -> None:
    builder, other = StreamsBuilder(), StreamsBuilder()
    left, right = streams(builder)
    table = builder.table("t", serdes.STRING, serdes.STRING, store="t")
    left.join(right, pair)  # type: ignore[call-overload]
    left.join(right, pair, timedelta(seconds=1))  # type: ignore[call-overload]
    left.outer_join(table, pair, SECONDS)  # type: ignore[call-overload]
    left.join(table, pair, SECONDS)  # type: ignore[call-overload]
    left.join(streams(other)[0], pair, SECONDS, name="foreign")
    left.join(right, "x", SECONDS, name="j", store="s")  # type: ignore[call-overload]
    left.join(right, pair, SECONDS, name="a b", store="c d")
    illegal = "cannot be used: only ASCII letters, digits, '.', '_' and '-' are allowed"
    assert [problem.partition(", got")[0] for problem in problems(builder)] == [
        "a join of two streams needs JoinWindows.of(...) as its windows",
        "a join of two streams needs JoinWindows.of(...) as its windows",
        "outer_join is for two streams",
        "a join with a table has no windows: leave them out",
        '"foreign" combines streams or tables of two builders: make both with one StreamsBuilder',
        f"the name 'a b' {illegal}",
        f"the store name 'c d-this-join-store' {illegal}",
        f"the store name 'c d-other-join-store' {illegal}",
        '"j-this-join" needs a function as its joiner',
        '"j-other-join" needs a function as its joiner',
    ]


def test_an_unknown_option_is_refused_at_once() -> None:
    left, right = streams(StreamsBuilder())
    with pytest.raises(TypeError, match="stor"):
        left.join(right, pair, SECONDS, stor="x")  # type: ignore[call-overload]


def test_a_warning_names_the_stores_when_a_join_has_no_names() -> None:
    builder = StreamsBuilder("app")
    left, right = streams(builder)
    left.left_join(right, pair, SECONDS).to("out")
    with pytest.warns(UnstableNameWarning, match="KSTREAM-OUTERSHARED-0000000004-store"):
        builder.build()


@pytest.mark.parametrize(
    ("difference", "options", "expected"),
    [
        (5, {}, (5, 5, 0)),
        (5, {"before": 0}, (0, 5, 0)),
        (5, {"after": 20, "grace": 3}, (5, 20, 3)),
        (0, {"before": -5, "after": 5}, (-5, 5, 0)),
        (0, {}, (0, 0, 0)),
    ],
)
def test_windows_are_in_milliseconds(difference: int, options: dict[str, int], expected: tuple[int, int, int]) -> None:
    given = {name: timedelta(milliseconds=count) for name, count in options.items()}
    windows = JoinWindows.of(timedelta(milliseconds=difference), **given)
    assert (windows.before_ms, windows.after_ms, windows.grace_ms) == expected
    assert (windows.size_ms, windows.retention_ms) == (expected[0] + expected[1], sum(expected))


@pytest.mark.parametrize(
    ("difference", "options", "message"),
    [
        (-1, {"before": 1, "after": 1}, "cannot be negative"),
        (5, {"before": -6}, "ends before it begins"),
        (5, {"grace": -1}, "grace cannot be negative"),
    ],
)
def test_windows_are_refused_when_nothing_can_be_in_them(
    difference: int, options: dict[str, int], message: str
) -> None:
    given = {name: timedelta(milliseconds=count) for name, count in options.items()}
    with pytest.raises(ValueError, match=message):
        JoinWindows.of(timedelta(milliseconds=difference), **given)
