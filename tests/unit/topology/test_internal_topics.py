"""Overrides and limits; the defaults are compared with Kafka Streams in the conformance scenarios."""

from datetime import timedelta
from typing import Any

from streamlib import StreamsBuilder, TimeWindows, serdes
from streamlib.topology.internal_topics import MAX_INT64, internal_topics

TEXT: dict[str, Any] = {"key_serde": serdes.STRING, "value_serde": serdes.STRING}


def test_settings_of_a_store_win_when_several_places_name_one() -> None:
    builder = StreamsBuilder()
    grouped = builder.stream("in", **TEXT).group_by(lambda k, v: v, name="by-value")
    grouped.count(store="a", topic_configs={"cleanup.policy": "delete"})
    windows = grouped.windowed_by(TimeWindows.of(timedelta(seconds=5)))
    windows.count(store="w")
    windows.reduce(lambda a, b: a, store="x", topic_configs={"retention.ms": "1"})
    topics = internal_topics(
        builder.build(), "app", {"cleanup.policy": "compact", "retention.ms": "7"}, additional_retention_ms=1000
    )
    found = {topic.name: (topic.configs["cleanup.policy"], topic.configs["retention.ms"]) for topic in topics}
    assert found == {
        "app-a-changelog": ("delete", "7"),
        "app-by-value-repartition": ("compact", "7"),
        "app-w-changelog": ("compact", "6000"),
        "app-x-changelog": ("compact", "1"),
    }


def test_the_retention_stops_at_int64_when_it_would_overflow() -> None:
    builder = StreamsBuilder()
    windows = builder.stream("in", **TEXT).group_by_key().windowed_by(TimeWindows.of(timedelta(seconds=5)))
    windows.count(store="w")
    (topic,) = internal_topics(builder.build(), "app", additional_retention_ms=MAX_INT64)
    assert topic.configs["retention.ms"] == str(MAX_INT64)


def test_no_changelog_is_made_when_a_store_is_not_logged() -> None:
    builder = StreamsBuilder()
    builder.stream("in", **TEXT).group_by_key().count(store="a", logging=False)
    builder.global_table("g", **TEXT, store="g")
    assert internal_topics(builder.build(), "app") == []
