"""Versioned tables in the DSL: which tables have versions, what is refused, and joins with grace."""

from datetime import timedelta
from typing import Any

import pytest

from streamlib import BufferConfig, KTable, StreamsBuilder, Suppressed, TimeWindows, TopologyError, serdes
from streamlib.topology.internal_topics import MAX_INT64, internal_topics
from streamlib.topology.nodes import StreamTableJoin, TableFilter, TableMapValues

pytestmark = pytest.mark.filterwarnings("ignore::streamlib.UnstableNameWarning")
HOUR = timedelta(hours=1)
HOUR_MS = 3_600_000


def table(builder: StreamsBuilder, topic: str = "t", **options: Any) -> KTable[str, str]:
    return builder.table(topic, serdes.STRING, serdes.STRING, **options)


def stream(builder: StreamsBuilder) -> Any:
    return builder.stream("s", serdes.STRING, serdes.STRING)


def problems(builder: StreamsBuilder) -> list[str]:
    with pytest.raises(TopologyError) as raised:
        builder.build()
    return list(raised.value.problems)


def pair(left: str, right: str) -> str:
    return left + right


def test_a_versioned_store_keeps_its_history_and_has_no_cache() -> None:
    builder = StreamsBuilder("app")
    table(builder, store="v", versioned=HOUR, caching=True)
    stream(builder).to_table(store="w", versioned=timedelta(seconds=1), in_memory=True)
    topology = builder.build()
    specs = [(spec.kind, spec.retention_ms, spec.caching, spec.persistent) for spec in topology.stores.values()]
    assert specs == [("versioned", HOUR_MS, False, True), ("versioned", 1_000, False, False)]
    configs = {topic.name: topic.configs for topic in internal_topics(topology, "app")}
    assert configs["app-v-changelog"] == {
        "cleanup.policy": "compact",
        "message.timestamp.type": "CreateTime",
        "min.compaction.lag.ms": str(HOUR_MS + 86_400_000),
    }


def test_the_compaction_lag_stops_at_int64_when_it_would_overflow() -> None:
    builder = StreamsBuilder()
    table(builder, store="v", versioned=timedelta.max)
    table(builder, "u", store="u", versioned=HOUR, topic_configs={"min.compaction.lag.ms": "1"})
    u, v = internal_topics(builder.build(), "app")
    assert u.configs["min.compaction.lag.ms"] == "1"
    assert int(v.configs["min.compaction.lag.ms"]) <= MAX_INT64


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda b: table(b, versioned=HOUR), "needs a name: give it one with store="),
        (lambda b: table(b, store=True, versioned=HOUR), "needs a name: give it one with store="),
        (lambda b: table(b, store="v", versioned=timedelta(seconds=-1)), '"v" cannot keep versions for -1000 ms'),
        (
            lambda b: stream(b).group_by_key().windowed_by(TimeWindows.of(HOUR)).count(store="v", versioned=HOUR),
            '"v" has windows and cannot be versioned',
        ),
        (
            lambda b: stream(b).join(
                b.global_table("g", serdes.STRING, serdes.STRING, store="v", versioned=HOUR),
                pair,
                key_selector=lambda key, value: key,
            ),
            'the global table of "g" cannot be versioned',
        ),
        (
            lambda b: stream(b).join(
                b.global_table("g", serdes.STRING, serdes.STRING), pair, key_selector=lambda key, value: key, grace=HOUR
            ),
            "joins a global table, which has no versions to wait for",
        ),
        (lambda b: stream(b).join(table(b), pair, grace=HOUR), "so its table must be versioned"),
        (lambda b: stream(b).join(table(b, store="v"), pair, grace=HOUR, name="j"), '"j" has a grace'),
        (
            lambda b: stream(b).left_join(table(b, store="v", versioned=HOUR / 2), pair, grace=HOUR, name="j"),
            '"j" waits for 3600000 ms, but its table keeps versions for 1800000 ms only',
        ),
        (
            lambda b: stream(b).join(table(b, store="v", versioned=HOUR), pair, grace=-HOUR, name="j"),
            '"j" cannot wait for -3600000 ms',
        ),
        (
            lambda b: (
                table(b, store="v", versioned=HOUR)
                .filter(lambda key, value: True)
                .suppress(Suppressed.until_time_limit(HOUR, BufferConfig.unbounded()))
            ),
            "suppresses a versioned table",
        ),
    ],
)
def test_the_builder_says_what_is_wrong(make: Any, problem: str) -> None:
    builder = StreamsBuilder()
    make(builder)
    assert any(problem in found for found in problems(builder)), problems(builder)


def test_a_duration_must_be_a_timedelta() -> None:
    with pytest.raises(TypeError, match="timedelta"):
        table(StreamsBuilder(), store="v", versioned=5)


def test_versions_are_inherited_until_a_store_ends_them() -> None:
    builder = StreamsBuilder()
    source = table(builder, store="v", versioned=HOUR)
    mapped = source.map_values(str.upper)
    filtered = mapped.filter(lambda key, value: True, name="f1")
    kept = {
        "source": source,
        "mapped": mapped,
        "filtered": filtered,
        "again": filtered.filter(lambda key, value: True, store="w", versioned=HOUR, name="f2"),
    }
    ended = {
        "stored": mapped.filter(lambda key, value: True, store="plain", name="f3"),
        "asked for": mapped.filter(lambda key, value: True, store=True, name="f4"),
        "joined": source.join(mapped, pair),
        "counted": source.group_by(lambda key, value: (value, key)).count(store="c"),
    }
    ended["below"] = ended["asked for"].filter(lambda key, value: True, name="f5")
    assert {name for name, each in (kept | ended).items() if each._table.is_versioned} == kept.keys()
    nodes = builder.build().nodes
    filters = {name: node for name, node in nodes.items() if isinstance(node, TableFilter)}
    assert {name for name, node in filters.items() if node.of_versions} == {"f1", "f2", "f3", "f4"}
    steps = [node for node in nodes.values() if isinstance(node, (TableFilter, TableMapValues))]
    assert [node.name for node in steps if node.all_latest] == ["f4"]


def test_a_join_with_grace_has_a_buffer_named_after_it() -> None:
    builder = StreamsBuilder("app", in_memory=True)
    versioned = table(builder, store="v", versioned=HOUR)
    stream(builder).left_join(versioned.map_values(str.upper), pair, grace=HOUR, name="j").to("out")
    topology = builder.build()
    node = topology.nodes["j"]
    assert isinstance(node, StreamTableJoin)
    assert (node.stores, node.buffer, node.grace_ms) == (("j-Buffer", "v"), "j-Buffer", HOUR_MS)
    spec = topology.stores["j-Buffer"]
    assert (spec.kind, spec.persistent, spec.caching, spec.logging) == ("join_buffer", True, False, True)
    assert (spec.key_serde.name, spec.value_serde.name) == (serdes.STRING.name, serdes.STRING.name)
    (topic,) = [topic for topic in internal_topics(topology, "app") if topic.name == "app-j-Buffer-changelog"]
    assert topic.configs == {"cleanup.policy": "compact", "message.timestamp.type": "CreateTime"}


def test_history_can_be_read_below_a_table_that_asks_for_no_versions() -> None:
    builder = StreamsBuilder()
    hidden = table(builder, store="v", versioned=HOUR).filter(lambda key, value: True, store=True)
    stream(builder).join(hidden.map_values(str.upper), pair, grace=HOUR, name="j").to("out")
    assert "j-Buffer" in builder.build().stores
    stream(builder).join(hidden, pair, grace=HOUR, name="direct").to("out2")
    assert problems(builder) == [
        '"direct" has a grace, so its table must be versioned: give the table store= and versioned=, or leave out the '
        "grace"
    ]
