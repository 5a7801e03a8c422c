"""Error policies of nodes, under the driver: what comes out, what is counted, what is kept as a dead letter."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from streamlib import StreamsBuilder, TimeWindows, TopologyBuilder, serdes
from streamlib.dead_letters import FailedRecord, failed_record
from streamlib.error_policies import ErrorContext, ErrorPolicy, dead_letter, fail, retry, skip
from streamlib.errors import (
    ConfigError,
    DeserializationError,
    ProcessingError,
    ProductionError,
    SerdeError,
    TopologyError,
)
from streamlib.serdes.base import Serde
from streamlib.testing import TopologyTestDriver
from streamlib.testing.topics import Row

pytestmark = pytest.mark.filterwarnings("ignore::streamlib.UnstableNameWarning")
S, N = serdes.STRING, serdes.INT64
TEXT = {"key_serde": S, "value_serde": S}


def numbers(name: str = "app") -> Any:
    return StreamsBuilder(name, default_key_serde=S, default_value_serde=S)


def to_int(value: str) -> int:
    return int(value)


def run(
    builder: StreamsBuilder, *values: str, config: dict[str, Any] | None = None, **options: Any
) -> TopologyTestDriver:
    """Pipe values, with the keys a, b, c... and the times 0, 1, 2...; the driver is open."""
    driver = TopologyTestDriver(builder.build(), config, **options)
    rows = [Row(bytes([97 + row % 26]), value.encode(), row, [("h", b"1")]) for row, value in enumerate(values)]
    try:
        driver.pipe_rows("in", rows)
    except BaseException:
        driver.close()
        raise
    return driver


def out(driver: TopologyTestDriver, serde: Any = N) -> list[tuple[Any, Any]]:
    records = driver.create_output_topic("out", S, serde).read_records_to_list()
    return [(record.key, record.value) for record in records]


def letters(driver: TopologyTestDriver, topic: str = "dead") -> list[FailedRecord]:
    records = driver.create_output_topic(topic, serdes.BYTES, serdes.BYTES).read_records_to_list()
    return [failed_record(record.key, record.value, record.timestamp_ms, record.headers) for record in records]


def dropped(driver: TopologyTestDriver, reason: str, node: str) -> int:
    return driver.metrics.total("dropped_records_total", reason=reason, node=node)


def test_a_node_has_a_policy_of_its_own() -> None:
    builder = numbers()
    stream = builder.stream("in")
    stream.map_values(to_int, name="lenient", value_serde=N, on_error=skip()).to("out")
    with run(builder, "1", "x", "3") as driver:
        assert out(driver) == [("a", 1), ("c", 3)]
        assert dropped(driver, "processing-error", "lenient") == 1


def test_a_strict_node_stops_although_the_worker_skips() -> None:
    builder = numbers()
    builder.stream("in").map_values(to_int, value_serde=N, on_error=fail()).to("out")
    with pytest.raises(ProcessingError, match=r"ValueError.*topic=in partition=0 offset=1"):
        run(builder, "1", "x", config={"processing_exception_handler": skip()})


def test_a_record_of_a_failing_function_is_kept_as_it_was_read() -> None:
    builder = numbers()
    (
        builder.stream("in")
        .map_values(lambda value: value * 2)
        .map_values(to_int, name="parse", value_serde=N, on_error=dead_letter("dead"))
        .to("out")
    )
    with run(builder, "1", "x", "3") as driver:
        assert out(driver) == [("a", 11), ("c", 33)]
        [letter] = letters(driver)
        assert (letter.key, letter.value, letter.timestamp, list(letter.headers)) == (b"b", b"x", 1, [("h", b"1")])
        assert (letter.topic, letter.partition, letter.offset, letter.node) == ("in", 0, 1, "parse")
        assert letter.exception == "ValueError"
        assert letter.message is not None
        assert "invalid literal" in letter.message
        assert letter.stacktrace is not None
        assert "to_int" in letter.stacktrace
        assert driver.metrics.total("dead_letters_total", node="parse", topic="dead", reason="processing-error") == 1
        assert driver.metrics.total("dropped_records_total") == 0


@pytest.mark.parametrize("batch_rows", [1, 4, 100])
def test_the_right_records_are_kept_whatever_the_batches(batch_rows: int) -> None:
    builder = numbers()
    builder.stream("in").map_values(to_int, value_serde=N, on_error=dead_letter("dead")).to("out")
    values = [str(row) if row % 3 else f"x{row}" for row in range(20)]
    with run(builder, *values, batch_rows=batch_rows, commit_rows=7) as driver:
        assert [letter.value for letter in letters(driver)] == [f"x{row}".encode() for row in range(0, 20, 3)]
        assert len(out(driver)) == 13


def test_an_undecodable_record_is_kept_as_it_was_read() -> None:
    builder = numbers()
    builder.stream("in", value_serde=serdes.JSON, on_error=dead_letter("dead")).to("out")
    with run(builder, "1", "{", "3", batch_rows=5) as driver:
        assert out(driver, serdes.JSON) == [("a", 1), ("c", 3)]
        [letter] = letters(driver)
        assert (letter.key, letter.value, letter.offset, letter.node) == (b"b", b"{", 1, "KSTREAM-SOURCE-0000000000")
        assert list(letter.headers) == [("h", b"1")]


def test_the_policy_for_bytes_is_not_that_for_functions() -> None:
    builder = numbers()
    builder.stream("in", value_serde=serdes.JSON).to("out")
    with pytest.raises(DeserializationError, match=r"node=KSTREAM-SOURCE-0000000000 topic=in partition=0 offset=0"):
        run(builder, "{", config={"processing_exception_handler": "skip", "production_exception_handler": "skip"})


def test_a_value_that_a_sink_refuses_is_kept_as_it_was_read() -> None:
    builder = numbers()
    (
        builder.stream("in")
        .map_values(lambda value: int(value) if value.isdecimal() else value)
        .to("out", name="sink", value_serde=N, on_error=dead_letter("dead"))
    )
    with run(builder, "1", "x", "3", batch_rows=5) as driver:
        assert out(driver) == [("a", 1), ("c", 3)]
        [letter] = letters(driver)
        assert (letter.value, letter.offset, letter.node) == (b"x", 1, "sink")
        assert driver.metrics.total("dead_letters_total", reason="production-error") == 1


def test_a_value_that_a_sink_refuses_stops_by_default() -> None:
    builder = numbers()
    builder.stream("in").to("out", value_serde=N)
    with pytest.raises(SerdeError, match=r"value serde int64 cannot write a str.*topic=out input offset=0"):
        run(builder, "x")


def test_a_raising_partitioner_is_treated_like_any_function() -> None:
    builder = numbers()
    builder.stream("in").to("out", name="sink", partitioner=lambda _, value, __: int(value), on_error=skip())
    with run(builder, "0", "x", "0", batch_rows=3) as driver:
        assert out(driver, S) == [("a", "0"), ("c", "0")]
        assert dropped(driver, "processing-error", "sink") == 1
        assert driver.metrics.total("dropped_records_total") == 1


class Flaky:
    """Raises for the first calls with a value."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.calls: list[str] = []

    def __call__(self, value: str) -> int:
        self.calls.append(value)
        if value == "2" and self.calls.count("2") <= self.times:
            raise OSError("away")
        return int(value)


def test_a_record_is_tried_again_and_nothing_is_done_twice() -> None:
    flaky = Flaky(2)
    builder = numbers()
    stream = builder.stream("in")
    stream.group_by_key().count(store="counts")
    stream.map_values(flaky, value_serde=N, on_error=retry(2)).to("out")
    with run(builder, "1", "2", "3") as driver:
        assert out(driver) == [("a", 1), ("b", 2), ("c", 3)]
        assert flaky.calls == ["1", "2", "2", "2", "3"]
        assert [driver.get_key_value_store("counts").get(key) for key in "abc"] == [1, 1, 1]


def test_a_record_that_goes_on_failing_gets_the_last_policy() -> None:
    builder = numbers()
    builder.stream("in").map_values(Flaky(9), value_serde=N, on_error=retry(2, then=dead_letter("dead"))).to("out")
    with run(builder, "1", "2", "3") as driver:
        assert out(driver) == [("a", 1), ("c", 3)]
        assert [letter.value for letter in letters(driver)] == [b"2"]
    strict = numbers()
    strict.stream("in").map_values(Flaky(9), value_serde=N, on_error=retry(1)).to("out")
    with pytest.raises(ProcessingError, match="away"):
        run(strict, "2")


def test_a_function_decides_about_each_record_and_sees_what_is_known() -> None:
    seen: list[tuple[ErrorContext, Exception]] = []

    def decide(context: ErrorContext, error: Exception) -> ErrorPolicy:
        seen.append((context, error))
        return skip() if context.value == "x" else dead_letter("dead")

    builder = numbers()
    builder.stream("in").map_values(to_int, name="parse", value_serde=N, on_error=decide).to("out")
    with run(builder, "1", "x", "y") as driver:
        assert out(driver) == [("a", 1)]
        assert [letter.value for letter in letters(driver)] == [b"y"]
    context, error = seen[0]
    assert isinstance(error, ValueError)
    assert (context.kind, context.task_id, context.node, context.attempt) == ("processing", "0_0", "parse", 0)
    assert (context.topic, context.partition, context.offset, context.timestamp) == ("in", 0, 1, 1)
    assert (context.key, context.value, context.source_raw_key, context.source_raw_value) == ("b", "x", b"b", b"x")


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        (lambda _, __: 1 // 0, r"the error handler raised ZeroDivisionError.*node=parse"),
        (lambda _, __: "skip", r"'skip' is no error policy.*node=parse"),
        (lambda _, __: None, r"None is no error policy.*node=parse"),
    ],
)
def test_a_handler_that_decides_nothing_stops_the_worker(handler: Any, message: str) -> None:
    builder = numbers()
    builder.stream("in").map_values(to_int, name="parse", value_serde=N, on_error=handler).to("out")
    with pytest.raises(ProcessingError, match=message):
        run(builder, "x")


def test_an_inner_decision_to_fail_is_not_overruled_by_an_outer_node() -> None:
    builder = numbers()
    words = builder.stream("in").flat_map_values(str.split, on_error=skip())
    words.map_values(to_int, value_serde=N, on_error=fail(), name="inner").to("out")
    for options in ({}, {"batch_rows": 3}):
        with pytest.raises(ProcessingError, match="node=inner"):
            run(builder, "1 x", **options)


def test_an_inner_letter_is_written_once_below_an_outer_node() -> None:
    builder = numbers()
    words = builder.stream("in").flat_map_values(str.split, on_error=fail())
    words.map_values(to_int, value_serde=N, on_error=dead_letter("dead"), name="inner").to("out")
    for options in ({}, {"batch_rows": 3}):
        with run(builder, "1 x 2", "3", **options) as driver:
            assert out(driver) == [("a", 1), ("a", 2), ("b", 3)]
            assert [letter.value for letter in letters(driver)] == [b"1 x 2"]


def bad(*_: Any) -> Any:
    raise ValueError("bad")


OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "filter": lambda s, e: s.filter(bad, on_error=e),
    "filter_not": lambda s, e: s.filter_not(bad, on_error=e),
    "map": lambda s, e: s.map(bad, on_error=e),
    "map_values": lambda s, e: s.map_values(bad, on_error=e),
    "flat_map": lambda s, e: s.flat_map(bad, on_error=e),
    "flat_map_values": lambda s, e: s.flat_map_values(bad, on_error=e),
    "select_key": lambda s, e: s.select_key(bad, on_error=e),
    "peek": lambda s, e: s.peek(bad, on_error=e),
    "for_each": lambda s, e: s.for_each(bad, on_error=e),
    "split": lambda s, e: s.split(on_error=e).branch(bad),
    "print": lambda s, e: s.print("/dev/null", mapper=bad, on_error=e),
    "deduplicate": lambda s, e: s.deduplicate(timedelta(1), key=bad, name="d", store="d", on_error=e),
    "process": lambda s, e: s.process(Bad, name="p", on_error=e),
    "process_values": lambda s, e: s.process_values(Bad, name="p", on_error=e),
    "map_values_async": lambda s, e: s.map_values_async(abad, on_error=e),
    "to_topic_fn": lambda s, e: s.to(bad, on_error=e),
    "group_by": lambda s, e: s.group_by(bad, name="g", on_error=e).count(store="n"),
    "reduce": lambda s, e: s.map_values(str).group_by_key().aggregate(bad, bad, store="n", on_error=e),
    "windowed": lambda s, e: (
        s.group_by_key()
        .windowed_by(TimeWindows.of(timedelta(minutes=1), grace=timedelta()))
        .aggregate(bad, bad, store="n", on_error=e)
    ),
    "table.filter": lambda s, e: s.to_table(store="t").filter(bad, on_error=e),
    "table.map_values": lambda s, e: s.to_table(store="t").map_values(bad, on_error=e),
    "table.group_by": lambda s, e: s.to_table(store="t").group_by(bad, name="g", on_error=e).count(store="n"),
    "join": lambda s, e: s.join(s.to_table(store="t"), bad, on_error=e),
    "join_tables": lambda s, e: (t := s.to_table(store="t")).join(t.map_values(str), bad, on_error=e),
}


class Bad:
    def init(self, context: Any) -> None: ...

    def process(self, record: Any) -> None:
        raise ValueError("bad")

    def close(self) -> None: ...


async def abad(value: str) -> str:
    raise ValueError("bad")


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_with_a_function_takes_a_policy(name: str) -> None:
    builder = numbers()
    OPERATIONS[name](builder.stream("in"), dead_letter("dead"))
    with run(builder, "x", "y", batch_rows=2) as driver:
        kept = [letter.value for letter in letters(driver)]
        # A row of a table may fail for its old and its new side, or in the flush of a cache, which knows no record.
        assert set(kept) == {b"x", b"y"} or kept == [None, None] or set(kept) == {None}
        assert driver.metrics.total("dropped_records_total") == 0


def test_the_setting_names_the_topic_of_letters_without_one() -> None:
    builder = numbers()
    builder.stream("in").map_values(to_int, value_serde=N, on_error=dead_letter()).to("out")
    with run(builder, "x", config={"errors_dead_letter_queue_topic_name": "failed"}) as driver:
        assert [letter.value for letter in letters(driver, "failed")] == [b"x"]
    with pytest.raises(ConfigError, match="errors_dead_letter_queue_topic_name"):
        run(builder, "x")


def test_too_many_failures_stop_the_worker_whatever_the_policy() -> None:
    builder = numbers()
    builder.stream("in").map_values(to_int, value_serde=N, on_error=skip()).to("out")
    values = ["1"] * 180 + ["x"] * 20
    with run(builder, *values, config={"errors_max_share": 0.1}, batch_rows=50) as driver:
        assert dropped(driver, "processing-error", "KSTREAM-MAPVALUES-0000000001") == 20
    with pytest.raises(ProcessingError, match=r"21 of 20\d records of the last minute failed.*errors_max_share=0.1"):
        run(builder, *values, *["x"] * 5, config={"errors_max_share": 0.1})


def test_mistakes_of_policies_are_told_when_the_topology_is_built() -> None:
    builder = numbers()
    builder.stream("in").map_values(str, on_error="skip").to("out", on_error=skip)
    builder.global_table("g", on_error=dead_letter("dead"))
    with pytest.raises(TopologyError) as caught:
        builder.build()
    first, second, third = caught.value.problems
    assert "'skip' is no error policy" in first
    assert "is no error policy" in second
    assert '"KSTREAM-SOURCE-0000000004" cannot write dead letters' in third


def test_a_record_of_a_global_table_is_left_out_and_counted_where_letters_cannot_be_written() -> None:
    builder = numbers()
    builder.global_table("g", value_serde=serdes.JSON, store="rows")
    builder.stream("in").to("out")
    config = {"deserialization_exception_handler": dead_letter("dead")}
    with TopologyTestDriver(builder.build(), config) as driver:
        driver.create_input_topic("g", S, S).pipe_input("a", "{")
        assert letters(driver) == []
        assert driver.metrics.total("dropped_records_total", reason="deserialization-error") == 1


def test_a_topology_of_processors_takes_policies_too() -> None:
    refusing = Serde("refusing", lambda value: 1 // 0, bytes.decode)
    builder = TopologyBuilder("app", default_key_serde=S, default_value_serde=S)
    builder.add_source("source", "in", value_serde=serdes.JSON, on_error=dead_letter("dead"))
    builder.add_processor("bad", Bad, "source", on_error=dead_letter("dead"))
    builder.add_sink("sink", "out", "source", value_serde=refusing, on_error=dead_letter("dead"))
    with TopologyTestDriver(builder.build()) as driver:
        driver.create_input_topic("in", S, S).pipe_input("a", "{")
        assert [letter.node for letter in letters(driver)] == ["source"]
        driver.create_input_topic("in", S, S).pipe_input("a", "1")
        assert sorted(letter.node or "" for letter in letters(driver)) == ["bad", "sink"]
        assert driver.produced_topic_names() == {"dead"}


def test_a_letter_that_does_not_come_from_a_record_says_what_is_known() -> None:
    builder = numbers()
    builder.stream("in").to_table(store="t").map_values(
        to_int, value_serde=N, on_error=dead_letter("dead")
    ).to_stream().to("out")
    with run(builder, "x", config={"statestore_cache_max_bytes": 10_000}) as driver:
        [letter] = letters(driver)
        assert (letter.key, letter.value, letter.offset) in {(None, None, None), (b"a", b"x", 0)}
        assert letter.exception == "ValueError"


def test_production_errors_have_a_class() -> None:
    assert not issubclass(ProductionError, SerdeError)
