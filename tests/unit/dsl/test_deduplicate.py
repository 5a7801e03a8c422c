"""Duplicates: which records pass, by key and by an id, over restarts and redelivery."""

from datetime import timedelta
from typing import Any

import pytest

from streamlib import KStream, StreamsBuilder, TopologyError, serdes
from streamlib.metrics import Metrics
from streamlib.operators.deduplicate import DeduplicateOperator, deduplicate
from streamlib.operators.wiring import Wiring
from streamlib.record import RecordBatch, TopicPartition
from streamlib.state.memory import MemoryEngine
from streamlib.state.stores import open_store
from streamlib.testing.topics import Row
from streamlib.testing.topology_test_driver import TopologyTestDriver
from streamlib.topology.internal_topics import internal_topics

pytestmark = pytest.mark.filterwarnings("ignore::streamlib.UnstableNameWarning")
S = serdes.STRING
TEN = timedelta(milliseconds=10)


def driver(batch_rows: int = 1, **options: Any) -> TopologyTestDriver:
    builder = StreamsBuilder("app")
    builder.stream("in", S, S).deduplicate(TEN, **options).to("out")
    return TopologyTestDriver(builder.build(), batch_rows=batch_rows)


def passed(run: TopologyTestDriver, *rows: tuple[Any, Any, int]) -> list[tuple[str | None, int]]:
    """Value and timestamp of the records that come out for those that are piped in."""
    first = len(run.logs.topics["out"])
    run.pipe_rows("in", [Row(key and key.encode(), value and value.encode(), at, ()) for key, value, at in rows])
    return [
        (None if row.value is None else row.value.decode(), row.timestamp_ms) for row in run.logs.topics["out"][first:]
    ]


def dropped(run: TopologyTestDriver, reason: str = "duplicate") -> int:
    return run.metrics.total("dropped_records_total", reason=reason)


@pytest.mark.parametrize("batch_rows", [1, 2, 100])
@pytest.mark.parametrize("in_memory", [False, True])
def test_the_first_record_of_each_key_passes_until_the_time_is_over(batch_rows: int, in_memory: bool) -> None:
    with driver(batch_rows, in_memory=in_memory) as run:
        rows = [("a", "1", 100), ("a", "2", 100), ("b", "3", 105), ("a", "4", 110), ("a", "5", 111), ("a", "6", 121)]
        assert passed(run, *rows) == [("1", 100), ("3", 105), ("5", 111)]
        assert dropped(run) == 3


@pytest.mark.parametrize("batch_rows", [1, 100])
def test_an_earlier_record_is_a_duplicate_when_the_later_one_came_first(batch_rows: int) -> None:
    with driver(batch_rows) as run:
        rows = [("a", "1", 100), ("a", "2", 90), ("a", "3", 89), ("a", "4", 88), ("a", "5", 78), ("a", "6", 80)]
        assert passed(run, *rows) == [("1", 100), ("3", 89), ("5", 78)]
        assert dropped(run) == 3


@pytest.mark.parametrize("batch_rows", [1, 2, 100])
def test_records_older_than_all_that_is_known_pass(batch_rows: int) -> None:
    with driver(batch_rows) as run:
        rows = [("a", "1", 5), ("b", "2", 1_000_000), ("a", "3", 5), ("a", "4", 5), ("b", "5", 1_000_005)]
        assert passed(run, *rows) == [("1", 5), ("2", 1_000_000), ("3", 5), ("4", 5)]
        assert (dropped(run), dropped(run, "expired")) == (1, 0)


@pytest.mark.parametrize("batch_rows", [1, 100])
def test_ids_of_a_function_decide_instead_of_keys(batch_rows: int) -> None:
    with driver(batch_rows, key=lambda key, value: f"{key}{value}") as run:
        rows = [("a", "1", 100), ("a", "2", 101), ("a", "1", 102), ("b", "1", 103), ("b", "1", 104)]
        assert passed(run, *rows) == [("1", 100), ("2", 101), ("1", 103)]


def test_records_without_an_id_are_dropped_and_counted() -> None:
    with driver(key=lambda key, value: value) as run:
        assert passed(run, ("a", None, 1), ("a", "x", 2), (None, "x", 3)) == [("x", 2)]
        assert (dropped(run, "null-key"), dropped(run)) == (1, 1)


def test_null_keys_are_dropped_and_null_values_pass() -> None:
    with driver() as run:
        assert passed(run, (None, "x", 1), ("a", None, 2)) == [(None, 2)]
        assert dropped(run, "null-key") == 1


def test_a_record_is_skipped_when_the_function_raises() -> None:
    builder = StreamsBuilder("app")
    builder.stream("in", S, S).deduplicate(TEN, key=lambda key, value: str(int(value))).to("out")
    with TopologyTestDriver(builder.build(), {"processing_exception_handler": "skip"}, batch_rows=10) as run:
        assert passed(run, ("a", "1", 1), ("a", "x", 2), ("a", "01", 3), ("a", "2", 4)) == [("1", 1), ("2", 4)]
        assert (dropped(run, "processing-error"), dropped(run)) == (1, 1)


@pytest.mark.parametrize("in_memory", [False, True])
def test_what_has_passed_is_known_after_a_crash(in_memory: bool) -> None:
    with driver(in_memory=in_memory, store="seen") as run:
        assert passed(run, ("a", "1", 100), ("b", "2", 1_000_000)) == [("1", 100), ("2", 1_000_000)]
        run.crash()
        run.restart()
        assert passed(run, ("b", "3", 1_000_010), ("b", "4", 999_989), ("a", "5", 100)) == [("4", 999_989), ("5", 100)]
        run.crash()
        run.restart()
        assert passed(run, ("b", "6", 999_985), ("b", "7", 1_000_011)) == [("7", 1_000_011)]


def test_keys_are_repartitioned_first_when_they_may_have_changed() -> None:
    builder = StreamsBuilder("app")
    builder.stream("in", S, S).select_key(lambda key, value: value).deduplicate(TEN, name="once", store="seen").to(
        "out"
    )
    topology = builder.build()
    assert set(topology.repartition_topics) == {"once-repartition"}
    with TopologyTestDriver(topology) as run:
        assert passed(run, ("a", "x", 1), ("b", "x", 2), ("b", "y", 3)) == [("x", 1), ("y", 3)]


def test_the_changelog_keeps_ids_as_long_as_they_are_needed() -> None:
    builder = StreamsBuilder("app")
    builder.stream("in", S, S).deduplicate(timedelta(hours=1), store="seen").to("out")
    (topic,) = internal_topics(builder.build(), "app")
    assert (topic.name, topic.configs["cleanup.policy"]) == ("app-seen-changelog", "delete")
    assert topic.configs["retention.ms"] == str(2 * 3_600_000 + 1 + 86_400_000)


def test_a_time_of_nothing_and_a_serde_without_ids_are_refused() -> None:
    builder = StreamsBuilder("app")
    stream: KStream[str, str] = builder.stream("in", S, S)
    stream.deduplicate(timedelta(), id_serde=serdes.INT64).to("out")
    with pytest.raises(TopologyError) as refused:
        builder.build()
    assert "at least 1 ms" in str(refused.value)
    assert "leave out id_serde" in str(refused.value)


class Place:
    """What the operator asks of its task."""

    tp: TopicPartition | None = TopicPartition("in", 0)


def operator_over(rows: list[tuple[bytes, bytes | None, int]], out: list[RecordBatch]) -> DeduplicateOperator:
    builder = StreamsBuilder("app")
    builder.stream("in", S, S).deduplicate(TEN, name="once", store="seen").to("out")
    topology = builder.build()
    spec: Any = topology.stores["seen"]

    class Log:
        def append(self, keys: Any, values: Any, timestamps: Any, headers: Any = None) -> None:
            rows.extend(zip(keys, values, timestamps, strict=True))

    store: Any = open_store(spec, MemoryEngine(), Log())
    store.restore([row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows])
    context: Any = Place()
    context.metrics = Metrics()
    operator = deduplicate(
        topology.nodes["once"],  # type: ignore[arg-type]
        Wiring(topology, context, {}, {"seen": store}, out.append, {}),
    )
    operator.init()
    return operator


def test_a_record_that_comes_again_after_a_crash_is_no_duplicate_of_its_own() -> None:
    changelog: list[tuple[bytes, bytes | None, int]] = []
    out: list[RecordBatch] = []
    batch = RecordBatch(["a", "a", "a", "b"], ["1", "2", "3", "4"], [5, 5, 6, 7], [10, 10, 11, 12])
    operator_over(changelog, out).process(batch)
    again = operator_over(changelog, out)  # the changelog was written, the offsets were not committed
    again.process(batch)
    again.process(RecordBatch(["a", "b"], ["5", "6"], [8, 7], [13, 14]))
    assert [each.values for each in out] == [["1", "4"], ["1", "4"]]
