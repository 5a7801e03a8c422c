"""Golden strings: what Kafka Streams writes beside committed offsets."""

import pytest

from streamlib.runtime.offset_metadata import decode_partition_time, encode_partition_time


def test_the_string_equals_kafka_streams() -> None:
    assert encode_partition_time(1000) == "AgAAAAAAAAPo"


@pytest.mark.parametrize("time", [-1, 0, 1000, 2**62])
def test_a_time_survives_the_round_trip(time: int) -> None:
    assert decode_partition_time(encode_partition_time(time)) == time


def test_processor_metadata_of_kafka_streams_is_tolerated() -> None:
    assert decode_partition_time("AgAAAAAAAAPoAAAAAQAAAAJzdAAAAAAAAAAq") == 1000


@pytest.mark.parametrize("metadata", ["", "hello", "AA==", "!!!", "CQAAAAAAAAPo"])
def test_foreign_metadata_means_no_time(metadata: str) -> None:
    assert decode_partition_time(metadata) == -1
