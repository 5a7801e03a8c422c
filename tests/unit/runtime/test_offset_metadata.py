"""Golden strings: what Kafka Streams writes beside committed offsets."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlib.runtime.offset_metadata import Position, decode_position, encode_metadata, merged

INT64 = st.integers(-(2**63), 2**63 - 1)


@pytest.mark.parametrize(
    ("time", "processor", "text"),
    [
        (-1, {}, "Av//////////"),
        (0, {}, "AgAAAAAAAAAA"),
        (1000, {}, "AgAAAAAAAAPo"),
        (1700000000000, {}, "AgAAAYvP5WgA"),
        (1000, {"st": 42}, "AgAAAAAAAAPoAAAAAQAAAAJzdAAAAAAAAAAq"),
    ],
)
def test_the_string_is_that_of_kafka_streams(time: int, processor: dict[str, int], text: str) -> None:
    assert encode_metadata(time, processor) == text
    assert decode_position(7, text) == Position(7, time, processor)


@given(time=INT64, processor=st.dictionaries(st.text(st.characters(codec="utf-8")), INT64))
def test_a_position_survives_the_round_trip(time: int, processor: dict[str, int]) -> None:
    assert decode_position(3, encode_metadata(time, processor)) == Position(3, time, processor)


def test_the_time_is_read_when_version_1_wrote_it() -> None:
    version_1 = base64.b64encode(b"\x01" + (1000).to_bytes(8)).decode()
    assert decode_position(5, version_1) == Position(5, 1000, {})


@pytest.mark.parametrize("metadata", ["", "hello", "AA==", "!!!", "CQAAAAAAAAPo"])
def test_only_the_offset_is_known_when_others_wrote_the_metadata(metadata: str) -> None:
    assert decode_position(5, metadata) == Position(5, -1, {})


@pytest.mark.parametrize("cut", [9, 12, 14, 16, 20])
def test_the_time_is_kept_when_the_entries_are_cut_short(cut: int) -> None:
    data = base64.b64decode("AgAAAAAAAAPoAAAAAQAAAAJzdAAAAAAAAAAq")
    assert decode_position(5, base64.b64encode(data[:cut]).decode()) == Position(5, 1000, {})


def test_the_largest_value_of_each_entry_counts_when_inputs_are_merged() -> None:
    assert merged([{"a": 1, "b": 9}, {}, {"a": 3, "b": 2, "c": -5}]) == {"a": 3, "b": 9, "c": -5}
