"""Lines of text to rows of a topic, and the lines themselves from a file, a pipe or a terminal. Next: `produce`."""

import base64
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import typer

from streamlib.cli.formats import KEY_FORMATS_HELP, VALUE_FORMATS_HELP, Format, format_of
from streamlib.cli.options import option
from streamlib.cli.times import moment_ms

CHUNK_BYTES = 1 << 20
ENVELOPE_NAMES = frozenset({"key", "value", "timestamp", "headers", "partition", "topic", "offset"})
"""``topic`` and ``offset`` are allowed and ignored, so that what `consume` prints can be produced again."""


@dataclass(frozen=True)
class LineOptions:
    """What a line holds."""

    key_field: Annotated[
        str | None, option("--key-field", scope="produce", help="Take the key from this field of the JSON value.")
    ] = None
    key_separator: Annotated[
        str | None, option("--key-separator", scope="produce", help="A line is the key, this, and the value.")
    ] = None
    timestamp_field: Annotated[
        str | None,
        option(
            "--timestamp-field",
            scope="produce",
            help="Take the timestamp from this field: ms since the epoch, or ISO 8601.",
            show_default="now",
        ),
    ] = None
    envelope: Annotated[
        bool,
        option(
            "--envelope",
            scope="produce",
            help="A line is a JSON object with key, value, timestamp, headers, partition, as consume prints them.",
        ),
    ] = False
    key_format: Annotated[str, option("--key-format", scope="produce", help=KEY_FORMATS_HELP)] = "string"
    value_format: Annotated[str, option("--value-format", scope="produce", help=VALUE_FORMATS_HELP)] = "json"


class Row(NamedTuple):
    """A record to write; None for a timestamp or partition to be chosen."""

    key: bytes | None
    value: bytes | None
    timestamp: int | None
    partition: int | None
    headers: list[tuple[str, bytes | None]]


def line_parser(options: LineOptions) -> Callable[[bytes], Row | None]:
    """A function from a line to its row, or None for a blank line that holds no value.

    It raises ValueError, saying what is wrong with the line.

    Raises:
        typer.BadParameter: Options that exclude each other, or an unknown format.
    """
    fields = [options.key_field, options.timestamp_field]
    if options.envelope and (options.key_separator is not None or any(fields)):
        msg = "--envelope holds key and timestamp itself: leave out --key-field, --key-separator and --timestamp-field"
        raise typer.BadParameter(msg)
    if options.key_field is not None and options.key_separator is not None:
        msg = "the key comes from --key-field or from --key-separator, not both"
        raise typer.BadParameter(msg)
    if options.key_separator == "":
        msg = "--key-separator cannot be empty"
        raise typer.BadParameter(msg)
    keys, values = format_of(options.key_format), format_of(options.value_format)
    if options.envelope:
        return lambda line: _from_envelope(line, keys, values) if line.strip() else None
    blank_is_nothing = options.value_format == "json" or any(fields)
    return lambda line: None if blank_is_nothing and not line.strip() else _from_line(line, options, keys, values)


def _from_line(line: bytes, options: LineOptions, keys: Format, values: Format) -> Row:
    text = line.decode()
    key: Any = None
    if options.key_separator is not None:
        head, separator, text = text.partition(options.key_separator)
        if not separator:
            msg = f'there is no "{options.key_separator}" between key and value'
            raise ValueError(msg)
        key = keys.from_text(head)
    value = values.from_text(text)
    timestamp = None
    if options.key_field is not None or options.timestamp_field is not None:
        document = value if values.name == "json" else _loads(text)
        if options.key_field is not None:
            found = _field(document, options.key_field)
            key = None if found is None else keys.from_json(found)
        if options.timestamp_field is not None:
            timestamp = _timestamp(_field(document, options.timestamp_field))
    return Row(_bytes(keys, key), _bytes(values, value), timestamp, None, [])


def _from_envelope(line: bytes, keys: Format, values: Format) -> Row:
    document = _loads(line)
    if not isinstance(document, dict) or "value" not in document or document.keys() - ENVELOPE_NAMES:
        msg = f"an envelope is a JSON object with a value and perhaps {', '.join(sorted(ENVELOPE_NAMES - {'value'}))}"
        raise ValueError(msg)
    key, value, partition = document.get("key"), document["value"], document.get("partition")
    if partition is not None and (not isinstance(partition, int) or partition < 0):
        msg = f"partition is a number from 0 on, not {partition!r}"
        raise ValueError(msg)
    timestamp = document.get("timestamp")
    return Row(
        None if key is None else _bytes(keys, keys.from_json(key)),
        None if value is None else _bytes(values, values.from_json(value)),
        None if timestamp is None else _timestamp(timestamp),
        partition,
        _headers(document.get("headers") or []),
    )


def _bytes(form: Format, value: Any) -> bytes | None:
    if value is None:
        return None
    try:
        data: bytes = form.serde.serialize(value)
    except Exception as error:
        msg = f"{value!r} cannot be written as {form.name}: {error}"
        raise ValueError(msg) from None
    return data


def _loads(text: str | bytes) -> Any:
    import msgspec

    return msgspec.json.decode(text)


def _field(document: Any, name: str) -> Any:
    if not isinstance(document, dict) or name not in document:
        msg = f'the value has no field "{name}"'
        raise ValueError(msg)
    return document[name]


def _timestamp(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    try:
        return moment_ms(value)
    except (typer.BadParameter, AttributeError):
        msg = f"{value!r} is no timestamp: it must be ms since the epoch or ISO 8601"
        raise ValueError(msg) from None


def _headers(value: Any) -> list[tuple[str, bytes | None]]:
    pairs = list(value.items()) if isinstance(value, dict) else value
    headers: list[tuple[str, bytes | None]] = []
    for pair in pairs if isinstance(pairs, list) else [pairs]:
        match pair:
            case [str(name), None] | (str(name), None):
                headers.append((name, None))
            case [str(name), str(text)] | (str(name), str(text)):
                headers.append((name, text.encode()))
            case [str(name), {"base64": str(text)}] | (str(name), {"base64": str(text)}):
                headers.append((name, base64.b64decode(text, validate=True)))
            case _:
                msg = f'headers are [["name", "text" or null or {{"base64": "..."}}], ...], not {value!r}'
                raise ValueError(msg)
    return headers


async def read_lines(descriptor: int) -> AsyncIterator[list[bytes]]:
    """Lines without their ends, in runs as they arrive; the last one need not be ended.

    The loop runs on while a pipe or a terminal is silent, so that Ctrl-C is heard.
    """
    rest: list[bytes] = []
    while data := await _read(descriptor):
        head, newline, tail = data.rpartition(b"\n")
        if not newline:
            rest.append(data)
            continue
        yield [line.removesuffix(b"\r") for line in b"".join([*rest, head]).split(b"\n")]
        rest = [tail]
    if last := b"".join(rest):
        yield [last]


async def _read(descriptor: int) -> bytes:
    import asyncio

    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    try:
        loop.add_reader(descriptor, readable.set)
    except OSError:  # a regular file: always ready
        return os.read(descriptor, CHUNK_BYTES)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(descriptor)
    return os.read(descriptor, CHUNK_BYTES)
