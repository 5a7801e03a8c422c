"""The coordinator of one consumer group, as a table of members and a state: Kafka's classic protocol, in memory.

    Empty ──join──► PreparingRebalance ──all joined, or time is up──► CompletingRebalance ──leader decides──► Stable
                          ▲                                                    │                                │
                          └─────────────── join, leave, expiry, new partitions ┴────────────────────────────────┘

It never waits: members ask again when the broker's ``changed`` bell rings. Next: `membership`, a member's side.

Source: `kafka.coordinator.group.GroupCoordinator` (classic groups).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from streamlib.errors import CommitError
from streamlib.record import TopicPartition
from streamlib.transport.base import GroupMetadata, Member

Decision = tuple[Sequence[TopicPartition], bytes]


class RejoinNeeded(Exception):  # noqa: N818 - a turn of the protocol, never seen outside it
    """The group has moved on, or has expelled this member: it must join again."""


@dataclass(frozen=True)
class Subscription:
    """What a member says when it joins."""

    topics: frozenset[str]
    user_data: bytes
    session_timeout_ms: int
    rebalance_timeout_ms: int


@dataclass
class _Seat:
    subscription: Subscription
    expires: float
    joined: bool = True
    decision: Decision | None = None


class Group:
    """Members, generation and state of one group.

    Args:
        group_id: Its name.
        now: The broker's monotonic time in seconds.
        changed: Called after every change that a member may wait for.
        expires: Whether members that stop their heartbeats are expelled.
    """

    def __init__(
        self, group_id: str, now: Callable[[], float], changed: Callable[[], None], *, expires: bool = True
    ) -> None:
        self.group_id = group_id
        self.state = "Empty"
        self.generation = 0
        self._now = now
        self._changed = changed
        self._expires = expires
        self._seats: dict[str, _Seat] = {}
        self._join_deadline = 0.0

    def members(self) -> list[str]:
        """Member ids, the leader's first."""
        return list(self._seats)

    def tick(self) -> None:
        """Expel members whose session has expired, and end a rebalance that need not or may not go on."""
        if self._expires:
            now = self._now()
            for member_id in [member_id for member_id, seat in self._seats.items() if seat.expires < now]:
                self.leave(member_id)
        self._settle()

    def join(self, member_id: str, subscription: Subscription) -> None:
        """Take a seat, or say again what one reads; starts a rebalance unless one is on."""
        expires = self._now() + subscription.session_timeout_ms / 1000
        known = self._seats.get(member_id)
        if self.state != "PreparingRebalance":
            self._prepare(subscription.rebalance_timeout_ms)
        if known is None:
            self._seats[member_id] = _Seat(subscription, expires)
        else:
            known.subscription, known.expires, known.joined = subscription, expires, True
        self._settle()

    def leave(self, member_id: str) -> None:
        """Give up the seat; the others rebalance."""
        if self._seats.pop(member_id, None) is None:
            return
        if not self._seats:
            self.state = "Empty"
            self._changed()
        elif self.state != "PreparingRebalance":
            self._prepare(0)
        self._settle()

    def rebalance(self) -> None:
        """Let everyone join again, because there is something new to share out."""
        if self.state == "Stable":
            self._prepare(0)

    def keep_alive(self, member_id: str) -> None:
        """Take a heartbeat."""
        if seat := self._seats.get(member_id):
            seat.expires = self._now() + seat.subscription.session_timeout_ms / 1000

    def joined(self, member_id: str) -> int | None:
        """The generation the member is part of, None while others are waited for.

        Raises:
            RejoinNeeded: It was expelled; or the next rebalance began before it heard of the end of the one it joined.
        """
        seat = self._seats.get(member_id)
        if seat is None or not seat.joined:
            raise RejoinNeeded
        return None if self.state == "PreparingRebalance" else self.generation

    def undecided(self, member_id: str, generation: int) -> dict[str, Member] | None:
        """All members, if this one leads a generation that has no assignment yet."""
        if self.state != "CompletingRebalance" or generation != self.generation or self.members()[0] != member_id:
            return None
        return {
            other: Member(seat.subscription.topics, seat.subscription.user_data) for other, seat in self._seats.items()
        }

    def decide(self, generation: int, decisions: Mapping[str, Decision]) -> None:
        """The leader's assignment; ignored when the group has moved on meanwhile."""
        if self.state != "CompletingRebalance" or generation != self.generation:
            return
        for member_id, seat in self._seats.items():
            seat.decision = decisions.get(member_id, ((), b""))
        self.state = "Stable"
        self._changed()

    def decision(self, member_id: str, generation: int) -> Decision | None:
        """What the leader decided for this member in this generation, None while it is waited for.

        Raises:
            RejoinNeeded: The group has moved on.
        """
        seat = self._seats.get(member_id)
        if seat is None or generation != self.generation or self.state == "PreparingRebalance":
            raise RejoinNeeded
        return seat.decision

    def check(self, metadata: GroupMetadata) -> None:
        """Let only a current member's offsets through.

        Raises:
            CommitError: The member is unknown or its generation is over.
        """
        if metadata.member_id not in self._seats or metadata.generation != self.generation:
            msg = (
                f"group={self.group_id} refuses offsets of member {metadata.member_id or '(none)'}, generation "
                f"{metadata.generation}; it is at generation {self.generation}: drop this work and rejoin"
            )
            raise CommitError(msg)

    def _prepare(self, rebalance_timeout_ms: int) -> None:
        timeouts = [seat.subscription.rebalance_timeout_ms for seat in self._seats.values()]
        self._join_deadline = self._now() + max([rebalance_timeout_ms, *timeouts]) / 1000
        self.state = "PreparingRebalance"
        for seat in self._seats.values():
            seat.joined = False
            seat.decision = None
        self._changed()

    def _settle(self) -> None:
        if self.state != "PreparingRebalance":
            return
        late = [member_id for member_id, seat in self._seats.items() if not seat.joined]
        if late and self._now() < self._join_deadline:
            return
        for member_id in late:
            del self._seats[member_id]
        self.generation += 1
        self.state = "CompletingRebalance" if self._seats else "Empty"
        self._changed()
