"""The bytes of an update that waits in a buffer: where its record came from, three values, its place in time.

``timestamp int64 | offset int64 | topic | partition int32 | headers | prior | old | new | time int64``. Topic and
values are ``length int32 | bytes``, -1 for none, and for an old value -2 when it is the prior one. Headers are a count
int32, then name and value of each. Kafka Streams writes the same since 2.4, with a header ``v`` of 3, so a buffer can
be taken over from it. Next: `change_buffer`, which keeps such rows.
"""

import struct
from functools import lru_cache
from struct import Struct
from typing import NamedTuple

from streamlib.errors import DeserializationError
from streamlib.record import Headers, TopicPartition

VERSION_HEADER: Headers = (("v", b"\x03"),)
"""Of every record with a value in the changelog of a buffer."""

UNKNOWN_OFFSET = -1
NOWHERE = TopicPartition("", -1)
"""Stands for the origin of a record that came from no topic: from a punctuation, or a cache that cannot tell."""

_NONE = -1
_SAME_AS_PRIOR = -2
_ORIGIN = Struct(">qqi")
_LENGTH = Struct(">i")
_PLACE = Struct(">ii")
_TIME = Struct(">q")
_NULL = _LENGTH.pack(_NONE)
_SAME = _LENGTH.pack(_SAME_AS_PRIOR)

Origin = tuple[int, int, TopicPartition, Headers]
"""Timestamp, offset, topic and partition, headers of the record that caused an update."""


class BufferedRow(NamedTuple):
    """An update as bytes.

    Attributes:
        time: Its place in the order of the buffer.
        prior: The value the table had before the first update that waits.
        old: The value before this update.
        new: The value after it.
        origin: Where it came from.
    """

    time: int
    prior: bytes | None
    old: bytes | None
    new: bytes | None
    origin: Origin


def encode(row: BufferedRow) -> bytes:
    """The bytes of a row. Source: Kafka's ``BufferValue`` and ``ProcessorRecordContext``."""
    time, prior, old, new, (timestamp, offset, tp, headers) = row
    topic = tp.topic.encode()
    parts = [_ORIGIN.pack(timestamp, offset, len(topic)), topic, _PLACE.pack(tp.partition, len(headers))]
    for name, content in headers:
        parts += (_sized(name.encode()), _sized(content))
    same = old is not None and old == prior
    parts += (_sized(prior), _SAME if same else _sized(old), _sized(new), _TIME.pack(time))
    return b"".join(parts)


def decode(data: bytes) -> BufferedRow:
    """The row of some bytes.

    Raises:
        DeserializationError: They are not laid out like this.
    """
    try:
        timestamp, offset, length = _ORIGIN.unpack_from(data)
        topic, at = _bytes_at(data, _ORIGIN.size, length)
        partition, count = _PLACE.unpack_from(data, at)
        headers, at = _headers_at(data, at + _PLACE.size, count)
        prior, at = _sized_at(data, at)
        (length,) = _LENGTH.unpack_from(data, at)
        old, at = (prior, at + _LENGTH.size) if length == _SAME_AS_PRIOR else _sized_at(data, at)
        new, at = _sized_at(data, at)
        (time,) = _TIME.unpack_from(data, at)
        if at + _TIME.size != len(data):
            msg = f"{len(data) - at - _TIME.size} bytes too many"
            raise ValueError(msg)
        origin = timestamp, offset, _topic_partition(topic or b"", partition), headers
    except (struct.error, ValueError) as cause:
        msg = (
            f"no row of a buffer: {cause} in {len(data)} bytes that begin with {data[:32].hex()}; buffers of Kafka "
            "Streams can be read from version 2.4 on"
        )
        raise DeserializationError(msg) from cause
    return BufferedRow(time, prior, old, new, origin)


def size_bytes(key: bytes, row: BufferedRow) -> int:
    """The memory of a row by Java's estimate. Source: ``residentMemorySizeEstimate`` of Kafka's ``BufferValue``."""
    _, prior, old, new, (_, _, tp, headers) = row
    size = 28 + len(key) + len(prior or b"") + len(new or b"") + _characters(tp.topic)
    if old is not None and old != prior:
        size += len(old)
    for name, content in headers:
        size += _characters(name) + len(content or b"")
    return size


@lru_cache(maxsize=1024)
def _topic_partition(topic: bytes, partition: int) -> TopicPartition:
    return TopicPartition(topic.decode(), partition)


def _bytes_at(data: bytes, at: int, length: int) -> tuple[bytes | None, int]:
    """So many bytes, and where they end."""
    if length == _NONE:
        return None, at
    end = at + length
    if length < 0 or end > len(data):
        msg = f"a length of {length} at byte {at}"
        raise ValueError(msg)
    return data[at:end], end


def _sized_at(data: bytes, at: int) -> tuple[bytes | None, int]:
    return _bytes_at(data, at + _LENGTH.size, _LENGTH.unpack_from(data, at)[0])


def _headers_at(data: bytes, at: int, count: int) -> tuple[Headers, int]:
    if count <= 0:
        return (), at
    headers = []
    for _ in range(count):
        name, at = _sized_at(data, at)
        content, at = _sized_at(data, at)
        headers.append(((name or b"").decode(), content))
    return tuple(headers), at


def _sized(data: bytes | None) -> bytes:
    return _NULL if data is None else _LENGTH.pack(len(data)) + data


def _characters(text: str) -> int:
    """How many characters Java counts: two for each outside of the basic plane."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le")) // 2
