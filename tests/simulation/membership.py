"""A simulated consumer's place in its group: the classic protocol, eagerly.

Heartbeats go on while the listener hears of a revocation, and stop from then until it has heard of the assignment, as
with the Kafka driver. Next: `broker`.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from streamlib.errors import BrokerUnavailableError
from streamlib.record import TopicPartition
from streamlib.transport.base import GroupMetadata, GroupOptions
from streamlib.transport.embedded.group import Decision, Group, RejoinNeeded, Subscription
from tests.simulation.broker import Broker
from tests.simulation.network import Network
from tests.simulation.partition import ILLEGAL_GENERATION, REBALANCE_IN_PROGRESS, UNKNOWN_MEMBER, Refused

T = TypeVar("T")

JOIN_SECONDS = 5.0
RETRY_SECONDS = 0.05
LOOK_SECONDS = 1.0
NO_MEMBER = (-1, "")


class Owner(Protocol):
    """Whoever reads the partitions."""

    def own(self, tps: Collection[TopicPartition]) -> None:
        """These and no others."""

    def hold(self) -> None:
        """Return nothing until the group has decided."""

    def wake(self) -> None:
        """Look again."""


class Membership:
    """One member: joins, hears the leader's decision, sends heartbeats until the group moves on, and again.

    Attributes:
        told: The membership that the listener was told of last.
        current: What the protocol is at now, generation and member id; ``NO_MEMBER`` once the group has expelled it.
    """

    def __init__(self, network: Network, options: GroupOptions, owner: Owner) -> None:
        self.told: GroupMetadata | None = None
        self.current: tuple[int, str] = NO_MEMBER
        self._network = network
        self._options = options
        self._owner = owner
        self._client = network.next_name()
        self._ids = 0
        self._member_id = ""
        self._known = False  # whether the group has ever answered to this member id
        self._failure: Exception | None = None
        self._living: asyncio.Task[None] | None = None
        self._beating: asyncio.Task[None] | None = None
        self._moved_on = asyncio.Event()
        self._counts: dict[str, int] = {}
        self._polled_at = 0.0

    def start(self) -> None:
        """Begin to join."""
        self._polled_at = asyncio.get_running_loop().time()
        self._living = asyncio.ensure_future(self._live())

    def check(self) -> None:
        """Raise what went wrong; and note that somebody polls."""
        self._polled_at = asyncio.get_running_loop().time()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def subscribe(self, topics: frozenset[str]) -> None:
        """Join again with other topics."""
        self._options = replace(self._options, topics=topics)
        self._moved_on.set()

    def rejoin(self) -> None:
        """Join again."""
        self._moved_on.set()

    async def leave(self) -> None:
        """Leave the group, if somebody hears it."""
        for task in (self._living, self._beating):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        group_id, member_id = self._options.group_id, self._member_id
        try:
            await self._network.call("leave-group", lambda b: b.group(group_id).leave(member_id))
        except BrokerUnavailableError:
            pass

    async def _live(self) -> None:
        listener = self._options.listener
        try:
            while True:
                tps = await self._join()
                assert self.told is not None
                await listener.on_assigned(tps, self.told)
                self._beating = asyncio.ensure_future(self._beat())
                await self._moved_on.wait()
                self._owner.hold()
                if tps:
                    await listener.on_revoked(tps)
                self._beating.cancel()
                self._owner.own(())
        except Exception as error:
            self._failure = error
            self._owner.wake()

    async def _join(self) -> Sequence[TopicPartition]:
        while True:
            self._moved_on.clear()
            try:
                return await self._join_once()
            except BrokerUnavailableError:
                pass
            except Refused as refusal:
                if refusal.code == UNKNOWN_MEMBER:
                    self._expelled()
            await asyncio.sleep(RETRY_SECONDS)

    async def _join_once(self) -> Sequence[TopicPartition]:
        options, network, assignor = self._options, self._network, self._options.assignor
        group_id = options.group_id
        self._counts = await network.call("metadata", lambda b: b.counts(options.topics))
        if not self._member_id:
            self._ids += 1
            self._member_id, self._known = f"{self._client}-{self._ids}", False
        me, known = self._member_id, self._known
        subscription = Subscription(
            options.topics, assignor.subscription(), options.session_timeout_ms, options.rebalance_timeout_ms
        )
        joined = False

        def join(broker: Broker) -> int | None:
            nonlocal joined
            group = broker.group(group_id)
            if not joined:
                if known and me not in group.members():
                    raise Refused(UNKNOWN_MEMBER, f"{me} is no member of {group_id}")
                joined = True
                group.join(me, subscription)
            group.keep_alive(me)  # a member that waits in a join is not expelled
            return _asked(group, me, lambda: group.joined(me))

        generation = await network.call("join-group", join, wait=JOIN_SECONDS, recheck=True)
        if generation is None:
            raise BrokerUnavailableError("the others do not join")
        self._known = True
        members = await network.call("members", lambda b: (b.group(group_id).undecided(me, generation),))
        decided = None
        if members[0] is not None:
            topics = {topic for member in members[0].values() for topic in member.topics}
            counts = await network.call("metadata", lambda b: b.counts(topics))
            decided = assignor.assign(counts, members[0])

        def sync(broker: Broker) -> Decision | None:
            group = broker.group(group_id)
            if decided is not None:
                group.decide(generation, decided)
            group.keep_alive(me)
            return _asked(group, me, lambda: group.decision(me, generation))

        decision = await network.call("sync-group", sync, wait=JOIN_SECONDS, recheck=True)
        if decision is None:
            raise BrokerUnavailableError("the leader does not decide")
        tps, user_data = decision
        self.current = (generation, me)
        self.told = GroupMetadata(group_id, generation, me, options.group_instance_id)
        assignor.assigned(tps, user_data)
        self._owner.own(tps)
        return tps

    async def _beat(self) -> None:
        """Heartbeats, and a look at the topics now and then."""
        options = self._options
        loop = asyncio.get_running_loop()
        group_id, looked = options.group_id, loop.time()
        generation, me = self.current
        while True:
            await asyncio.sleep(options.heartbeat_interval_ms / 1000)
            if (loop.time() - self._polled_at) * 1000 > options.max_poll_interval_ms:
                self._expelled()
                try:
                    await self._network.call("leave-group", lambda b: b.group(group_id).leave(me))
                except BrokerUnavailableError:
                    pass
                return
            try:
                await self._network.call("heartbeat", lambda b: _heartbeat(b, group_id, generation, me))
                if loop.time() - looked >= LOOK_SECONDS:
                    looked = loop.time()
                    counts = await self._network.call("metadata", lambda b: b.counts(self._options.topics))
                    if counts != self._counts:
                        self._moved_on.set()
            except BrokerUnavailableError:
                continue
            except Refused as refusal:
                if refusal.code != REBALANCE_IN_PROGRESS:
                    self._expelled()
                self._moved_on.set()

    def _expelled(self) -> None:
        self.current, self._member_id = NO_MEMBER, ""
        self._moved_on.set()


def _asked(group: Group, member_id: str, question: Callable[[], T]) -> T:
    try:
        return question()
    except RejoinNeeded:
        code = REBALANCE_IN_PROGRESS if member_id in group.members() else UNKNOWN_MEMBER
        raise Refused(code, "join again") from None


def _heartbeat(broker: Broker, group_id: str, generation: int, member_id: str) -> bool:
    group = broker.group(group_id)
    if member_id not in group.members():
        raise Refused(UNKNOWN_MEMBER, f"{member_id} is no member of {group_id}")
    group.keep_alive(member_id)
    if group.state == "PreparingRebalance":
        raise Refused(REBALANCE_IN_PROGRESS, "a rebalance is on")
    if generation != group.generation:
        raise Refused(ILLEGAL_GENERATION, f"generation {generation} is over")
    return True
