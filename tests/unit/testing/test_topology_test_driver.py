from collections.abc import Iterator
from datetime import timedelta

import pytest

from streamlib import ProcessingError, StreamsBuilder, TimeWindows, Topology, serdes
from streamlib.testing import TestRecord, TopologyTestDriver
from streamlib.testing.topics import Row


def words() -> Topology:
    builder = StreamsBuilder("words")
    (
        builder.stream("lines", serdes.STRING, serdes.STRING)
        .flat_map_values(str.split)
        .group_by(lambda _, word: word, name="by-word")
        .count(store="counts")
        .to_stream()
        .to("counted")
    )
    return builder.build()


@pytest.fixture
def driver() -> Iterator[TopologyTestDriver]:
    with TopologyTestDriver(words()) as made:
        yield made


def test_everything_is_processed_when_a_record_is_piped(driver: TopologyTestDriver) -> None:
    lines = driver.create_input_topic("lines", serdes.STRING, serdes.STRING)
    counted = driver.create_output_topic("counted", serdes.STRING, serdes.INT64)
    lines.pipe_input("k", "a b a", 7, [("trace", b"1")])
    assert counted.queue_size == 3
    assert counted.read_record() == TestRecord("a", 1, 7, (("trace", b"1"),))
    assert counted.read_key_values_to_list() == [("b", 1), ("a", 2)]
    assert counted.is_empty()


def test_reading_fails_when_nothing_is_left(driver: TopologyTestDriver) -> None:
    counted = driver.create_output_topic("counted", serdes.STRING, serdes.INT64)
    with pytest.raises(LookupError, match='topic "counted" has no more records'):
        counted.read_value()


def test_piping_fails_when_no_source_reads_the_topic(driver: TopologyTestDriver) -> None:
    with pytest.raises(LookupError, match='no source reads the topic "line"; there are: lines, words-by-word-repart'):
        driver.create_input_topic("line", serdes.STRING, serdes.STRING).pipe_value("a")


def test_times_advance_when_records_are_given_none(driver: TopologyTestDriver) -> None:
    advance = timedelta(milliseconds=10)
    lines = driver.create_input_topic("lines", serdes.STRING, serdes.STRING, start_ms=100, advance=advance)
    counted = driver.create_output_topic("counted", serdes.STRING, serdes.INT64)
    lines.pipe_values(["a", "b"])
    lines.advance_time(timedelta(seconds=1))
    lines.pipe_value("c")
    lines.pipe_key_values([(None, "d"), (None, "e")], start_ms=5, advance=timedelta(milliseconds=1))
    assert [record.timestamp_ms for record in counted.read_records_to_list()] == [100, 110, 1120, 5, 6]


def test_a_negative_time_is_refused_when_it_is_piped(driver: TopologyTestDriver) -> None:
    with pytest.raises(ValueError, match="cannot be negative: -1"):
        driver.create_input_topic("lines", serdes.STRING, serdes.STRING).pipe_input(None, "a", -1)


def test_internal_topics_are_among_the_produced_ones_when_asked(driver: TopologyTestDriver) -> None:
    driver.create_input_topic("lines", serdes.STRING, serdes.STRING).pipe_value("a")
    internal = {"words-by-word-repartition", "words-counts-changelog"}
    assert driver.produced_topic_names() == {"counted", *internal}
    repartitioned = driver.create_output_topic("words-by-word-repartition", serdes.STRING, serdes.STRING)
    assert repartitioned.read_key_value() == ("a", "a")


def test_every_step_is_told_when_a_record_is_explained(driver: TopologyTestDriver) -> None:
    told = driver.explain("lines", b"k", b"a b", 7)
    assert [(call.function, call.arguments, call.result) for call in told.calls] == [
        ("mapper", ("a b",), ["a", "b"]),
        ("mapper", ("k", "a"), "a"),
        ("mapper", ("k", "b"), "b"),
    ]
    assert told.nodes == ["KSTREAM-FLATMAPVALUES-0000000001", "by-word"]
    assert [(write.topic, write.key) for write in told.writes] == [
        ("words-by-word-repartition", "a"),
        ("words-by-word-repartition", "b"),
        ("words-counts-changelog", b"a"),
        ("counted", "a"),
        ("words-counts-changelog", b"b"),
        ("counted", "b"),
    ]
    assert "by-word: mapper('k', 'a') -> 'a'" in str(told)
    assert "counted <- 'b': 1 @ 7" in str(told)
    driver.pipe("lines", b"k", b"c", 8)
    assert len(told.calls) == 3


def test_the_call_that_raised_is_the_last_one_when_a_record_is_explained() -> None:
    builder = StreamsBuilder("words")
    builder.stream("in", serdes.STRING, serdes.INT64).filter(lambda *_: True).map_values(lambda value: 1 // value).to(
        "out"
    )
    with TopologyTestDriver(builder.build(), {"processing_exception_handler": "skip"}) as driver:
        told = driver.explain("in", None, (0).to_bytes(8), 7)
        assert [type(call.result) for call in told.calls] == [bool, ZeroDivisionError]
        assert told.writes == []


def test_drivers_are_closed_when_the_fixture_made_them(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        from streamlib import StreamsBuilder, serdes

        made = []

        def test_one(topology_driver):
            builder = StreamsBuilder("words")
            builder.stream("in", serdes.STRING, serdes.STRING).to("out")
            driver = topology_driver(builder.build(), {"application_id": "mine"})
            driver.pipe("in", None, b"a", 1)
            assert driver.create_output_topic("out", serdes.STRING, serdes.STRING).read_value() == "a"
            made.append(driver)

        def test_two():
            import pytest
            with pytest.raises(AssertionError, match="closed"):
                made[0].pipe("in", None, b"a", 1)
        """
    )
    pytester.runpytest_subprocess("-p", "no:randomly").assert_outcomes(passed=2)


def test_counts_go_on_when_the_worker_has_crashed(driver: TopologyTestDriver) -> None:
    lines = driver.create_input_topic("lines", serdes.STRING, serdes.STRING)
    counted = driver.create_output_topic("counted", serdes.STRING, serdes.INT64)
    lines.pipe_values(["a", "a"])
    driver.crash()
    with pytest.raises(AssertionError, match=r"restart\(\) it"):
        lines.pipe_value("a")
    driver.restart()
    lines.pipe_value("a")
    assert counted.read_key_values_to_map() == {"a": 3}


def test_an_unlogged_store_is_empty_when_the_worker_has_crashed() -> None:
    builder = StreamsBuilder("words")
    builder.stream("in", serdes.STRING, serdes.STRING).group_by_key().count(store="c", logging=False).to_stream().to(
        "out"
    )
    with TopologyTestDriver(builder.build()) as driver:
        lines = driver.create_input_topic("in", serdes.STRING, serdes.STRING)
        lines.pipe_input("a", "x")
        driver.crash()
        driver.restart()
        lines.pipe_input("a", "x")
        assert driver.create_output_topic("out", serdes.STRING, serdes.INT64).read_values_to_list() == [1, 1]


def test_the_error_of_a_worker_comes_out_when_user_code_raises() -> None:
    builder = StreamsBuilder("words")
    builder.stream("in", serdes.STRING, serdes.INT64).map_values(lambda value: 1 // value).to("out")
    with TopologyTestDriver(builder.build()) as driver, pytest.raises(ProcessingError, match="topic=in partition=0"):
        driver.create_input_topic("in", serdes.STRING, serdes.INT64).pipe_value(0)


def test_an_undecodable_record_is_counted_when_the_policy_is_to_skip() -> None:
    builder = StreamsBuilder("words")
    builder.stream("in", serdes.STRING, serdes.INT64).to("out")
    with TopologyTestDriver(builder.build(), {"deserialization_exception_handler": "skip"}) as driver:
        topic = driver.create_input_topic("in", serdes.STRING, serdes.INT64)
        topic.pipe_raw(None, b"short", 0)
        topic.pipe_value(1)
        assert driver.metrics.total("dropped_records_total") == 1
        assert driver.create_output_topic("out", serdes.STRING, serdes.INT64).read_values_to_list() == [1]


@pytest.mark.parametrize(("commit_rows", "results"), [(1, [1, 2, 3]), (3, [3])])
def test_a_cache_shows_only_between_commits(commit_rows: int, results: list[int]) -> None:
    builder = StreamsBuilder("words")
    (
        builder.stream("in", serdes.STRING, serdes.STRING)
        .group_by_key()
        .windowed_by(TimeWindows.of(timedelta(minutes=1)))
        .count(store="c")
        .to_stream(lambda key, _: key.key, key_serde=serdes.STRING)
        .to("out")
    )
    with TopologyTestDriver(builder.build(), commit_rows=commit_rows) as driver:
        rows = [Row(b"k", b"v", 5)] * 3
        for row in rows if commit_rows == 1 else []:
            driver.pipe("in", *row)
        if commit_rows > 1:
            driver.pipe_rows("in", rows)
        assert driver.create_output_topic("out", serdes.STRING, serdes.INT64).read_values_to_list() == results
