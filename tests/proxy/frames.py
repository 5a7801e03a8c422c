"""One request or answer on its way through the proxy, and the few of them that are read or changed.

Next: `rules`, which say what becomes of a frame.
"""

import struct
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, IntEnum
from io import BytesIO
from typing import Any

from aiokafka.protocol import coordination, fetch, metadata

from streamlib.record import TopicPartition

REQUEST_HEADER = struct.Struct(">hhih")
CORRELATION = struct.Struct(">i")
FLEXIBLE_METADATA = 9
INT = struct.Struct(">i")


class Api(IntEnum):
    """Kinds of requests by their number in Kafka's protocol."""

    PRODUCE = 0
    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3
    OFFSET_COMMIT = 8
    OFFSET_FETCH = 9
    FIND_COORDINATOR = 10
    JOIN_GROUP = 11
    HEARTBEAT = 12
    LEAVE_GROUP = 13
    SYNC_GROUP = 14
    API_VERSIONS = 18
    INIT_PRODUCER_ID = 22
    ADD_PARTITIONS_TO_TXN = 24
    ADD_OFFSETS_TO_TXN = 25
    END_TXN = 26
    TXN_OFFSET_COMMIT = 28


class Kind(Enum):
    """Which way a frame goes."""

    REQUEST = "request"
    ANSWER = "answer"


@dataclass(frozen=True)
class Frame:
    """What passes between two length fields.

    Attributes:
        kind: Request or answer.
        api, version: Of the request, also for its answer; an int for kinds that `Api` does not name.
        correlation: Which answer belongs to which request of a connection.
        connection: Number of the connection, in the order in which clients opened them.
        at: When it came, by the event loop's clock.
        data: All of it, header included; empty in the proxy's log.
    """

    kind: Kind
    api: int
    version: int
    correlation: int
    connection: int
    at: float
    data: bytes = b""


def request_frame(data: bytes, connection: int, at: float) -> Frame:
    """A request, by its header."""
    api, version, correlation, _ = REQUEST_HEADER.unpack_from(data)
    return Frame(Kind.REQUEST, api, version, correlation, connection, at, data)


def correlation_of(answer: bytes) -> int:
    """To which request an answer belongs."""
    return int(CORRELATION.unpack_from(answer)[0])


def addresses_replaced(frame: Frame, before: tuple[str, int], after: tuple[str, int]) -> bytes:
    """The data of an answer, in which the broker's address is the proxy's."""
    if frame.api == Api.METADATA and frame.version >= FLEXIBLE_METADATA:
        return _flexible_metadata_replaced(frame.data, before, after)
    if frame.api == Api.METADATA:
        answer = _decoded(metadata, "MetadataResponse", frame)
        answer.brokers = [
            (node, *(after if (host, port) == before else (host, port)), *rest)
            for node, host, port, *rest in answer.brokers
        ]
        return _encoded(frame, answer)
    if frame.api == Api.FIND_COORDINATOR:
        answer = _decoded(coordination, "FindCoordinatorResponse", frame)
        if (answer.host, answer.port) == before:
            answer.host, answer.port = after
        return _encoded(frame, answer)
    return frame.data


def fetched_partitions(frame: Frame) -> set[TopicPartition]:
    """Which partitions an answer to Fetch has records of."""
    topics = _decoded(fetch, "FetchResponse", frame).topics
    return {TopicPartition(topic, part[0]) for topic, parts in topics for part in parts if part[-1]}


def without_records(frame: Frame, tps: Collection[TopicPartition]) -> bytes:
    """The data of an answer to Fetch, in which some partitions have no records; their ends stay as they are."""
    answer = _decoded(fetch, "FetchResponse", frame)
    answer.topics = [
        (topic, [(*part[:-1], b"") if TopicPartition(topic, part[0]) in tps else part for part in parts])
        for topic, parts in answer.topics
    ]
    return _encoded(frame, answer)


def _flexible_metadata_replaced(data: bytes, before: tuple[str, int], after: tuple[str, int]) -> bytes:
    """The same where lengths are variable and fields may be tagged (KIP-482): only the brokers are gone through."""
    stream = BytesIO(data)
    head = stream.read(CORRELATION.size + 1 + INT.size)  # no tagged fields, throttle time
    parts = [head, _varint(count := _read_varint(stream))]
    for _ in range(count - 1):
        node = stream.read(INT.size)
        host = stream.read(_read_varint(stream) - 1).decode()
        (port,) = INT.unpack(stream.read(INT.size))
        host, port = after if (host, port) == before else (host, port)
        parts += [node, _varint(len(host) + 1), host.encode(), INT.pack(port)]
        rack = _read_varint(stream)
        parts += [_varint(rack), stream.read(max(0, rack - 1)), stream.read(1)]
    return b"".join([*parts, stream.read()])


def _read_varint(stream: BytesIO) -> int:
    number, shift = 0, 0
    while True:
        (byte,) = stream.read(1)
        number |= (byte & 127) << shift
        if byte < 128:
            return number
        shift += 7


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    return bytes([*encoded, number])


def _decoded(module: Any, name: str, frame: Frame) -> Any:
    return getattr(module, f"{name}_v{frame.version}").decode(BytesIO(frame.data[CORRELATION.size :]))


def _encoded(frame: Frame, answer: Any) -> bytes:
    return CORRELATION.pack(frame.correlation) + bytes(answer.encode())
