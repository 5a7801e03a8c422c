"""A consumer's membership of its group: join, hear the leader's decision, serve until the group moves on, repeat.

    join ──► on_assigned ──► serve ──(group rebalances, or expels this member)──► on_revoked ──► join ...

Next: `consumer`, which returns records of the partitions owned here.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from streamlib.clock import Clock
from streamlib.errors import BrokerUnavailableError, CommitError
from streamlib.record import TopicPartition
from streamlib.transport.base import GroupMetadata, GroupOptions
from streamlib.transport.embedded.broker import Broker
from streamlib.transport.embedded.group import RejoinNeeded, Subscription

_RECHECK_TOPICS_SECONDS = 1.0

T = TypeVar("T")


class Owner(Protocol):
    """Whoever reads the partitions."""

    def own(self, partitions: Collection[TopicPartition]) -> None:
        """These are the partitions from now on, at unknown positions."""

    def hold(self) -> None:
        """The partitions are about to go: return no more records of them."""


class Membership:
    """One member of one group, for as long as the consumer lives.

    Args:
        broker: Where the group is.
        clock: This process's time: heartbeats stop when it stops.
        options: The group, the topics and whom to ask and tell.
        owner: The consumer.
        new_member_id: Makes an id that no other member has had.
    """

    def __init__(
        self, broker: Broker, clock: Clock, options: GroupOptions, owner: Owner, new_member_id: Callable[[], str]
    ) -> None:
        self.failure: Exception | None = None
        self._broker = broker
        self._clock = clock
        self._options = options
        self._owner = owner
        self._new_member_id = new_member_id
        self._member_id = new_member_id()
        self._metadata: GroupMetadata | None = None
        self._topic_partitions: dict[str, int] = {}
        self._polled_at = clock.monotonic()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to join."""
        self._tasks = [asyncio.ensure_future(self._live()), asyncio.ensure_future(self._keep_alive())]

    def subscribe(self, topics: frozenset[str]) -> None:
        """Have the group share out these topics; joins again soon."""
        self._options = replace(self._options, topics=topics)
        self._broker.changed.ring()

    def rejoin(self) -> None:
        """Have the group decide again soon."""
        self._broker.group(self._options.group_id).rebalance()

    async def leave(self) -> None:
        """Leave the group at once; the listener is not called."""
        await self.vanish()
        self._broker.group(self._options.group_id).leave(self._member_id)

    async def vanish(self) -> None:
        """Stop without a word: the group notices when the session expires."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def polled(self) -> None:
        """Note that the worker is alive."""
        self._polled_at = self._clock.monotonic()

    def metadata(self) -> GroupMetadata:
        """The place in the group, as of the last assignment.

        Raises:
            CommitError: There has been none.
        """
        if self._metadata is None:
            msg = f"group={self._options.group_id} has not assigned anything yet: commit after on_assigned"
            raise CommitError(msg)
        return self._metadata

    async def _live(self) -> None:
        listener = self._options.listener
        try:
            while True:
                while self._poll_is_overdue():
                    await self._clock.sleep(self._recheck_seconds())
                partitions = await self._join()
                await listener.on_assigned(partitions, self.metadata())
                await self._serve()
                self._owner.hold()
                if partitions:
                    await listener.on_revoked(partitions)
                self._owner.own(())
        except Exception as error:
            self.failure = error
            self._broker.written.ring()

    async def _join(self) -> Sequence[TopicPartition]:
        while True:
            try:
                return await self._join_once()
            except RejoinNeeded:
                continue

    async def _join_once(self) -> Sequence[TopicPartition]:
        options, assignor = self._options, self._options.assignor
        self._topic_partitions = await self._count(options.topics)
        group = self._broker.group(options.group_id)
        if self._metadata is not None and self._member_id not in group.members():
            self._member_id = self._new_member_id()
        me = self._member_id
        group.join(
            me,
            Subscription(
                options.topics, assignor.subscription(), options.session_timeout_ms, options.rebalance_timeout_ms
            ),
        )
        generation = await self._wait(lambda: group.joined(me))
        members = group.undecided(me, generation)
        if members is not None:
            counts = await self._count({topic for member in members.values() for topic in member.topics})
            group.decide(generation, assignor.assign(counts, members))
        partitions, user_data = await self._wait(lambda: group.decision(me, generation))
        self._metadata = GroupMetadata(options.group_id, generation, me, options.group_instance_id)
        assignor.assigned(partitions, user_data)
        self._owner.own(partitions)
        return partitions

    async def _serve(self) -> None:
        group_id, metadata = self._options.group_id, self.metadata()
        while True:
            seen = self._broker.changed.rung
            try:
                self._broker.group(group_id).decision(metadata.member_id, metadata.generation)
            except RejoinNeeded:
                return
            if await self._count(self._options.topics) != self._topic_partitions:
                self._broker.group(group_id).rebalance()
                continue
            await self._broker.changed.wait(seen, self._clock, self._recheck_seconds())

    async def _wait(self, ask: Callable[[], T | None]) -> T:
        while True:
            seen = self._broker.changed.rung
            self._broker.group(self._options.group_id)
            answer = ask()
            if answer is not None:
                return answer
            await self._broker.changed.wait(seen, self._clock, self._recheck_seconds())

    async def _keep_alive(self) -> None:
        options = self._options
        while True:
            await self._clock.sleep(options.heartbeat_interval_ms / 1000)
            if not self._poll_is_overdue():
                self._broker.group(options.group_id).keep_alive(self._member_id)

    def _poll_is_overdue(self) -> bool:
        return (self._clock.monotonic() - self._polled_at) * 1000 > self._options.max_poll_interval_ms

    async def _count(self, topics: Collection[str]) -> dict[str, int]:
        while True:
            try:
                return await self._broker.read(lambda store: store.topics.partition_counts(topics))
            except BrokerUnavailableError:
                # The worker hears of it from its own calls; the membership must outlast it.
                await self._clock.sleep(_RECHECK_TOPICS_SECONDS)

    def _recheck_seconds(self) -> float:
        return min(self._options.heartbeat_interval_ms / 1000, _RECHECK_TOPICS_SECONDS)
