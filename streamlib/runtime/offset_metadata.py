"""The string kept with a committed offset: what a task must remember that is in no store.

That is the partition's time, so that stream time survives a restart, and what operators have put beside it: up to which
time windows were emitted. Byte-equal to Kafka Streams' (TopicPartitionMetadata version 2), in base64: ``02 | partition
time int64``, then, if there are entries, their number int32 and for each ``length int32 | store name | value int64``.

Next: `task`, which gives and takes it.
"""

import base64
import binascii
import struct
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

_FIXED = struct.Struct(">bq")
_LENGTH = struct.Struct(">i")
_VALUE = struct.Struct(">q")
_VERSION = 2
_NOTHING: Mapping[str, int] = MappingProxyType({})


class Position(NamedTuple):
    """Where an input goes on, and what was kept with that.

    Attributes:
        offset: The next offset to process.
        partition_time_ms: Highest timestamp seen in the partition; -1 when none was.
        processor: What operators keep, by store name; every input of a task has all of it, newer or older.
    """

    offset: int
    partition_time_ms: int = -1
    processor: Mapping[str, int] = _NOTHING


def encode_metadata(partition_time_ms: int, processor: Mapping[str, int] = _NOTHING) -> str:
    """The metadata string of a partition; entries are written in the order of their names."""
    data = _FIXED.pack(_VERSION, partition_time_ms)
    if processor:
        data += _LENGTH.pack(len(processor))
        for name in sorted(processor):
            raw = name.encode()
            data += _LENGTH.pack(len(raw)) + raw + _VALUE.pack(processor[name])
    return base64.b64encode(data).decode()


def decode_position(offset: int, metadata: str) -> Position:
    """A committed offset with what its metadata string says: nothing if neither Kafka Streams nor streamlib wrote it.

    Version 1, without entries, is read as well.
    """
    try:
        data = base64.b64decode(metadata, validate=True)
    except binascii.Error:
        return Position(offset)
    if len(data) < _FIXED.size or data[0] not in (1, _VERSION):
        return Position(offset)
    return Position(offset, _FIXED.unpack_from(data)[1], _entries(data) if data[0] == _VERSION else _NOTHING)


def merged(processor: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """What a task's inputs keep, together: of each entry the largest value. Source: ProcessorMetadata.merge."""
    largest: dict[str, int] = {}
    for entries in processor:
        for name, value in entries.items():
            largest[name] = max(value, largest.get(name, value))
    return largest


def _entries(data: bytes) -> Mapping[str, int]:
    """What follows the time; nothing when it is cut short."""
    found: dict[str, int] = {}
    at = _FIXED.size
    try:
        count = _LENGTH.unpack_from(data, at)[0] if len(data) > at else 0
        at += _LENGTH.size
        for _ in range(count):
            (length,) = _LENGTH.unpack_from(data, at)
            at += _LENGTH.size
            name = data[at : at + length].decode()
            at += length
            (found[name],) = _VALUE.unpack_from(data, at)
            at += _VALUE.size
    except (struct.error, UnicodeDecodeError):
        return _NOTHING
    return found
