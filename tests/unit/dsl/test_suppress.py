"""Suppressed tables in a plan: their time to wait, their store, old values, and mistakes. And one from end to end."""

from datetime import timedelta
from typing import Any

import pytest

from streamlib import (
    BufferConfig,
    BufferFullError,
    KTable,
    ProcessingError,
    StreamsBuilder,
    Suppressed,
    TimeWindows,
    Topology,
    TopologyError,
    serdes,
)
from streamlib.testing.topology_test_driver import TopologyTestDriver
from streamlib.topology.internal_topics import internal_topics
from streamlib.topology.suppress_nodes import TableSuppress

pytestmark = pytest.mark.filterwarnings("ignore::streamlib.UnstableNameWarning")
TEXT: dict[str, Any] = {"key_serde": serdes.STRING, "value_serde": serdes.STRING}
FINAL = Suppressed.until_window_closes(BufferConfig.unbounded())


def limited(buffer: BufferConfig | None = None, ms: int = 5) -> Suppressed:
    return Suppressed.until_time_limit(timedelta(milliseconds=ms), buffer or BufferConfig.unbounded())


def counts(builder: StreamsBuilder, topic: str = "in", size: int = 10, grace: int = 3) -> KTable[Any, int]:
    windows = TimeWindows.of(timedelta(milliseconds=size), grace=timedelta(milliseconds=grace))
    return builder.stream(topic, **TEXT).group_by_key().windowed_by(windows).count()


def held(topology: Topology, name: str = "held") -> TableSuppress:
    node = topology.nodes[name]
    assert isinstance(node, TableSuppress)
    return node


def test_final_results_wait_for_the_grace_of_the_nearest_windowed_aggregation() -> None:
    builder = StreamsBuilder()
    counts(builder).filter(lambda k, v: v > 1).map_values(str).suppress(FINAL, name="held").to_stream().to("out")
    node = held(builder.build())
    assert (node.wait_ms, node.final, node.shut_down_when_full) == (3, True, True)


def test_final_results_wait_for_the_longest_grace_when_tables_were_joined() -> None:
    builder = StreamsBuilder()
    joined = counts(builder, "a", grace=3).join(counts(builder, "b", grace=7), lambda left, right: left + right)
    joined.suppress(FINAL, name="held").to_stream().to("out")
    assert held(builder.build()).wait_ms == 7


def test_final_results_are_refused_when_a_table_above_is_not_windowed() -> None:
    builder = StreamsBuilder()
    plain: KTable[Any, str] = builder.table("t", **TEXT)
    plain.suppress(FINAL, name="held")
    counts(builder).join(plain, lambda left, right: left).suppress(FINAL, name="too")
    with pytest.raises(TopologyError) as raised:
        builder.build()
    told = "waits until windows close, but not every table above it comes from a windowed aggregation: suppress the"
    assert [problem.partition(": suppress the")[0] for problem in raised.value.problems] == [
        f'"held" {told.partition(": suppress the")[0]}',
        f'"too" {told.partition(": suppress the")[0]}',
    ]


def test_a_versioned_table_is_refused_also_when_it_is_mapped_first() -> None:
    builder = StreamsBuilder()
    table: KTable[str, str] = builder.table("t", **TEXT, store="v", versioned=timedelta(seconds=1))
    table.map_values(str.upper).suppress(limited(), name="held")
    table.map_values(str.upper, store="plain").suppress(limited(), name="fine").to_stream().to("out")
    with pytest.raises(TopologyError, match=r'^"held" suppresses a versioned table.*: leave out the versioned store'):
        builder.build()


def test_something_else_than_a_suppression_is_refused() -> None:
    builder = StreamsBuilder()
    builder.table("t", **TEXT).suppress(BufferConfig.unbounded())  # type: ignore[arg-type]
    with pytest.raises(TopologyError, match=r"suppress needs a Suppressed, e\.g\. .*got StrictBufferConfig"):
        builder.build()


def test_the_store_is_named_after_the_operation_and_configured_by_the_buffer() -> None:
    builder = StreamsBuilder(in_memory=True)
    table: KTable[str, str] = builder.table("t", **TEXT)
    logged = BufferConfig.max_records(7).with_logging_enabled({"segment.bytes": "9"})
    table.suppress(limited(logged), name="held").to_stream().to("out")
    table.suppress(limited(logged.with_logging_disabled()), name="silent").to_stream().to("out2")
    topology = builder.build()
    spec = topology.stores["held-store"]
    assert (spec.kind, spec.persistent, spec.caching, spec.key_serde) == ("buffer", False, False, serdes.STRING)
    assert [topic.name for topic in internal_topics(topology, "app")] == [
        "app-held-store-changelog",
        "app-t-STATE-STORE-0000000000-changelog",
    ]
    (topic, _) = internal_topics(topology, "app")
    assert topic.configs == {
        "cleanup.policy": "compact",
        "message.timestamp.type": "CreateTime",
        "segment.bytes": "9",
    }
    assert (held(topology).records_max, held(topology).bytes_max) == (7, None)


def test_a_name_takes_no_numbers_and_two_are_taken_without_one() -> None:
    builder = StreamsBuilder()
    table: KTable[str, str] = builder.table("t", **TEXT)
    table.suppress(limited(), name="held").suppress(limited()).to_stream(name="last").to("out")
    topology = builder.build()
    assert list(topology.nodes)[2:] == ["held", "KTABLE-SUPPRESS-0000000003", "last", "KSTREAM-SINK-0000000006"]
    assert "KTABLE-SUPPRESS-STATE-STORE-0000000004" in topology.stores


def test_a_bad_name_is_told_once() -> None:
    builder = StreamsBuilder()
    builder.table("t", **TEXT).suppress(limited(), name="a b").to_stream().to("out")
    with pytest.raises(TopologyError) as raised:
        builder.build()
    assert [problem.partition(":")[0] for problem in raised.value.problems] == [
        "the name 'a b' cannot be used",
        "the store name 'a b-store' cannot be used",
    ]


def test_the_table_above_sends_old_values_and_gets_a_store_for_it() -> None:
    builder = StreamsBuilder()
    table: KTable[str, str] = builder.table("t", **TEXT, name="t")
    table.map_values(str.upper, name="m").suppress(limited(), name="held").to_stream().to("out")
    topology = builder.build()
    assert [getattr(topology.nodes[name], "send_old", None) for name in ("t", "m")] == [True, True]
    assert list(topology.stores) == ["t-STATE-STORE-0000000000", "held-store"]


def test_a_join_reads_the_buffer_and_the_stores_above_it() -> None:
    builder = StreamsBuilder()
    table: KTable[str, str] = builder.table("t", **TEXT, store="rows")
    suppressed = table.suppress(limited(), name="held")
    builder.stream("s", **TEXT).join(suppressed, lambda left, right: left, name="join").to("out")
    assert builder.build().nodes["join"].stores == ("held-store", "rows")


def test_one_final_result_comes_out_for_each_window() -> None:
    builder = StreamsBuilder("app")
    counts(builder).suppress(FINAL).to_stream(lambda window, _: f"{window}", key_serde=serdes.STRING).to(
        "out", value_serde=serdes.INT64
    )
    with TopologyTestDriver(builder.build()) as driver:
        records = driver.create_input_topic("in", serdes.STRING, serdes.STRING)
        results = driver.create_output_topic("out", serdes.STRING, serdes.INT64)
        for timestamp in (1, 9, 12, 8):
            records.pipe_input("a", "x", timestamp_ms=timestamp)
            assert results.read_records_to_list() == []
            driver.crash()
            driver.restart()
        records.pipe_input("b", "x", timestamp_ms=13)
        assert [(r.key, r.value, r.timestamp_ms) for r in results.read_records_to_list()] == [("[a@0/10]", 3, 9)]


@pytest.mark.parametrize("cache_bytes", [0, 1_000_000], ids=["uncached", "cached"])
def test_a_worker_stops_when_the_buffer_is_full_and_says_what_to_do(cache_bytes: int) -> None:
    builder = StreamsBuilder("app")
    table: KTable[str, str] = builder.table("t", **TEXT)
    strict = BufferConfig.max_records(1).shut_down_when_full()
    table.suppress(limited(strict), name="held").to_stream().to("out")
    with TopologyTestDriver(builder.build(), {"statestore_cache_max_bytes": cache_bytes}) as driver:
        driver.pipe("t", b"a", b"x", 1)
        with pytest.raises(BufferFullError) as raised:
            driver.pipe("t", b"b", b"x", 2)
    assert str(raised.value) == (
        "the buffer of a suppressed table is full (2 of 1 records), and it must not emit early: node=held topic=t "
        "partition=0 offset=1. Nothing after the last commit counts. Give it a larger bound, or take "
        "shut_down_when_full() away from its BufferConfig."
    )
    assert isinstance(raised.value, ProcessingError)


def test_a_full_buffer_is_counted_when_processing_errors_are_skipped() -> None:
    builder = StreamsBuilder("app")
    table: KTable[str, str] = builder.table("t", **TEXT)
    strict = BufferConfig.max_records(1).shut_down_when_full()
    table.suppress(limited(strict), name="held").to_stream().to("out")
    with TopologyTestDriver(builder.build(), {"processing_exception_handler": "skip"}) as driver:
        for offset, key in enumerate([b"a", b"b", b"c"]):
            driver.pipe("t", key, b"x", offset)
        assert driver.metrics.total("dropped_records_total", node="held", reason="processing-error") == 2
