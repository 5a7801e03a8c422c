"""What the two sides of a foreign-key join send each other, byte for byte as Kafka Streams' serdes write it.

| | bytes |
|---|---|
| subscription | ``version, instruction, hash (16), primary key, primary partition int32``; version 0 has no partition |
| response | ``version 0, hash (16), foreign value`` |

Bit 7 of the version is set where there is no hash: the left row was deleted. A missing foreign value and one of no
bytes are written alike.

The operators take, keep and give subscriptions as these bytes, since most of them are only passed on: a foreign-key
join has more subscriptions than records. `Subscription` is for those who look at one.
Next: `operators/foreign_key_left`, which sends subscriptions and takes responses.
"""

from dataclasses import dataclass
from operator import itemgetter
from struct import Struct, unpack
from typing import Any, Final

import msgspec

from streamlib.serdes.base import AnySerde, Serde, any_none
from streamlib.serdes.primitives import BYTES, Raw

DELETE_KEY_NO_PROPAGATE: Final = 0
"""Forget the subscription; nothing is answered."""

DELETE_KEY_AND_PROPAGATE: Final = 1
"""Forget the subscription, and answer without a value."""

PROPAGATE_NULL_IF_NO_FK_VAL_AVAILABLE: Final = 2
"""Keep the subscription, and answer with the foreign value or, if there is none, without."""

PROPAGATE_ONLY_IF_FK_VAL_AVAILABLE: Final = 3
"""Keep the subscription, and answer if there is a foreign value."""

INSTRUCTION: Final = 1
"""Which byte of a serialized subscription is the instruction."""

VERSION: Final = 1
NO_HASH: Final = 0x80
HASH_BYTES: Final = 16
_PARTITION_BYTES: Final = 4
_PARTITION: Final = Struct(">i")
_HEAD_BYTES: Final = 2
_KEY_START: Final = _HEAD_BYTES + HASH_BYTES
_first_byte = itemgetter(0)


class Subscription(msgspec.Struct, frozen=True):
    """A left row as the right side knows it.

    Attributes:
        instruction: What to do, one of the numbers above.
        value_hash: Murmur3 of the left row's serialized value; None for a deleted row.
        primary_key: The left row's serialized key.
        primary_partition: Where the answer goes; None in records of Kafka Streams before 3.4.

    Source: SubscriptionWrapper, SubscriptionWrapperSerde.
    """

    instruction: int
    value_hash: bytes | None
    primary_key: bytes
    primary_partition: int | None


class SubscriptionResponse(msgspec.Struct, frozen=True):
    """The right row of a subscription.

    Attributes:
        value_hash: That of the subscription.
        foreign_value: The right row's value; None if there is none.
        primary_partition: That of the subscription; not written, it tells where to write.

    Source: SubscriptionResponseWrapper, SubscriptionResponseWrapperSerde.
    """

    value_hash: bytes | None
    foreign_value: Any
    primary_partition: int | None = None


def subscription_head(instruction: int, *, has_hash: bool) -> bytes:
    """What a subscription with a primary partition begins with; the hash, if any, the primary key and it follow."""
    return bytes((VERSION if has_hash else VERSION | NO_HASH, instruction))


def partition_bytes(partition: int) -> bytes:
    """What such a subscription ends with."""
    return _PARTITION.pack(partition)


def primary_keys_of(column: list[bytes]) -> list[bytes]:
    """The primary keys of serialized subscriptions."""
    return [
        data[_KEY_START:-_PARTITION_BYTES] if data[0] == VERSION else read_subscription(data).primary_key
        for data in column
    ]


def responses_to(column: list[bytes], foreign_values: list[bytes | None]) -> list["SubscriptionResponse"]:
    """Answers to serialized subscriptions."""
    if set(map(_first_byte, column)) != {VERSION}:
        whole = map(read_subscription, column)
        return [
            SubscriptionResponse(each.value_hash, value, each.primary_partition)
            for each, value in zip(whole, foreign_values, strict=True)
        ]
    hashes = [data[_HEAD_BYTES:_KEY_START] for data in column]
    partitions = unpack(f">{len(column)}i", b"".join([data[-_PARTITION_BYTES:] for data in column]))
    return list(map(SubscriptionResponse, hashes, foreign_values, partitions))


def _subscription_bytes(value: Subscription) -> bytes:
    partition, value_hash = value.primary_partition, value.value_hash
    version = 0 if partition is None else VERSION
    if value_hash is None:
        head = bytes((version | NO_HASH, value.instruction))
    else:
        head = bytes((version, value.instruction)) + value_hash
    if partition is None:
        return head + value.primary_key
    return head + value.primary_key + partition_bytes(partition)


def read_subscription(data: bytes) -> Subscription:
    """The fields of a serialized subscription.

    Raises:
        ValueError: It is malformed, or of a newer version.
    """
    version, instruction = _version(data, VERSION, "a subscription"), data[1] if len(data) > 1 else -1
    if not DELETE_KEY_NO_PROPAGATE <= instruction <= PROPAGATE_ONLY_IF_FK_VAL_AVAILABLE:
        msg = f"a subscription has the unknown instruction {instruction}"
        raise ValueError(msg)
    value_hash, start = _hash(data, 2)
    end = len(data) - _PARTITION_BYTES if version else len(data)
    if end < start:
        msg = f"a subscription of {len(data)} bytes is cut off"
        raise ValueError(msg)
    partition = int.from_bytes(data[end:], "big", signed=True) if version else None
    return Subscription(instruction, value_hash, data[start:end], partition)


SUBSCRIPTION: Serde[Subscription] = Serde("subscription", _subscription_bytes, read_subscription, immutable=True)
"""The serde for subscriptions: in the registration topic, in the subscription store and in its changelog."""


@dataclass(frozen=True, repr=False)
class _Checked(Raw):
    """Bytes as they are, once they are known to be subscriptions."""

    def deserialize_many(self, data: list[bytes | None]) -> list[bytes | None]:
        """The same column."""
        given = [each for each in data if each is not None] if any_none(data) else data
        # Enough for every combination of the optional fields; what is shorter may be whole as well.
        if not {each[:_HEAD_BYTES] for each in given} <= _HEADS or min(map(len, given), default=0) < _LONGEST_FRAME:  # type: ignore[index, arg-type]
            for each in given:
                read_subscription(each)  # type: ignore[arg-type]
        return data


def _checked(data: bytes) -> bytes:
    read_subscription(data)
    return data


_LONGEST_FRAME: Final = _KEY_START + _PARTITION_BYTES
_HEADS: Final = {
    bytes((version | flag, instruction))
    for version in range(VERSION + 1)
    for flag in (0, NO_HASH)
    for instruction in range(PROPAGATE_ONLY_IF_FK_VAL_AVAILABLE + 1)
}

SERIALIZED_SUBSCRIPTION: Serde[bytes] = _Checked(SUBSCRIPTION.name, BYTES.serialize, _checked, immutable=True)
"""The same for those who leave them as they are: refuses what `SUBSCRIPTION` refuses."""


@dataclass(frozen=True, repr=False, kw_only=True)
class _Responses(Serde[SubscriptionResponse]):
    """Responses, by column.

    Attributes:
        inner: Of the foreign values.
    """

    inner: AnySerde

    def serialize_many(self, values: list[SubscriptionResponse | None]) -> list[bytes | None]:
        """The bytes of a column; None stays None."""
        if any_none(values):
            return super().serialize_many(values)
        given: list[SubscriptionResponse] = values  # type: ignore[assignment]
        foreign = self.inner.serialize_many([each.foreign_value for each in given])
        return [
            (b"\x80" if each.value_hash is None else b"\0" + each.value_hash) + (value or b"")
            for each, value in zip(given, foreign, strict=True)
        ]

    def deserialize_many(self, data: list[bytes | None]) -> list[SubscriptionResponse | None]:
        """The responses of a column; None stays None."""
        given: list[bytes] = data  # type: ignore[assignment]
        start = 1 + HASH_BYTES
        if any_none(data) or min(map(len, given), default=0) < start or set(map(_first_byte, given)) != {0}:
            return super().deserialize_many(data)
        hashes = [each[1:start] for each in given]
        values = self.inner.deserialize_many([each[start:] or None for each in given])
        return list(map(SubscriptionResponse, hashes, values))


def subscription_response(inner: AnySerde) -> Serde[SubscriptionResponse]:
    """The serde for responses whose foreign values have ``inner``."""
    encode, decode = inner.serialize, inner.deserialize

    def serialize(value: SubscriptionResponse) -> bytes:
        head = b"\x80" if value.value_hash is None else b"\0" + value.value_hash
        return head if value.foreign_value is None else head + encode(value.foreign_value)

    def deserialize(data: bytes) -> SubscriptionResponse:
        _version(data, 0, "a response to a subscription")
        value_hash, start = _hash(data, 1)
        return SubscriptionResponse(value_hash, decode(data[start:]) if len(data) > start else None)

    name = f"subscription_response[{inner.name}]"
    return _Responses(name, serialize, deserialize, inner.immutable, inner=inner)


RAW_RESPONSE: Serde[SubscriptionResponse] = subscription_response(BYTES)
"""Responses whose foreign values are serialized already: one right row answers many subscriptions."""


def _version(data: bytes, newest: int, what: str) -> int:
    version = data[0] & ~NO_HASH if data else -1
    if not 0 <= version <= newest:
        msg = f"{what} has version {version}, this application knows those up to {newest}: upgrade it first"
        raise ValueError(msg)
    return version


def _hash(data: bytes, start: int) -> tuple[bytes | None, int]:
    """The hash that begins there, if any, and where it ends."""
    if data[0] & NO_HASH:
        return None, start
    end = start + HASH_BYTES
    if len(data) < end:
        msg = f"a hash of {HASH_BYTES} bytes is cut off after {len(data) - start}"
        raise ValueError(msg)
    return data[start:end], end
