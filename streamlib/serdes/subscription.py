"""What the two sides of a foreign-key join send each other, byte for byte as Kafka Streams' serdes write it.

| | bytes |
|---|---|
| subscription | ``version, instruction, hash (16), primary key, primary partition int32``; version 0 has no partition |
| response | ``version 0, hash (16), foreign value`` |

Bit 7 of the version is set where there is no hash: the left row was deleted. A missing foreign value and one of no
bytes are written alike. Next: `operators/foreign_key_left`, which sends subscriptions and takes responses.
"""

from typing import Any, Final

import msgspec

from streamlib.serdes.base import AnySerde, Serde
from streamlib.serdes.primitives import BYTES

DELETE_KEY_NO_PROPAGATE: Final = 0
"""Forget the subscription; nothing is answered."""

DELETE_KEY_AND_PROPAGATE: Final = 1
"""Forget the subscription, and answer without a value."""

PROPAGATE_NULL_IF_NO_FK_VAL_AVAILABLE: Final = 2
"""Keep the subscription, and answer with the foreign value or, if there is none, without."""

PROPAGATE_ONLY_IF_FK_VAL_AVAILABLE: Final = 3
"""Keep the subscription, and answer if there is a foreign value."""

VERSION: Final = 1
NO_HASH: Final = 0x80
HASH_BYTES: Final = 16
_PARTITION_BYTES: Final = 4


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


def _subscription_bytes(value: Subscription) -> bytes:
    partition, value_hash = value.primary_partition, value.value_hash
    version = 0 if partition is None else VERSION
    if value_hash is None:
        head = bytes((version | NO_HASH, value.instruction))
    else:
        head = bytes((version, value.instruction)) + value_hash
    if partition is None:
        return head + value.primary_key
    return head + value.primary_key + partition.to_bytes(_PARTITION_BYTES, "big", signed=True)


def _read_subscription(data: bytes) -> Subscription:
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


SUBSCRIPTION: Serde[Subscription] = Serde("subscription", _subscription_bytes, _read_subscription, immutable=True)
"""The serde for subscriptions: in the registration topic, in the subscription store and in its changelog."""


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

    return Serde(f"subscription_response[{inner.name}]", serialize, deserialize, inner.immutable)


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
