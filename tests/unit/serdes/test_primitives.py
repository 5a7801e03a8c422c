import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlib import serdes
from streamlib.serdes import AnySerde

INT64S = st.integers(-(2**63), 2**63 - 1)


@pytest.mark.parametrize(
    ("serde", "value", "data"),
    [
        (serdes.BYTES, b"\x00\xff", b"\x00\xff"),
        (serdes.STRING, "aé€𝄞", b"a\xc3\xa9\xe2\x82\xac\xf0\x9d\x84\x9e"),
        (serdes.STRING, "", b""),
        (serdes.INT64, 1, b"\x00\x00\x00\x00\x00\x00\x00\x01"),
        (serdes.INT64, -1, b"\xff" * 8),
        (serdes.INT64, -(2**63), b"\x80" + b"\x00" * 7),
        (serdes.FLOAT64, 1.5, b"\x3f\xf8" + b"\x00" * 6),
        (serdes.FLOAT64, -math.inf, b"\xff\xf0" + b"\x00" * 6),
    ],
)
def test_bytes_are_those_of_java_when_a_value_is_serialized(serde: AnySerde, value: object, data: bytes) -> None:
    assert serde.serialize(value) == data
    assert serde.deserialize(data) == value
    assert serde.serialize_many([value, value]) == [data, data]
    assert serde.deserialize_many([data, data]) == [value, value]


@pytest.mark.parametrize("serde", [serdes.BYTES, serdes.STRING, serdes.INT64, serdes.FLOAT64])
def test_none_stays_none_when_a_column_has_gaps(serde: AnySerde) -> None:
    value = serde.deserialize(b"12345678")
    assert serde.serialize_many([None, value, None]) == [None, b"12345678", None]
    assert serde.deserialize_many([None, b"12345678", None]) == [None, value, None]
    assert serde.serialize_many([]) == []
    assert serde.deserialize_many([]) == []


@given(st.lists(INT64S | st.none()))
def test_a_column_of_integers_comes_back_when_it_is_serialized(values: list[int | None]) -> None:
    assert serdes.INT64.deserialize_many(serdes.INT64.serialize_many(values)) == values


@given(st.lists(st.floats(allow_nan=False) | st.none()))
def test_a_column_of_floats_comes_back_when_it_is_serialized(values: list[float | None]) -> None:
    assert serdes.FLOAT64.deserialize_many(serdes.FLOAT64.serialize_many(values)) == values


@pytest.mark.parametrize("data", [[b"1234567", b"123456789"], [b""], [b"12345678", b"1"]])
def test_a_column_is_refused_when_a_number_has_not_8_bytes(data: list[bytes | None]) -> None:
    with pytest.raises(Exception, match="requires a buffer of 8 bytes"):
        serdes.INT64.deserialize_many(data)


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, "1", 1.5])
def test_an_integer_is_refused_when_it_is_not_one_of_8_bytes(value: object) -> None:
    serde: AnySerde = serdes.INT64
    with pytest.raises(Exception, match=r"integer|int|format"):
        serde.serialize_many([1, value])
    with pytest.raises(Exception, match=r"integer|int|format"):
        serde.serialize(value)


def test_raw_bytes_name_the_mend_when_they_get_something_else() -> None:
    serde: AnySerde = serdes.BYTES
    with pytest.raises(TypeError, match="got str: name the serde"):
        serde.serialize_many([b"a", "b"])


def test_text_is_refused_when_it_is_not_text() -> None:
    serde: AnySerde = serdes.STRING
    with pytest.raises(TypeError):
        serde.serialize_many([b"a"])
    with pytest.raises(UnicodeDecodeError):
        serde.deserialize_many([b"\xff"])


def test_the_name_is_shown_when_a_serde_is_printed() -> None:
    assert [repr(serde) for serde in (serdes.BYTES, serdes.INT64)] == ["Serde(bytes)", "Serde(int64)"]


class Unequal:
    def __eq__(self, other: object) -> bool:
        raise AssertionError

    __hash__ = None  # type: ignore[assignment]


def test_objects_are_not_compared_when_a_column_is_searched_for_none() -> None:
    serde = serdes.Serde[Unequal]("any", lambda _: b"x", lambda _: Unequal())
    assert serde.serialize_many([Unequal(), None]) == [b"x", None]


def test_decoded_strings_are_not_encoded_again_by_their_serde():
    data: list[bytes | None] = [b"a", None, b"\xc3\xa9"]
    column = serdes.STRING.deserialize_many(data)
    assert column == ["a", None, "é"]
    assert serdes.STRING.serialize_many(column) is data
    assert serdes.STRING.serialize_many(serdes.STRING.cut(column, 1, 3)) == data[1:]
    assert serdes.STRING.serialize_many(serdes.STRING.cut(list(column), 1, 3)) == data[1:]


def test_bytes_of_strings_are_their_own_serde_s_only():
    column = serdes.STRING.with_bytes(["a"], [b"known"])
    utf16 = replace(serdes.STRING, name="utf-16", serialize=lambda text: text.encode("utf-16-be"))
    assert serdes.STRING.serialize_many(column) == [b"known"]
    assert utf16.serialize_many(column) == [b"\0a"]
    assert serdes.STRING.serialize_many([*column, "b"]) == [b"a", b"b"]


def test_bytes_are_not_kept_when_strings_are_decoded_in_another_way():
    lower = replace(serdes.STRING, name="lower", deserialize=lambda data: data.decode().lower())
    assert lower.serialize_many(lower.deserialize_many([b"A"])) == [b"a"]
