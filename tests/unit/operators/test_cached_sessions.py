"""Processors see the sessions of a cached table as they are now, and may write them."""

from datetime import timedelta
from typing import Any

import pytest

from streamlib import (
    FixedKeyProcessor,
    FixedKeyRecord,
    Processor,
    Record,
    SessionWindows,
    StreamsBuilder,
    Windowed,
    serdes,
)
from streamlib.testing import TopologyTestDriver
from streamlib.testing.topics import Row

S, I = serdes.STRING, serdes.INT64  # noqa: E741
CACHING = [{"statestore_cache_max_bytes": 0}, {"statestore_cache_max_bytes": 1_000_000}]


class Look(FixedKeyProcessor[str, str, str]):
    """Shows what the store has."""

    def init(self, context: Any) -> None:
        super().init(context)
        self.store = context.get_state_store("sessions")

    def process(self, record: FixedKeyRecord[str, str]) -> None:
        store, key = self.store, record.key
        own = [(each.start, each.end, count) for each, count in store.fetch(key)]
        assert own == [(each.start, each.end, count) for each, count in store.backward_fetch(key)][::-1]
        assert all(store.fetch_session(key, start, end) == count for start, end, count in own)
        late = [each.start for each, _ in store.find_sessions(key, 25, 1_000)]
        all_keys = [f"{each.key}{each.start}" for each, _ in store.fetch_keys()]
        some = [f"{each.key}{each.start}" for each, _ in store.find_sessions_of_keys("k", "k", 0, 20)]
        self.context.forward(record.with_value(f"{own} {late} {all_keys} {some}"))


class Write(Processor[str, str, Any, Any]):
    """Sets a session from 0 to 5, or removes it."""

    def process(self, record: Record[str, str]) -> None:
        store = self.context.get_state_store("sessions")
        if record.value == "remove":
            store.remove(Windowed(record.key, 0, 5))
        else:
            store.put(Windowed(record.key, 0, 5), int(record.value))


def counting() -> tuple[StreamsBuilder, Any]:
    builder = StreamsBuilder("app", default_key_serde=S, default_value_serde=S)
    windows = SessionWindows.of(timedelta(milliseconds=10), grace=timedelta(seconds=1))
    counted = builder.stream("in").group_by_key().windowed_by(windows).count(store="sessions")
    return builder, counted


@pytest.mark.parametrize("config", CACHING, ids=["uncached", "cached"])
def test_sessions_are_seen_before_they_are_flushed(config: dict[str, int]) -> None:
    builder, _ = counting()
    builder.stream("ask").process_values(Look, "sessions", name="look").to("out")
    with TopologyTestDriver(builder.build(), config, commit_rows=1_000) as driver:
        for key, time in [("k", 1), ("k", 30), ("l", 7), ("k", 5), ("k", 38)]:
            driver.pipe("in", key.encode(), b"x", time)
        driver.create_input_topic("ask", S, S).pipe_input("k", "?", 40)
        shown = driver.create_output_topic("out", S, S).read_value()
    assert shown == "[(1, 5, 2), (30, 38, 2)] [30] ['k1', 'k30', 'l7'] ['k1']"


def test_sessions_that_were_merged_are_gone_although_the_store_has_them() -> None:
    builder, _ = counting()
    builder.stream("ask").process_values(Look, "sessions", name="look").to("out")
    with TopologyTestDriver(builder.build(), CACHING[1], commit_rows=1_000) as driver:
        for time in (1, 21):
            driver.pipe("in", b"k", b"x", time)  # committed: nothing waits after it
        ask = Row(b"k", b"?", 30)
        driver.pipe_rows("in", [Row(b"k", b"x", 11)])
        driver.pipe_rows("ask", [ask])
        assert driver.create_output_topic("out", S, S).read_value() == "[(1, 21, 3)] [] ['k1'] ['k1']"


@pytest.mark.parametrize("config", CACHING, ids=["uncached", "cached"])
def test_what_a_processor_writes_is_counted_on(config: dict[str, int]) -> None:
    builder, counted = counting()
    counted.to_stream(lambda key, _: f"{key.key}@{key.start}-{key.end}", key_serde=S).to("counts", value_serde=I)
    builder.stream("write").process(Write, "sessions", name="write")
    with TopologyTestDriver(builder.build(), config) as driver:
        write, topic = driver.create_input_topic("write", S, S), driver.create_input_topic("in", S, S)
        topic.pipe_input("k", "x", 3)
        write.pipe_input("k", "7", 4)
        topic.pipe_input("k", "x", 9)
        stored = [(each.start, each.end, count) for each, count in driver.get_session_store("sessions").fetch("k")]
        write.pipe_input("k", "remove", 10)
        driver.crash()
        driver.restart()
        again = [(each.start, each.end, count) for each, count in driver.get_session_store("sessions").fetch("k")]
    assert stored == again == [(0, 9, 9)]
