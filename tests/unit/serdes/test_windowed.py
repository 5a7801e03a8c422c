from datetime import timedelta

import pytest

from streamlib import serdes
from streamlib.record import Windowed
from streamlib.serdes import AnySerde

TIME = serdes.time_windowed(serdes.STRING, timedelta(milliseconds=500))
SESSION = serdes.session_windowed(serdes.STRING)


@pytest.mark.parametrize(
    ("serde", "key", "data"),
    [
        (TIME, Windowed("k", 1000, 1500), "6b00000000000003e8"),
        (serdes.time_windowed(serdes.STRING, None), Windowed("k", 7, 2**63 - 1), "6b0000000000000007"),
        (SESSION, Windowed("k", 5, 17), "6b00000000000000110000000000000005"),
    ],
)
def test_bytes_are_those_of_java_when_a_windowed_key_is_serialized(
    serde: AnySerde, key: Windowed[str], data: str
) -> None:
    raw = bytes.fromhex(data)
    assert serde.serialize(key) == raw
    assert serde.deserialize(raw) == key
    assert serde.serialize_many([key, key]) == [raw, raw]
    assert serde.serialize_many([key, None]) == [raw, None]
    assert serde.deserialize_many([raw, raw]) == [key, key]
    assert serde.deserialize_many([None, raw]) == [None, key]


@pytest.mark.parametrize("serde", [TIME, SESSION])
def test_the_plain_key_chooses_the_partition_when_a_key_is_windowed(serde: AnySerde) -> None:
    column = serde.serialize_many([Windowed("k", 1, 2), None, Windowed("k", 3, 4)])
    assert serde.partition_bytes is not None
    assert serde.partition_bytes(column) == [b"k", None, b"k"]


@pytest.mark.parametrize("serde", [TIME, SESSION])
def test_bytes_are_refused_when_they_are_too_short_for_a_window(serde: AnySerde) -> None:
    with pytest.raises(Exception, match="unpack requires a buffer"):
        serde.deserialize(b"1234567")
    with pytest.raises(Exception, match="unpack requires a buffer"):
        serde.deserialize_many([b"1234567"])


def test_the_inner_serde_is_named_when_a_serde_is_printed() -> None:
    assert repr(TIME) == "Serde(time_windowed[string])"
    assert repr(SESSION) == "Serde(session_windowed[string])"
