"""Keys go where Kafka's Java producer sends them."""

import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlib.transport.partitioner import Partitioner, murmur2, murmur2_many, partition_for

GOLDEN = json.loads((Path(__file__).parent / "murmur2.json").read_text())
KEYS = [bytes.fromhex(row["key"]) for row in GOLDEN]


@pytest.mark.parametrize(
    ("data", "hashed"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_hash_equals_javas_when_given_the_vectors_of_its_own_test(data, hashed):
    assert murmur2(data) == hashed


@pytest.mark.parametrize("row", GOLDEN, ids=[row["key"] or "empty" for row in GOLDEN])
def test_hash_and_partitions_equal_javas_when_computed_for_golden_keys(row):
    key = bytes.fromhex(row["key"])
    assert murmur2(key) == row["murmur2"]
    assert {count: partition_for(key, int(count)) for count in row["partition"]} == row["partition"]


@pytest.mark.parametrize("count", [1, 2, 7, 100])
def test_columns_agree_with_single_keys_when_asked_twice(count):
    partitioner = Partitioner()
    expected = [partition_for(key, count) for key in KEYS]
    assert partitioner.partitions("t", KEYS, count) == expected
    assert partitioner.partitions("t", KEYS, count) == expected


def test_columns_agree_with_single_keys_when_more_keys_come_than_are_remembered():
    partitioner = Partitioner()
    keys = [b"%d" % number for number in range(140_000)]
    partitioner.partitions("t", keys, 6)
    sample = keys[:1_000] + keys[-1_000:] + keys[130_500:131_500]
    assert partitioner.partitions("t", sample, 6) == [partition_for(key, 6) for key in sample]


def test_keyless_records_share_a_partition_within_a_column_and_take_turns_between_columns():
    partitioner = Partitioner()
    column = [None, b"abc", None]
    chosen = [partitioner.partitions("t", column, 3) for _ in range(4)]
    assert [row[0] for row in chosen] == [0, 1, 2, 0]
    assert all(row[0] == row[2] and row[1] == partition_for(b"abc", 3) for row in chosen)
    assert partitioner.partitions("other", column, 3)[0] == 0


@given(st.data(), st.integers(1, 300), st.integers(2, 9))
def test_a_long_column_goes_where_its_keys_go_one_by_one(data, count: int, partitions: int) -> None:
    lengths = data.draw(st.lists(st.integers(0, 40), min_size=1, max_size=3))
    seeded = data.draw(st.randoms(use_true_random=False))
    keys = [seeded.randbytes(seeded.choice(lengths)) for _ in range(count)]
    assert Partitioner().partitions("t", keys, partitions) == [partition_for(key, partitions) for key in keys]


@pytest.mark.parametrize("length", range(18))
def test_hashing_as_a_vector_is_murmur2(length: int) -> None:
    seeded = random.Random(length)
    keys = [seeded.randbytes(length) for _ in range(600)]
    assert [signed(hashed) for hashed in murmur2_many(keys)] == [murmur2(key) for key in keys]


def signed(hashed: int) -> int:
    return hashed - (1 << 32) if hashed >> 31 else hashed
