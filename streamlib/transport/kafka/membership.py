"""A worker's place in its consumer group: joining, the two callbacks, commits and committed offsets.

aiokafka runs the group protocol; here are the adapters from its assignor and listener to ours, and commits that are
made under the generation the worker was told of, not under whichever aiokafka is in by now.

With `client`, `columns` and `sending` one of the four modules that use aiokafka's private names.
"""

import asyncio
from collections.abc import Collection, Mapping
from typing import Any

from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from aiokafka.errors import KafkaError
from aiokafka.protocol.commit import OffsetCommitRequest

from streamlib.errors import BrokerUnavailableError, CommitError
from streamlib.record import TopicPartition
from streamlib.transport.base import Assignor, GroupMetadata, GroupOptions, Member, OffsetAndMetadata, RebalanceListener
from streamlib.transport.kafka.client import KafkaClient
from streamlib.transport.kafka.client_defaults import (
    COMMIT_TIMEOUT_S,
    ENABLE_AUTO_COMMIT,
    LEAVE_TIMEOUT_S,
    STABLE_TIMEOUT_S,
)
from streamlib.transport.kafka.error_codes import MIGRATED_CODES, RETRIABLE_CODES, UNSTABLE_OFFSET_COMMIT
from streamlib.transport.kafka.protocol import OffsetFetchV7
from streamlib.transport.kafka.translation import error_for, refusal, translate

ASSIGNMENT_VERSION = 0
COORDINATOR_MOVED = frozenset({7, 15, 16})


class AssignorAdapter:
    """Our `Assignor` in the form aiokafka calls.

    Attributes:
        failure: What our assignor raised; aiokafka would only show its repr.
    """

    def __init__(self, assignor: Assignor) -> None:
        self.name = assignor.name
        self.failure: Exception | None = None
        self._assignor = assignor

    def metadata(self, topics: Collection[str]) -> Any:
        """What this member sends with a join."""
        return ConsumerProtocolMemberMetadata(ASSIGNMENT_VERSION, sorted(topics), self._assignor.subscription())

    def assign(self, cluster: Any, members: Mapping[str, Any]) -> dict[str, Any]:
        """Ask our assignor, on the leader."""
        topics = {topic for member in members.values() for topic in member.subscription}
        known = {topic: cluster.partitions_for_topic(topic) for topic in topics}
        counts = {topic: len(partitions) for topic, partitions in known.items() if partitions}
        ours = {
            name: Member(frozenset(member.subscription), bytes(member.user_data or b""))
            for name, member in members.items()
        }
        try:
            decided = self._assignor.assign(counts, ours)
        except Exception as error:
            self.failure = error
            raise
        assignments = {}
        for name, (tps, user_data) in decided.items():
            by_topic: dict[str, list[int]] = {}
            for tp in sorted(tps):
                by_topic.setdefault(tp.topic, []).append(tp.partition)
            assignments[name] = ConsumerProtocolMemberAssignment(ASSIGNMENT_VERSION, list(by_topic.items()), user_data)
        return assignments

    def on_assignment(self, assignment: Any) -> None:
        """Tell our assignor what the leader decided."""
        tps = [TopicPartition(*tp) for tp in assignment.partitions()]
        try:
            self._assignor.assigned(tps, bytes(assignment.user_data or b""))
        except Exception as error:
            self.failure = error
            raise


class ListenerAdapter(ConsumerRebalanceListener):  # type: ignore[misc]
    """Our `RebalanceListener` in the form aiokafka calls.

    Attributes:
        failure: What our listener raised although it must not; aiokafka would only log it.
        group: The membership the listener was last told of.
    """

    def __init__(self, listener: RebalanceListener) -> None:
        self.failure: Exception | None = None
        self.group: GroupMetadata | None = None
        self.coordinator: GroupCoordinator | None = None
        self._listener = listener

    async def on_partitions_revoked(self, revoked: Collection[Any]) -> None:
        """Before each join; nothing is revoked by the first one."""
        if self.group is None:
            return
        try:
            await self._listener.on_revoked([TopicPartition(*tp) for tp in revoked])
        except Exception as error:
            self.failure = error

    async def on_partitions_assigned(self, assigned: Collection[Any]) -> None:
        """After each join, with the generation of that join."""
        assert self.coordinator is not None
        joined = self.coordinator
        self.group = GroupMetadata(
            joined.group_id, joined.generation, joined.member_id, joined._group_instance_id or None
        )
        try:
            await self._listener.on_assigned([TopicPartition(*tp) for tp in assigned], self.group)
        except Exception as error:
            self.failure = error


class Membership:
    """One member of one group.

    Args:
        client: A started client.
        subscriptions: aiokafka's subscription state, shared with the fetcher.
        options: The group, its assignor and its listener.
    """

    def __init__(self, client: KafkaClient, subscriptions: Any, options: GroupOptions) -> None:
        self._group_id = options.group_id
        self._assignor = AssignorAdapter(options.assignor)
        self._listener = ListenerAdapter(options.listener)
        self._coordinator = GroupCoordinator(
            client,
            subscriptions,
            group_id=options.group_id,
            group_instance_id=options.group_instance_id,
            session_timeout_ms=options.session_timeout_ms,
            heartbeat_interval_ms=options.heartbeat_interval_ms,
            rebalance_timeout_ms=options.rebalance_timeout_ms,
            max_poll_interval_ms=options.max_poll_interval_ms,
            enable_auto_commit=ENABLE_AUTO_COMMIT,
            assignors=(self._assignor,),
        )
        self._listener.coordinator = self._coordinator
        self._client = client
        self._subscriptions = subscriptions
        self.subscribe(options.topics)

    def subscribe(self, topics: frozenset[str]) -> None:
        """Read these topics from now on; aiokafka joins again when it notices."""
        self._subscriptions.subscribe(topics=set(topics), listener=self._listener)
        self._client.set_topics(topics)

    def rejoin(self) -> None:
        """Join again: brokers rebalance when the leader does, or another member with other user data than before."""
        self._coordinator.request_rejoin()

    def check(self) -> None:
        """Raise what went wrong in the background since the last call: the assignor, a callback, the group protocol."""
        for adapter in (self._assignor, self._listener):
            failure, adapter.failure = adapter.failure, None
            if failure is not None:
                raise failure
        self._revive_heartbeats()
        try:
            self._coordinator.check_errors()
        except KafkaError as error:
            raise translate(error, f"the consumer group {self._group_id} does not work", self._client.caller) from error

    def _revive_heartbeats(self) -> None:
        """Send heartbeats again after one was refused; the refusal is still told, once.

        aiokafka never does, and tells the refusal again and again, also when the permission was granted long ago.
        """
        coordinator = self._coordinator
        task = coordinator._heartbeat_task
        if task is not None and task.done() and not task.cancelled() and task.exception() is not None:
            coordinator._heartbeat_task = None
            coordinator._start_heartbeat_task()

    async def commit(self, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        """Commit offsets under the generation that the listener was last told of.

        Raises:
            CommitError: The group has moved on.
            BrokerUnavailableError: No answer in time; the offsets may or may not be committed.
        """
        group = self._listener.group
        if group is None:
            msg = f"cannot commit: not a member of the group {self._group_id} yet"
            raise CommitError(msg)
        by_topic: dict[str, list[tuple[int, int, str]]] = {}
        for tp, position in offsets.items():
            by_topic.setdefault(tp.topic, []).append((tp.partition, position.offset, position.metadata))
        request = OffsetCommitRequest(
            group.group_id,
            group.generation,
            group.member_id,
            OffsetCommitRequest.DEFAULT_RETENTION_TIME,
            list(by_topic.items()),
        )

        async def attempt() -> bool:
            response = await self._coordinator._send_req(request)
            codes = {code for _, partitions in response.topics for _, code in partitions} - {0}
            if migrated := codes & MIGRATED_CODES:
                raise CommitError(refusal(group, migrated))
            return self._settled(codes)

        await self._until(attempt, f"cannot commit offsets of the group {group.group_id}", COMMIT_TIMEOUT_S)

    async def committed(self, tps: Collection[TopicPartition]) -> dict[TopicPartition, OffsetAndMetadata | None]:
        """Committed offsets, once no transaction is pending on them.

        Raises:
            BrokerUnavailableError: No answer in time, or a transaction stays open.
        """
        request = OffsetFetchV7(self._group_id, tps, require_stable=True)
        found: dict[TopicPartition, OffsetAndMetadata | None] = dict.fromkeys(tps)

        async def attempt() -> bool:
            response = await self._coordinator._send_req(request)
            if not self._settled(response.codes() - {UNSTABLE_OFFSET_COMMIT}) or response.codes():
                return False
            found.update(response.offsets())
            return True

        await self._until(attempt, f"cannot read committed offsets of the group {self._group_id}", STABLE_TIMEOUT_S)
        return found

    async def close(self) -> None:
        """Leave the group; its coordinator may be away, so this waits for a few seconds at most."""
        coordinator = self._coordinator
        try:
            async with asyncio.timeout(LEAVE_TIMEOUT_S):
                await coordinator.close()
        except (KafkaError, TimeoutError):
            pass
        tasks = (coordinator._coordination_task, coordinator._heartbeat_task, coordinator._commit_refresh_task)
        left = {task for task in tasks if task is not None and not task.done()}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=1.0)

    def _settled(self, codes: set[int]) -> bool:
        """Whether an answer is final: True for success, False to try again, an exception for a failure."""
        if fatal := codes - RETRIABLE_CODES:
            raise error_for(min(fatal), f"group={self._group_id}")
        if codes & COORDINATOR_MOVED:
            self._coordinator.coordinator_dead()
        return not codes

    async def _until(self, attempt: Any, doing: str, timeout_s: float) -> None:
        pause = 0.02
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    await self._coordinator.ensure_coordinator_known()
                    try:
                        if await attempt():
                            return
                    except KafkaError as error:
                        if not isinstance(translate(error, doing), BrokerUnavailableError):
                            raise
                    await asyncio.sleep(pause)
                    pause = min(pause * 1.5, 0.25)
        except KafkaError as error:
            raise translate(error, doing, self._client.caller) from error
        except TimeoutError as error:
            msg = (
                f"{doing}: no final answer in {timeout_s:.0f} s. Is the group's coordinator up, or a transaction open?"
            )
            raise BrokerUnavailableError(msg) from error
