"""The hash of left values, against what Kafka's own class gives."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlib.operators.murmur3 import hash128, hash128_many

GOLDEN = {
    "": "9d2764a018e329428c3cf3b035938518",
    "61": "3361634e7e0f5188e9c7dda24eae326b",
    "c3a9": "012dfdb41628a3c2bfb57b2ced3fe54a",
    "fffefd": "b0ddc60f37b5d175467d9b7626329962",
    "8000000000000000": "1c717be2dd3b45a193d5d8301a0820b8",
    "00254a6f94b9de03284d7297bce106": "0de6450c86550a5187d4ca36ea7e1c61",
    "00254a6f94b9de03284d7297bce1062b": "1a53f6a8869364caaf9b363629736d45",
    "00254a6f94b9de03284d7297bce1062b50": "26368d9c4246bc2c25bf52bc43828d15",
    "61206c6f6e676572206b6579207769746820737061636573": "0e913160f996419154d1258d61fc66ef",
    "00254a6f94b9de03284d7297bce1062b50759abfe4092e53789dc2e70c31567ba0": "4ddb4823810d597bd85f7be2f83a5671",
}


@pytest.mark.parametrize(("data", "hashed"), GOLDEN.items())
def test_the_hash_is_that_of_kafka_streams(data: str, hashed: str) -> None:
    assert hash128(bytes.fromhex(data)).hex() == hashed


@pytest.mark.parametrize("times", [1, 16, 100])
def test_hashes_are_those_of_kafka_streams_when_many_values_are_hashed_together(times: int) -> None:
    column = [bytes.fromhex(data) for data in GOLDEN] * times
    assert [hashed.hex() for hashed in hash128_many(column) if hashed] == list(GOLDEN.values()) * times


@given(st.lists(st.none() | st.binary(max_size=50), max_size=150))
def test_each_value_has_its_own_hash_when_lengths_are_mixed_and_some_are_missing(column: list[bytes | None]) -> None:
    assert hash128_many(column) == [None if data is None else hash128(data) for data in column]
