"""How keys and values look on the command line: as text in a line, as JSON in an envelope, as bytes in the topic.

Next: `input_lines`, which reads them, and `consume`, which prints them.
"""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import typer

from streamlib.cli.times import duration_ms

PLAIN_FORMATS = ("string", "json", "int64", "float64", "bytes")
KEY_FORMATS_HELP = f"{', '.join(PLAIN_FORMATS)} (base64), windowed-FORMAT:SIZE (as in windowed-string:60000), or "
KEY_FORMATS_HELP += "session-FORMAT."
VALUE_FORMATS_HELP = f"{', '.join(PLAIN_FORMATS)} (base64)."


@dataclass(frozen=True)
class Format:
    """A serde, and its objects' two other forms; each function raises ValueError for what does not fit.

    Attributes:
        name: As the user wrote it.
        serde: A `Serde`.
        from_text: A part of a line to an object.
        from_json: A JSON value to an object; None never comes.
        to_json: An object to a JSON value; None never comes.
    """

    name: str
    serde: Any
    from_text: Callable[[str], Any]
    from_json: Callable[[Any], Any]
    to_json: Callable[[Any], Any]


def format_of(name: str) -> Format:
    """The format of that name.

    Raises:
        typer.BadParameter: There is none.
    """
    kind, dash, rest = name.partition("-")
    if dash and kind == "windowed":
        inner, _, size = rest.partition(":")
        if size:
            return _windowed(name, _plain(inner), duration_ms(size))
        msg = f"{name} lacks the size of the windows: write {name}:60000, or {name}:1m"
        raise typer.BadParameter(msg)
    if dash and kind == "session":
        return _session(name, _plain(rest))
    return _plain(name)


def _plain(name: str) -> Format:
    import msgspec

    from streamlib import serdes

    if name == "string":
        return Format(name, serdes.STRING, str, _text, _same)
    if name == "json":
        return Format(name, serdes.JSON, msgspec.json.decode, _same, _same)
    if name == "int64":
        return Format(name, serdes.INT64, int, _integer, _same)
    if name == "float64":
        return Format(name, serdes.FLOAT64, float, _number, _same)
    if name == "bytes":
        return Format(name, serdes.BYTES, _from_base64, _from_base64, _to_base64)
    msg = f'"{name}" is no format: there are {", ".join(PLAIN_FORMATS)}, and for keys windowed-FORMAT:SIZE_MS and '
    raise typer.BadParameter(msg + "session-FORMAT")


def _windowed(name: str, inner: Format, size_ms: int) -> Format:
    from streamlib.serdes.windowed import time_windowed_ms

    return _with_window(name, inner, time_windowed_ms(inner.serde, size_ms))


def _session(name: str, inner: Format) -> Format:
    from streamlib.serdes.windowed import session_windowed

    return _with_window(name, inner, session_windowed(inner.serde))


def _with_window(name: str, inner: Format, serde: Any) -> Format:
    from streamlib.record import Windowed

    def from_text(_text: str) -> Any:
        msg = f"a {name} key cannot be written as plain text: use --envelope"
        raise ValueError(msg)

    def from_json(value: Any) -> Any:
        if not isinstance(value, dict) or not {"key", "start", "end"} <= value.keys():
            msg = f'a {name} key is {{"key": ..., "start": ms, "end": ms}}, not {value!r}'
            raise ValueError(msg)
        return Windowed(inner.from_json(value["key"]), int(value["start"]), int(value["end"]))

    def to_json(key: Any) -> Any:
        return {"key": inner.to_json(key.key), "start": key.start, "end": key.end}

    return Format(name, serde, from_text, from_json, to_json)


def _same(value: Any) -> Any:
    return value


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    msg = f"the format string needs text, not {value!r}: choose json"
    raise ValueError(msg)


def _integer(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    msg = f"the format int64 needs a whole number, not {value!r}"
    raise ValueError(msg)


def _number(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    msg = f"the format float64 needs a number, not {value!r}"
    raise ValueError(msg)


def _from_base64(value: Any) -> bytes:
    if isinstance(value, str):
        return base64.b64decode(value, validate=True)
    msg = f"the format bytes needs base64 text, not {value!r}"
    raise ValueError(msg)


def _to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
