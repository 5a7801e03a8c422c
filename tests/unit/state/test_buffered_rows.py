"""Rows of buffers, byte for byte as Kafka's own classes write them; what cannot be such a row is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlib.errors import DeserializationError
from streamlib.record import TopicPartition
from streamlib.state.buffered_rows import BufferedRow, decode, encode, size_bytes

PLAIN = (1, 2, TopicPartition("t", 0), ())
HEADED = (1000, 7, TopicPartition("topic", 3), (("h", b"x"), ("n", None)))
ORIGIN = "0000000000000001000000000000000200000001740000000000000000"

OF_KAFKA = [
    (BufferedRow(5, None, None, b"v", PLAIN), ORIGIN + "ffffffffffffffff00000001760000000000000005"),
    (BufferedRow(5, b"p", b"p", b"v", PLAIN), ORIGIN + "0000000170fffffffe00000001760000000000000005"),
    (BufferedRow(5, b"p", b"o", b"v", PLAIN), ORIGIN + "0000000170000000016f00000001760000000000000005"),
    (BufferedRow(5, b"p", None, b"v", PLAIN), ORIGIN + "0000000170ffffffff00000001760000000000000005"),
    (BufferedRow(5, None, b"o", None, PLAIN), ORIGIN + "ffffffff000000016fffffffff0000000000000005"),
    (
        BufferedRow(5, b"p", b"o", b"v", HEADED),
        "00000000000003e80000000000000007"
        "00000005746f706963"
        "00000003"
        "00000002"
        "0000000168"
        "0000000178"
        "000000016e"
        "ffffffff"
        "0000000170"
        "000000016f"
        "0000000176"
        "0000000000000005",
    ),
]
"""Rows and what Kafka Streams 4.3.1 wrote for them."""

KINDS = ["no-prior", "old-is-prior", "old-differs", "no-old", "tombstone", "headers"]

values = st.none() | st.binary(max_size=3)
rows = st.builds(
    BufferedRow,
    st.integers(0, 2**63 - 1),
    values,
    values,
    values,
    st.tuples(
        st.integers(0, 2**63 - 1),
        st.integers(-1, 2**63 - 1),
        st.builds(TopicPartition, st.text(max_size=3), st.integers(-1, 9)),
        st.lists(st.tuples(st.text(max_size=3), values), max_size=2).map(tuple),
    ),
)


@pytest.mark.parametrize(("row", "data"), OF_KAFKA, ids=KINDS)
def test_bytes_are_those_of_kafka_when_a_row_is_written(row: BufferedRow, data: str) -> None:
    assert encode(row).hex() == data
    assert decode(bytes.fromhex(data)) == row


@given(rows)
def test_a_row_is_the_same_when_it_is_written_and_read(row: BufferedRow) -> None:
    assert decode(encode(row)) == row


def test_a_row_has_no_headers_when_an_old_version_wrote_that_there_are_none() -> None:
    row, data = OF_KAFKA[0]
    assert decode(bytes.fromhex(data.replace(ORIGIN, ORIGIN[:-8] + "ffffffff"))) == row


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes.fromhex(OF_KAFKA[0][1])[:-1],
        bytes.fromhex(OF_KAFKA[0][1]) + b"\x00",
        bytes.fromhex(OF_KAFKA[0][1].replace("0000000176", "0000ffff76")),
        bytes.fromhex(OF_KAFKA[0][1].replace("0000000176", "fffffff076")),
        bytes.fromhex(OF_KAFKA[0][1].replace("0000000174", "00000001ff")),
        bytes.fromhex("00000000000000050000000161"),
    ],
    ids=["empty", "cut", "longer", "long-value", "negative-length", "bad-topic", "version-0"],
)
def test_bytes_are_refused_when_they_are_no_row(data: bytes) -> None:
    with pytest.raises(
        DeserializationError, match=r"no row of a buffer: .*Kafka Streams can be read from version 2\.4"
    ):
        decode(data)


@pytest.mark.parametrize(
    ("row", "size"),
    [
        (BufferedRow(5, None, None, None, PLAIN), 8 + 3 + 16 + 1 + 4),
        (BufferedRow(5, b"pp", b"pp", b"v", PLAIN), 8 + 3 + 16 + 1 + 4 + 2 + 1),
        (BufferedRow(5, b"pp", b"ooo", b"v", PLAIN), 8 + 3 + 16 + 1 + 4 + 2 + 3 + 1),
        (BufferedRow(5, None, None, None, HEADED), 8 + 3 + 16 + 5 + 4 + 2 + 1),
        (BufferedRow(5, None, None, None, (1, 2, TopicPartition("é𝄞", 0), ())), 8 + 3 + 16 + 3 + 4),
    ],
    ids=["empty", "old-is-prior", "old-differs", "headers", "two-chars-for-one"],
)
def test_the_size_is_javas_estimate(row: BufferedRow, size: int) -> None:
    assert size_bytes(b"key", row) == size
