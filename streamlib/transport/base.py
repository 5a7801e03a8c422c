"""The port to a broker: Protocols over bytes, implemented by `kafka`, `local` and `memory`.

Everything a worker asks of a broker is here, and nothing else. One conformance suite (tests/transport) runs over all
implementations. Every method that talks to a broker may raise `BrokerUnavailableError`, which is safe to try again, and
`AuthorizationError` for a missing permission; everything else it raises is named in its docstring.

Next: `runtime/worker`, which polls; `runtime/record_collector`, which produces; `runtime/commit`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from streamlib.record import FetchedBatch, Headers, TopicPartition

IsolationLevel = Literal["read_committed", "read_uncommitted"]


@dataclass(frozen=True)
class OffsetAndMetadata:
    """A committed position: the offset of the next record to read, and a string kept with it."""

    offset: int
    metadata: str = ""


@dataclass(frozen=True)
class GroupMetadata:
    """A worker's place in its group at one moment; a commit under an old one is refused.

    Taken once per assignment: never under ``generation`` -1, which brokers read as "do not check".
    """

    group_id: str
    generation: int
    member_id: str
    group_instance_id: str | None = None


@dataclass(frozen=True)
class TopicSpec:
    """A topic to create."""

    name: str
    partitions: int
    replication_factor: int = -1
    configs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Member:
    """A member of the group as the leader's assignor sees it."""

    topics: frozenset[str]
    user_data: bytes


@dataclass(frozen=True)
class GroupDescription:
    """What the broker tells of a consumer group."""

    group_id: str
    state: str
    members: Mapping[str, str]  # member id to client host


class Assignor(Protocol):
    """Decides, on the leader, which member reads which partitions. Called on the event loop: no I/O, no waiting."""

    name: str

    def subscription(self) -> bytes:
        """User data to send with each join of this member."""

    def assign(
        self, partitions: Mapping[str, int], members: Mapping[str, Member]
    ) -> Mapping[str, tuple[Sequence[TopicPartition], bytes]]:
        """For each member id, its partitions and its user data.

        Args:
            partitions: Partition count of each subscribed topic that exists.
            members: All members, by member id.
        """

    def assigned(self, partitions: Collection[TopicPartition], user_data: bytes) -> None:
        """What the leader decided for this member."""


class RebalanceListener(Protocol):
    """Hears of a rebalance. Restoring state never happens inside: no heartbeats run during `on_assigned`."""

    async def on_revoked(self, partitions: Collection[TopicPartition]) -> None:
        """The partitions are about to go; the last moment to commit them. Must not raise."""

    async def on_assigned(self, partitions: Collection[TopicPartition], group: GroupMetadata) -> None:
        """The partitions are here. Only record them and return: reading starts once the worker wants them."""


@dataclass(frozen=True)
class GroupOptions:
    """How a consumer joins its group."""

    group_id: str
    topics: frozenset[str]
    assignor: Assignor
    listener: RebalanceListener
    session_timeout_ms: int = 45_000
    heartbeat_interval_ms: int = 500
    rebalance_timeout_ms: int = 60_000
    max_poll_interval_ms: int = 300_000
    group_instance_id: str | None = None


class Consumer(Protocol):
    """Reads partitions as columns: as a member of a group, or those it was told to (`assign`)."""

    async def start(self) -> None:
        """Connect, and begin to join the group if there is one.

        Raises:
            BrokerUnavailableError: Nobody answers.
            BrokerLockedError: The broker serves one worker process, and another one is running.
        """

    async def close(self) -> None:
        """Leave the group and disconnect; the listener is not called."""

    def subscribe(self, topics: frozenset[str]) -> None:
        """As a member: read these topics from now on, instead of those of `GroupOptions`; the group rebalances."""

    def rejoin(self) -> None:
        """As a member: have the group decide again soon; members hear of it as of any other rebalance.

        Brokers may do nothing when this is not the leader and the assignor's user data is the same as at its last join.
        """

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        """Without a group: read exactly these partitions, from these offsets."""

    def seek(self, tp: TopicPartition, offset: int) -> None:
        """Read ``tp`` from ``offset`` on; prefetched records are dropped. Ignored when ``tp`` is no longer assigned."""

    def position(self, tp: TopicPartition) -> int | None:
        """The next offset to be returned, None before the first seek; steps over markers and compacted records."""

    def lag(self, tp: TopicPartition) -> int | None:
        """How many records are known to lie after the position; None while the broker has told nothing of ``tp``.

        Of the records this consumer may see: under read_committed up to the last stable offset.
        """

    async def poll(
        self, wanted: Collection[TopicPartition], *, max_records: int, timeout_ms: int
    ) -> dict[TopicPartition, FetchedBatch]:
        """Columns of some of the ``wanted`` partitions, at most ``max_records`` in all.

        Returns at once when something is there, else after ``timeout_ms`` with what came (perhaps nothing).
        Partitions not wanted keep what was prefetched. ``wanted`` may be empty: then it only waits.

        Raises:
            OffsetOutOfRangeError: A position lies outside the log; the caller decides where to go on.
            MissingTopicError: A wanted topic was deleted.
        """

    async def committed(self, tps: Collection[TopicPartition]) -> dict[TopicPartition, OffsetAndMetadata | None]:
        """The group's stable committed offsets: waits while a transaction is pending on them (KIP-447)."""

    async def commit(self, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        """Commit offsets as this member.

        Raises:
            CommitError: The group has moved on; the caller's tasks belong to someone else.
        """


class Appends(Protocol):
    """The part of a producer that takes records."""

    def append(
        self,
        tp: TopicPartition,
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
        timestamps: Sequence[int],
        headers: Sequence[Headers] | None = None,
    ) -> None:
        """Add a column of records to a partition's buffer; never waits. Sending goes on in the background.

        Raises:
            RecordTooLargeError: A record is larger than the broker accepts; the message names its size and the limit.
                The rows before it are in the buffer, it and those after it are not, and the producer can go on.
            DeliveryError: An earlier delivery has failed.
            TransportError: The transaction has its offsets, and may only be committed or aborted.
        """


class Producer(Appends, Protocol):
    """Writes columns. Records of one partition arrive in the order of the `append` calls, once (idempotent)."""

    async def start(self) -> None:
        """Connect; with a transactional id, fence older producers and end their transactions."""

    async def close(self) -> None:
        """Disconnect after delivering what was appended; an open transaction is aborted."""

    async def kill(self) -> None:
        """Disconnect at once without delivering; used after any error, before a new producer is made."""

    async def drain(self) -> None:
        """Return once the buffers are below their limit: called once per batch, so that memory stays bounded."""

    async def flush(self) -> dict[TopicPartition, int]:
        """Wait until every appended record is acknowledged.

        Returns:
            For each partition written to since the last flush, the offset after its last record.

        Raises:
            DeliveryError: A record was not written. The producer must be killed and replaced.
        """

    async def begin(self) -> None:
        """Start a transaction (with a new epoch, if the outcome of any earlier request is not known)."""

    async def send_offsets(self, offsets: Mapping[TopicPartition, OffsetAndMetadata], group: GroupMetadata) -> None:
        """Deliver everything appended, then add consumed offsets to the transaction; append nothing afterwards.

        Raises:
            CommitError: The group has moved on; abort, and drop the work.
        """

    async def commit(self) -> None:
        """Commit the transaction.

        Raises:
            DeliveryError, CommitError: It did not commit, or the outcome is not known: kill this producer.
        """

    async def abort(self) -> None:
        """Abort the transaction; its records are never seen by read_committed readers."""


class Admin(Protocol):
    """Looks at and changes topics, offsets and groups."""

    async def close(self) -> None:
        """Disconnect."""

    async def partition_counts(self, topics: Collection[str] | None = None) -> dict[str, int]:
        """Partition counts of those of ``topics`` that exist; of all topics but the broker's own when None."""

    async def topic_ids(self, topics: Collection[str]) -> dict[str, str]:
        """An id for each of those of ``topics`` that exist: one that is made again has another.

        Brokers that do not tell give none.
        """

    async def create_topics(self, topics: Collection[TopicSpec]) -> None:
        """Create topics; those that exist already are left alone."""

    async def delete_topics(self, topics: Collection[str]) -> None:
        """Delete topics; those that do not exist are left alone."""

    async def topic_configs(self, topics: Collection[str]) -> dict[str, dict[str, str]]:
        """The configuration of topics, defaults included.

        Raises:
            MissingTopicError: One of them does not exist.
        """

    async def delete_records(self, before: Mapping[TopicPartition, int]) -> None:
        """Delete the records before the given offsets."""

    async def beginning_offsets(self, tps: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """The first offset of each partition that still exists.

        Raises:
            MissingTopicError: One of the topics does not exist.
        """

    async def end_offsets(self, tps: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset after the last record of each partition, read uncommitted (KAFKA-10167).

        Raises:
            MissingTopicError: One of the topics does not exist.
        """

    async def offsets_for_time(self, tps: Collection[TopicPartition], timestamp_ms: int) -> dict[TopicPartition, int]:
        """The first offset whose record is not older than ``timestamp_ms``; the end offset where there is none."""

    async def groups(self) -> list[str]:
        """Names of all consumer groups."""

    async def describe_group(self, group_id: str) -> GroupDescription:
        """State and members of a group; state ``Dead`` when there is none of that name."""

    async def group_offsets(self, group_id: str) -> dict[TopicPartition, OffsetAndMetadata]:
        """All committed offsets of a group."""

    async def set_group_offsets(self, group_id: str, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        """Commit offsets for a group without members.

        Raises:
            CommitError: The group has members.
        """

    async def delete_group(self, group_id: str) -> None:
        """Forget a group without members and its offsets.

        Raises:
            CommitError: The group has members.
        """


class Transport(Protocol):
    """One broker address; makes consumers, producers and admins. Made by `cli` and `testing` only."""

    @property
    def address(self) -> str:
        """The broker as the user wrote it, without secrets."""

    @property
    def max_workers(self) -> int | None:
        """How many worker processes may share it; None for any number."""

    async def start(self) -> None:
        """Open it.

        Raises:
            BrokerUnavailableError: Nobody answers.
        """

    async def close(self) -> None:
        """Close it; consumers and producers are closed by whoever made them, before this."""

    def consumer(self, group: GroupOptions | None = None, isolation: IsolationLevel = "read_committed") -> Consumer:
        """A consumer: a member of ``group``, or one that reads what it is told."""

    def producer(self, transactional_id: str | None = None, transaction_timeout_ms: int = 10_000) -> Producer:
        """An idempotent producer, or a transactional one.

        Args:
            transactional_id: Fences older producers of the same id; None for no transactions.
            transaction_timeout_ms: The broker aborts a transaction that is open for longer, and fences its producer.
        """

    async def admin(self) -> Admin:
        """A connected admin."""
