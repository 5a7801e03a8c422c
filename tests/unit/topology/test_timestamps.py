"""What to do about records without a usable timestamp."""

import logging
from collections.abc import Callable

import pytest

from streamlib import StreamsBuilder, serdes
from streamlib.clock import SystemClock
from streamlib.errors import ProcessingError
from streamlib.testing import TopologyTestDriver
from streamlib.topology import timestamps

S = serdes.STRING


def times(extractor: Callable[..., int] | None, *given: int) -> tuple[list[int], int]:
    builder = StreamsBuilder("app")
    builder.stream("in", S, S, timestamp_extractor=extractor).to("out")
    with TopologyTestDriver(builder.build()) as driver:
        for timestamp in given:
            driver.pipe("in", b"k", b"v", timestamp)
        records = driver.create_output_topic("out", S, S).read_records_to_list()
        dropped = driver.metrics.total("dropped_records_total", reason="negative-timestamp")
    return [record.timestamp_ms for record in records], dropped


@pytest.mark.parametrize("extractor", [None, timestamps.fail_on_invalid])
def test_a_negative_timestamp_stops_the_task(extractor: Callable[..., int] | None) -> None:
    assert times(extractor, 5, 3) == ([5, 3], 0)
    with pytest.raises(ProcessingError, match="timestamp"):
        times(extractor, 5, -1)


def test_a_negative_timestamp_is_logged_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "streamlib"):
        assert times(timestamps.log_and_skip, 5, -2, 3) == ([5, 3], 1)
    assert [line for line in caplog.messages if "-2" in line] == ["a record with the timestamp -2 is left out: key='k'"]


def test_a_negative_timestamp_becomes_the_partitions() -> None:
    assert times(timestamps.use_partition_time, 5, 3, -1) == ([5, 3, 5], 0)
    with pytest.raises(ProcessingError, match="the partition has had no other"):
        times(timestamps.use_partition_time, -1)


def test_the_wall_clock_takes_the_place_of_any_timestamp() -> None:
    before = SystemClock().time_ms()
    (time,), _ = times(timestamps.wall_clock, 5)
    assert before <= time <= SystemClock().time_ms()
