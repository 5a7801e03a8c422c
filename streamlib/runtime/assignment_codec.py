"""The bytes members of a group send each other: a version byte, then msgpack, checked strictly as network input.

Next: `assignor`, which decides from them.
"""

from typing import Annotated, Literal, TypeVar

import msgspec

from streamlib.errors import TransportError

VERSION = 2
MAX_BYTES = 1_000_000

Count = Annotated[int, msgspec.Meta(ge=0)]
Partitions = Annotated[int, msgspec.Meta(ge=0, le=100_000)]
Text = Annotated[str, msgspec.Meta(max_length=200)]
Role = Literal["running", "restoring", "standby", "warm_up", "stored"]


class SubtopologyData(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a leader needs to know of a sub-topology, which may be of another version of the topology than its own.

    Attributes:
        number: Its number.
        topics: Partition counts of the topics it reads, by their names on the broker.
        stateful: Whether its tasks have stores.
        logged: Whether changelogs bring these back, so that others can keep copies.
    """

    number: int
    topics: dict[str, Partitions]
    stateful: bool
    logged: bool = False


class TaskData(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a member has of one task.

    Attributes:
        subtopology: Its sub-topology.
        partition: Its partition.
        role: Running, or restoring to run; or a copy that follows the changelogs, to stay one or to run there soon; or
            what was left on disk.
        offsets: Sum of the offsets up to which it holds the changelogs.
    """

    subtopology: Count
    partition: Count
    role: Role
    offsets: Count = 0


class SubscriptionData(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a member tells the leader when it joins.

    Attributes:
        fingerprint: Of the topology, so that unlike versions in one group are noticed.
        process_id: Of its state directory: stays the same when it starts again.
        tasks: Everything it runs or has state of, each task once.
        tags: Where it runs, by names such as ``rack``.
        subtopologies: The topology, as far as it is about who runs what.
        joins: Another number for each join: brokers do not rebalance for a member that joins again with the same data.
    """

    fingerprint: str
    process_id: Text = ""
    tasks: list[TaskData] = []
    tags: dict[Text, Text] = {}
    subtopologies: list[SubtopologyData] = []
    joins: Count = 0


class DecisionData(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the leader tells a member, besides the partitions, from which the tasks that it runs follow.

    Attributes:
        fingerprint: Of the topology that runs.
        standbys: Tasks of which it keeps a copy, as ``[sub-topology, partition]``.
        warm_ups: Tasks of which it makes a copy because they are to move to it.
        probe: Whether it asks for another rebalance after a while, because some tasks are not where they should be.
        processes: Of all members: whoever was among them at the last decision, and is not now, has left or was lost.
    """

    fingerprint: str
    standbys: list[tuple[Count, Count]] = []
    warm_ups: list[tuple[Count, Count]] = []
    probe: bool = False
    processes: list[Text] = []


T = TypeVar("T")

_encoder = msgspec.msgpack.Encoder()
_subscriptions = msgspec.msgpack.Decoder(SubscriptionData)
_decisions = msgspec.msgpack.Decoder(DecisionData)


def encode_subscription(data: SubscriptionData) -> bytes:
    """The user data of a join."""
    return bytes([VERSION]) + _encoder.encode(data)


def encode_decision(data: DecisionData) -> bytes:
    """The user data of an assignment."""
    return bytes([VERSION]) + _encoder.encode(data)


def decode_decision(data: bytes) -> DecisionData:
    """What the leader decided; of no topology at all when it was none that speaks this version.

    Raises:
        TransportError: It is malformed.
    """
    if data[:1] != bytes([VERSION]):
        return DecisionData("")
    return _decoded(_decisions, "the group's leader sent a malformed decision", data)


def decode_subscription(member_id: str, data: bytes) -> SubscriptionData:
    """What a member sent.

    Raises:
        TransportError: Not streamlib's format: another kind of consumer uses the same group id.
    """
    if data[:1] != bytes([VERSION]):
        msg = (
            f"group member {member_id} does not speak streamlib's assignment protocol version {VERSION}: "
            "another application uses the same application_id, or an incompatible version of streamlib"
        )
        raise TransportError(msg)
    return _decoded(_subscriptions, f"group member {member_id} sent a malformed subscription", data)


def _decoded(decoder: "msgspec.msgpack.Decoder[T]", malformed: str, data: bytes) -> T:
    if len(data) > MAX_BYTES:
        msg = f"{malformed}: {len(data)} bytes, at most {MAX_BYTES} are read"
        raise TransportError(msg)
    try:
        return decoder.decode(memoryview(data)[1:])
    except msgspec.MsgspecError as error:
        msg = f"{malformed}: {error}"
        raise TransportError(msg) from error
