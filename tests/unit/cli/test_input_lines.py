import asyncio
import os
from pathlib import Path

import pytest
import typer

from streamlib.cli.input_lines import CHUNK_BYTES, LineOptions, Row, line_parser, read_lines


@pytest.mark.parametrize(
    ("options", "line", "wanted"),
    [
        (LineOptions(), b'{"a": 1}', Row(None, b'{"a":1}', None, None, [])),
        (LineOptions(), b"null", Row(None, None, None, None, [])),
        (LineOptions(value_format="string"), b"two words ", Row(None, b"two words ", None, None, [])),
        (LineOptions(value_format="string"), b"", Row(None, b"", None, None, [])),
        (LineOptions(key_field="k"), b'{"k":"a"}', Row(b"a", b'{"k":"a"}', None, None, [])),
        (LineOptions(key_field="k"), b'{"k":7}', Row(b"7", b'{"k":7}', None, None, [])),
        (LineOptions(key_field="k", key_format="int64"), b'{"k":0}', Row(bytes(8), b'{"k":0}', None, None, [])),
        (LineOptions(key_field="k"), b'{"k":null}', Row(None, b'{"k":null}', None, None, [])),
        (LineOptions(key_field="k", value_format="string"), b'{"k": "a"}', Row(b"a", b'{"k": "a"}', None, None, [])),
        (LineOptions(key_separator=":"), b"a:[1]", Row(b"a", b"[1]", None, None, [])),
        (LineOptions(key_separator="::", value_format="string"), b"a:b::c::d", Row(b"a:b", b"c::d", None, None, [])),
        (LineOptions(timestamp_field="t"), b'{"t":5}', Row(None, b'{"t":5}', 5, None, [])),
        (LineOptions(timestamp_field="t"), b'{"t":"1970-01-02"}', Row(None, b'{"t":"1970-01-02"}', 86400000, None, [])),
    ],
)  # fmt: skip
def test_a_line_becomes_a_row(options: LineOptions, line: bytes, wanted: Row) -> None:
    assert line_parser(options)(line) == wanted


def test_an_envelope_says_everything() -> None:
    parse = line_parser(LineOptions(envelope=True))
    line = (
        b'{"key":"k","value":{"a":1},"timestamp":5,"partition":2,"topic":"t","offset":9,'
        b'"headers":[["h","v"],["h",null],["b",{"base64":"/w=="}]]}'
    )
    assert parse(line) == Row(b"k", b'{"a":1}', 5, 2, [("h", b"v"), ("h", None), ("b", b"\xff")])
    assert parse(b'{"key":null,"value":null}') == Row(None, None, None, None, [])
    assert parse(b'{"value":1,"headers":{"a":"b"}}') == Row(None, b"1", None, None, [("a", b"b")])


@pytest.mark.parametrize("options", [LineOptions(), LineOptions(key_field="k"), LineOptions(envelope=True)])
def test_a_blank_line_between_json_values_is_skipped(options: LineOptions) -> None:
    assert line_parser(options)(b"  ") is None


@pytest.mark.parametrize(
    ("options", "line", "message"),
    [
        (LineOptions(), b"{", "truncated"),
        (LineOptions(), b"\xff", "codec can't decode"),
        (LineOptions(key_field="k"), b"{}", 'the value has no field "k"'),
        (LineOptions(key_field="k"), b"[1]", 'the value has no field "k"'),
        (LineOptions(key_field="k"), b'{"k":[]}', "format string needs text"),
        (LineOptions(key_separator=":"), b"5", 'there is no ":" between key and value'),
        (LineOptions(timestamp_field="t"), b'{"t":"soon"}', "'soon' is no timestamp"),
        (LineOptions(timestamp_field="t"), b'{"t":null}', "None is no timestamp"),
        (LineOptions(value_format="int64"), b"9223372036854775808", "cannot be written as int64"),
        (LineOptions(envelope=True), b'{"key":1}', "an envelope is a JSON object with a value"),
        (LineOptions(envelope=True), b'{"value":1,"val":2}', "an envelope is"),
        (LineOptions(envelope=True), b'{"value":1,"partition":-1}', "partition is a number from 0 on"),
        (LineOptions(envelope=True), b'{"value":1,"headers":[["a"]]}', "headers are"),
        (LineOptions(envelope=True), b'{"value":1,"headers":"a"}', "headers are"),
    ],
)
def test_a_line_that_does_not_fit_says_why(options: LineOptions, line: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        line_parser(options)(line)


@pytest.mark.parametrize(
    "options",
    [
        LineOptions(envelope=True, key_field="k"),
        LineOptions(envelope=True, timestamp_field="t"),
        LineOptions(key_field="k", key_separator=":"),
        LineOptions(key_separator=""),
    ],
)
def test_options_that_exclude_each_other_are_refused(options: LineOptions) -> None:
    with pytest.raises(typer.BadParameter):
        line_parser(options)


async def collected(descriptor: int) -> list[bytes]:
    try:
        return [line async for lines in read_lines(descriptor) for line in lines]
    finally:
        os.close(descriptor)


async def test_lines_of_a_file_longer_than_a_chunk_come_whole(tmp_path: Path) -> None:
    lines = [b"x" * (CHUNK_BYTES + 10), b"", b"short", b"y" * CHUNK_BYTES]
    (tmp_path / "lines").write_bytes(b"\n".join(lines))
    assert await collected(os.open(tmp_path / "lines", os.O_RDONLY)) == lines


async def test_windows_line_ends_are_taken_off(tmp_path: Path) -> None:
    (tmp_path / "lines").write_bytes(b"a\r\nb\r\n")
    assert await collected(os.open(tmp_path / "lines", os.O_RDONLY)) == [b"a", b"b"]


async def test_lines_of_a_pipe_come_before_it_ends() -> None:
    reader, writer = os.pipe()
    lines = read_lines(reader)
    os.write(writer, b"one\ntw")
    assert await anext(lines) == [b"one"]
    following = asyncio.ensure_future(anext(lines))
    await asyncio.sleep(0)
    assert not following.done()
    os.write(writer, b"o\nthree")
    assert await following == [b"two"]
    os.close(writer)
    assert await anext(lines) == [b"three"]
    with pytest.raises(StopAsyncIteration):
        await anext(lines)
    os.close(reader)
