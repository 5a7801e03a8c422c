"""The bytes members of a group send each other: a version byte, then msgpack, checked strictly as network input.

Next: `assignor`, which decides from them.
"""

from typing import Annotated

import msgspec

from streamlib.errors import TransportError

VERSION = 1
MAX_BYTES = 1_000_000

Partitions = Annotated[int, msgspec.Meta(ge=0, le=100_000)]


class SubtopologyData(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a leader needs to know of a sub-topology, which may be of another version of the topology than its own.

    Attributes:
        number: Its number.
        topics: Partition counts of the topics it reads, by their names on the broker.
        stateful: Whether its tasks have stores.
    """

    number: int
    topics: dict[str, Partitions]
    stateful: bool


class SubscriptionData(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a member tells the leader when it joins.

    Attributes:
        fingerprint: Of the topology, so that unlike versions in one group are noticed.
        tasks: Tasks it runs now, as ``[sub-topology, partition]``.
        stored_tasks: Tasks it has local state of.
        subtopologies: The topology, as far as it is about who runs what.
    """

    fingerprint: str
    tasks: list[tuple[int, int]] = []
    stored_tasks: list[tuple[int, int]] = []
    subtopologies: list[SubtopologyData] = []


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(SubscriptionData)


def encode_subscription(data: SubscriptionData) -> bytes:
    """The user data of a join."""
    return bytes([VERSION]) + _encoder.encode(data)


def encode_decision(fingerprint: str) -> bytes:
    """What the leader tells every member with its partitions: which version of the topology runs."""
    return bytes([VERSION]) + fingerprint.encode()


def decode_decision(data: bytes) -> str:
    """The fingerprint of the version that runs; empty if the leader told none that we know how to read."""
    return data[1:].decode(errors="replace") if data[:1] == bytes([VERSION]) else ""


def decode_subscription(member_id: str, data: bytes) -> SubscriptionData:
    """What a member sent.

    Raises:
        TransportError: Not streamlib's format: another kind of consumer uses the same group id.
    """
    if not data or data[0] != VERSION or len(data) > MAX_BYTES:
        msg = (
            f"group member {member_id} does not speak streamlib's assignment protocol version {VERSION}: "
            "another application uses the same application_id, or an incompatible version of streamlib"
        )
        raise TransportError(msg)
    try:
        return _decoder.decode(memoryview(data)[1:])
    except msgspec.MsgspecError as error:
        msg = f"group member {member_id} sent a malformed subscription: {error}"
        raise TransportError(msg) from error
