"""How records lie in the database: a slice of one partition is one blob, columns side by side.

A blob is the version byte 1, then a MessagePack array of keys, values, timestamps and headers (nil when no record has
any). Next: `log`, which writes and reads them.
"""

from typing import NamedTuple

import msgspec

from streamlib.errors import TransportError
from streamlib.record import Headers

FORMAT_VERSION = 1
_VERSION_BYTE = bytes([FORMAT_VERSION])


class Columns(NamedTuple):
    """Consecutive records of one partition."""

    keys: list[bytes | None]
    values: list[bytes | None]
    timestamps: list[int]
    headers: list[Headers] | None


_Stored = tuple[
    list[bytes | None],
    list[bytes | None],
    list[int],
    list[tuple[tuple[str, bytes | None], ...]] | None,
]
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Stored)


def encode(columns: Columns) -> bytes:
    """The blob that holds ``columns``."""
    return _VERSION_BYTE + _encoder.encode(tuple(columns))


def decode(blob: bytes) -> Columns:
    """The columns in a blob.

    Raises:
        TransportError: It was written by a newer streamlib, or is damaged.
    """
    if not blob.startswith(_VERSION_BYTE):
        msg = (
            f"records stored in format {blob[:1].hex() or 'nothing'}, this streamlib reads format {FORMAT_VERSION}: "
            "use the streamlib version that wrote them"
        )
        raise TransportError(msg)
    try:
        keys, values, timestamps, headers = _decoder.decode(memoryview(blob)[1:])
    except msgspec.DecodeError as error:
        msg = f"stored records are damaged ({error}): restore the broker's directory from a backup"
        raise TransportError(msg) from error
    return Columns(keys, values, timestamps, None if headers is None else list(headers))


def join(parts: list[Columns]) -> Columns:
    """Columns one after the other; a single part is returned as it is."""
    if len(parts) == 1:
        return parts[0]
    keys: list[bytes | None] = []
    values: list[bytes | None] = []
    timestamps: list[int] = []
    for part in parts:
        keys += part.keys
        values += part.values
        timestamps += part.timestamps
    headers: list[Headers] | None = None
    if any(part.headers is not None for part in parts):
        headers = []
        for part in parts:
            headers += part.headers or [()] * len(part.keys)
    return Columns(keys, values, timestamps, headers)


def cut(columns: Columns, start: int, stop: int) -> Columns:
    """Rows ``start`` to ``stop``."""
    headers = columns.headers
    return Columns(
        columns.keys[start:stop],
        columns.values[start:stop],
        columns.timestamps[start:stop],
        None if headers is None else headers[start:stop],
    )
