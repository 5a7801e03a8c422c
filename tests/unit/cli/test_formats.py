from typing import Any

import pytest
import typer

from streamlib.cli.formats import format_of


@pytest.mark.parametrize(
    ("name", "json", "data"),
    [
        ("string", "héllo", b"h\xc3\xa9llo"),
        ("json", {"a": [1, None]}, b'{"a":[1,null]}'),
        ("int64", -2, b"\xff\xff\xff\xff\xff\xff\xff\xfe"),
        ("float64", 1.5, b"\x3f\xf8\x00\x00\x00\x00\x00\x00"),
        ("bytes", "AAE=", b"\x00\x01"),
        ("windowed-string:60000", {"key": "k", "start": 60_000, "end": 120_000}, b"k" + (60_000).to_bytes(8, "big")),
        ("windowed-int64:1m", {"key": 1, "start": 0, "end": 60_000}, (1).to_bytes(8, "big") + bytes(8)),
        (
            "session-string",
            {"key": "k", "start": 5, "end": 9},
            b"k" + (9).to_bytes(8, "big") + (5).to_bytes(8, "big"),
        ),
    ],
)
def test_json_becomes_the_bytes_of_kafkas_serdes_and_back(name: str, json: Any, data: bytes) -> None:
    form = format_of(name)
    assert form.serde.serialize(form.from_json(json)) == data
    assert form.to_json(form.serde.deserialize(data)) == json


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("string", '"x"', '"x"'),
        ("json", '"x"', "x"),
        ("int64", "5", 5),
        ("float64", "5", 5.0),
        ("bytes", "AA==", b"\0"),
    ],
)
def test_text_of_a_line_becomes_an_object(name: str, text: str, wanted: Any) -> None:
    assert format_of(name).from_text(text) == wanted


def test_a_whole_number_may_be_a_string_key() -> None:
    assert format_of("string").from_json(5) == "5"


@pytest.mark.parametrize(
    ("name", "json"),
    [
        ("string", 1.5),
        ("string", True),
        ("int64", "5"),
        ("int64", True),
        ("float64", "5"),
        ("bytes", "no base64!"),
        ("bytes", 5),
        ("windowed-string:5", "k"),
        ("windowed-string:5", {"key": "k"}),
    ],
)
def test_json_of_another_kind_is_refused(name: str, json: Any) -> None:
    with pytest.raises(ValueError, match=r"needs|base64|key is"):
        format_of(name).from_json(json)


def test_a_windowed_key_has_no_text_form() -> None:
    with pytest.raises(ValueError, match="use --envelope"):
        format_of("session-string").from_text("k")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("avro", '"avro" is no format: there are string, json'),
        ("windowed-string", "lacks the size of the windows: write windowed-string:60000"),
        ("windowed-avro:5", '"avro" is no format'),
        ("windowed-string:soon", "no duration"),
    ],
)
def test_an_unknown_format_is_refused_with_those_there_are(name: str, message: str) -> None:
    with pytest.raises(typer.BadParameter, match=message):
        format_of(name)
