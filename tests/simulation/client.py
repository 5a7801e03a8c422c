"""One process's way to the simulated broker: makes consumers, producers and admins; a fourth driver of the port."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

from streamlib.errors import BrokerUnavailableError, CommitError, MissingTopicError
from streamlib.record import TopicPartition
from streamlib.transport.base import (
    Admin,
    Consumer,
    GroupDescription,
    GroupOptions,
    IsolationLevel,
    OffsetAndMetadata,
    Producer,
    TopicSpec,
)
from tests.simulation.broker import Broker
from tests.simulation.consumer import SimulatedConsumer
from tests.simulation.network import Network
from tests.simulation.partition import UNKNOWN_TOPIC, Refused
from tests.simulation.producer import SimulatedProducer

T = TypeVar("T")

ATTEMPTS = 3
RETRY_SECONDS = 0.05


class SimulatedTransport:
    """Implements `transport.base.Transport`.

    Args:
        network: Leads to the broker.

    Attributes:
        made: Called with each consumer and producer, so that tests can take safety rules out.
    """

    def __init__(self, network: Network) -> None:
        self.made: Callable[[SimulatedConsumer | SimulatedProducer], None] | None = None
        self._network = network

    @property
    def address(self) -> str:
        """Where the broker is."""
        return "simulation:"

    @property
    def max_workers(self) -> int | None:
        """Any number."""
        return None

    async def start(self) -> None:
        """See whether somebody answers."""
        await self._network.call("metadata", lambda b: b.counts(None))

    async def close(self) -> None:
        """Nothing to close."""

    def consumer(self, group: GroupOptions | None = None, isolation: IsolationLevel = "read_committed") -> Consumer:
        """A consumer."""
        made = SimulatedConsumer(self._network, group, isolation)
        if self.made is not None:
            self.made(made)
        return made

    def producer(self, transactional_id: str | None = None, transaction_timeout_ms: int = 10_000) -> Producer:
        """A producer."""
        made = SimulatedProducer(self._network, transactional_id, transaction_timeout_ms / 1000)
        if self.made is not None:
            self.made(made)
        return made

    async def admin(self) -> Admin:
        """An admin."""
        await self.start()
        return SimulatedAdmin(self._network)


class SimulatedAdmin:
    """Implements `transport.base.Admin`."""

    def __init__(self, network: Network) -> None:
        self._network = network

    async def close(self) -> None:
        """Nothing to close."""

    async def partition_counts(self, topics: Collection[str] | None = None) -> dict[str, int]:
        """How wide topics are."""
        return await self._call("metadata", lambda b: b.counts(topics))

    async def topic_ids(self, topics: Collection[str]) -> dict[str, str]:
        """None: topics are never made twice here."""
        return {}

    async def create_topics(self, topics: Collection[TopicSpec]) -> None:
        """Create topics."""
        await self._call("create-topics", lambda b: b.create_topics(topics))

    async def delete_topics(self, topics: Collection[str]) -> None:
        """Delete topics."""
        await self._call("delete-topics", lambda b: b.delete_topics(topics))

    async def topic_configs(self, topics: Collection[str]) -> dict[str, dict[str, str]]:
        """How topics are configured."""
        return await self._call("describe-configs", lambda b: b.configs(topics))

    async def delete_records(self, before: Mapping[TopicPartition, int]) -> None:
        """Delete records."""
        await self._call("delete-records", lambda b: b.delete_records(before))

    async def beginning_offsets(self, tps: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """First offsets."""
        return await self._call("list-offsets", lambda b: {tp: b.partition(tp).start for tp in tps})

    async def end_offsets(self, tps: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """High watermarks."""
        return await self._call("list-offsets", lambda b: {tp: b.partition(tp).end for tp in tps})

    async def offsets_for_time(self, tps: Collection[TopicPartition], timestamp_ms: int) -> dict[TopicPartition, int]:
        """Where a time begins."""
        return await self._call(
            "list-offsets", lambda b: {tp: b.partition(tp).first_not_before(timestamp_ms) for tp in tps}
        )

    async def groups(self) -> list[str]:
        """All groups."""
        return await self._call("list-groups", lambda b: b.groups())

    async def describe_group(self, group_id: str) -> GroupDescription:
        """One group."""

        def job(broker: Broker) -> GroupDescription:
            group = broker.group(group_id)
            members = group.members()
            empty = "Empty" if broker.kept(group_id) else "Dead"
            return GroupDescription(group_id, group.state if members else empty, dict.fromkeys(members, "simulation"))

        return await self._call("describe-group", job)

    async def group_offsets(self, group_id: str) -> dict[TopicPartition, OffsetAndMetadata]:
        """What a group has committed."""
        return await self._call("offset-fetch", lambda b: b.kept(group_id))

    async def set_group_offsets(self, group_id: str, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        """Commit for a group without members."""
        await self._call("offset-commit", lambda b: b.commit_offsets(group_id, offsets))

    async def delete_group(self, group_id: str) -> None:
        """Forget a group."""

        def job(broker: Broker) -> None:
            if members := broker.group(group_id).members():
                raise Refused(68, f"group={group_id} has members ({', '.join(members)})")
            broker.forget_group(group_id)

        await self._call("delete-group", job)

    async def _call(self, kind: str, job: Callable[[Broker], T]) -> T:
        for attempt in range(ATTEMPTS):
            try:
                return await self._network.call(kind, job)
            except Refused as refusal:
                raise (MissingTopicError if refusal.code == UNKNOWN_TOPIC else CommitError)(str(refusal)) from refusal
            except BrokerUnavailableError:
                if attempt == ATTEMPTS - 1:
                    raise
            await asyncio.sleep(RETRY_SECONDS)
        raise AssertionError("unreachable")
