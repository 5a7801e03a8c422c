"""The simulated broker: what Kafka does when a request arrives, one method for each request, nothing is awaited.

Groups are the classic protocol's; transactions are those of KIP-98 with the checks of KIP-447 and KIP-890 part 1. A
coordinator answers EndTxn when its decision is logged, and the markers go to each partition by themselves, later.
Time comes from the event loop; chance (how long a marker takes) from whoever makes the broker.

Next: `network`, which brings requests and answers; `client`, which makes them.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

from streamlib.errors import CommitError
from streamlib.record import FetchedBatch, TopicPartition
from streamlib.transport.base import GroupMetadata, OffsetAndMetadata, TopicSpec
from streamlib.transport.embedded.group import Group
from streamlib.transport.embedded.topics import DEFAULT_CONFIGS
from tests.simulation.partition import (
    CONCURRENT_TRANSACTIONS,
    ILLEGAL_GENERATION,
    INVALID_EPOCH,
    INVALID_TXN_STATE,
    REBALANCE_IN_PROGRESS,
    UNKNOWN_MEMBER,
    UNKNOWN_TOPIC,
    UNSTABLE_OFFSETS,
    Batch,
    Partition,
    Refused,
)

TICK_SECONDS = 0.05

State = Literal["empty", "ongoing", "prepare-commit", "prepare-abort", "committed", "aborted"]


@dataclass
class Transactions:
    """What the coordinator knows of one transactional id."""

    name: str
    producer: int
    epoch: int = -1
    state: State = "empty"
    timeout: float = 60.0
    began: float = 0.0
    partitions: set[TopicPartition] = field(default_factory=set)
    groups: set[str] = field(default_factory=set)
    markers: int = 0


@dataclass
class _Kept:
    """The offsets of one group: committed, and pending by producer."""

    committed: dict[TopicPartition, OffsetAndMetadata] = field(default_factory=dict)
    pending: dict[int, dict[TopicPartition, OffsetAndMetadata]] = field(default_factory=dict)


class Broker:
    """All of it.

    Args:
        marker_delay: How many seconds the next marker takes to arrive; None for at once.

    Attributes:
        bell: Set, and replaced, whenever something has changed that somebody may wait for.
        verify: Whether partitions check that a transactional write belongs to an open transaction (KIP-890 part 1).
    """

    def __init__(self, marker_delay: Callable[[], float] | None = None) -> None:
        self._marker_delay = marker_delay
        self._loop = asyncio.get_running_loop()
        self._configs: dict[str, dict[str, str]] = {}
        self._partitions: dict[TopicPartition, Partition] = {}
        self._counts: dict[str, int] = {}
        self._groups: dict[str, Group] = {}
        self._kept: dict[str, _Kept] = {}
        self._transactions: dict[str, Transactions] = {}
        self._by_producer: dict[int, Transactions] = {}
        self._producers = 0
        self._ticking: asyncio.TimerHandle | None = None
        self.verify = True
        self.bell: asyncio.Future[None] = self._loop.create_future()
        self.topics_changed = 0

    def ring(self) -> None:
        """Wake whoever waits for a change."""
        bell, self.bell = self.bell, self._loop.create_future()
        bell.set_result(None)

    # ---- topics and records -----------------------------------------------------------------------------

    def create_topics(self, topics: Collection[TopicSpec]) -> None:
        """Create those that are not there."""
        for topic in topics:
            if topic.name not in self._counts:
                configs = self._configs[topic.name] = {**DEFAULT_CONFIGS, **topic.configs}
                self._counts[topic.name] = topic.partitions
                for number in range(topic.partitions):
                    limit = int(configs["max.message.bytes"])
                    self._partitions[TopicPartition(topic.name, number)] = Partition(limit)
        self.topics_changed += 1
        self.ring()

    def delete_topics(self, topics: Collection[str]) -> None:
        """Delete those that are there, with the offsets of groups."""
        for topic in topics:
            for number in range(self._counts.pop(topic, 0)):
                tp = TopicPartition(topic, number)
                del self._partitions[tp]
                for kept in self._kept.values():
                    kept.committed.pop(tp, None)
            self._configs.pop(topic, None)
        self.topics_changed += 1
        self.ring()

    def counts(self, topics: Collection[str] | None) -> dict[str, int]:
        """Partition counts."""
        return {name: count for name, count in sorted(self._counts.items()) if topics is None or name in topics}

    def configs(self, topics: Collection[str]) -> dict[str, dict[str, str]]:
        """Configurations."""
        if missing := sorted(set(topics) - self._configs.keys()):
            raise Refused(UNKNOWN_TOPIC, f"topic={', '.join(missing)} does not exist")
        return {topic: self._configs[topic] for topic in topics}

    def partition(self, tp: TopicPartition) -> Partition:
        """A log."""
        if tp not in self._partitions:
            raise Refused(UNKNOWN_TOPIC, f"topic={tp.topic} partition={tp.partition} does not exist")
        return self._partitions[tp]

    def delete_records(self, before: Mapping[TopicPartition, int]) -> None:
        """Delete records."""
        for tp, offset in before.items():
            self.partition(tp).delete_before(offset)

    def fetch(
        self, positions: Mapping[TopicPartition, int], max_records: int, *, committed: bool
    ) -> dict[TopicPartition, tuple[FetchedBatch | Refused, int]]:
        """For each partition its records from there on, or the refusal, and the end of what may be read."""
        found: dict[TopicPartition, tuple[FetchedBatch | Refused, int]] = {}
        for tp, position in positions.items():
            try:
                log = self.partition(tp)
                batch = log.read(position, max_records, committed=committed)
                found[tp] = batch, log.stable if committed else log.end
            except Refused as refusal:
                found[tp] = refusal, 0
        return found

    def produce(
        self, batches: Mapping[TopicPartition, Batch], producer: int, epoch: int, transactional: bool
    ) -> dict[TopicPartition, int | Refused]:
        """Append; for each batch its first offset, or the refusal."""
        if transactional and self.verify:
            mine = self._by_producer[producer]
            if epoch != mine.epoch:
                raise Refused(INVALID_EPOCH, f"epoch {epoch} is over, {mine.epoch} has begun")
            if mine.state != "ongoing" or not batches.keys() <= mine.partitions:
                raise Refused(INVALID_TXN_STATE, "the write belongs to no open transaction")
        offsets: dict[TopicPartition, int | Refused] = {}
        for tp, batch in batches.items():
            try:
                offsets[tp] = self.partition(tp).append(batch, producer, epoch, transactional=transactional)
            except Refused as refusal:
                offsets[tp] = refusal
        self.ring()
        return offsets

    # ---- groups -----------------------------------------------------------------------------------------

    def group(self, group_id: str) -> Group:
        """A group as it stands now."""
        group = self._groups.get(group_id)
        if group is None:
            group = self._groups[group_id] = Group(group_id, self._loop.time, self.ring)
        group.tick()
        return group

    def groups(self) -> list[str]:
        """Groups with members or offsets."""
        with_members = {name for name, group in self._groups.items() if group.members()}
        return sorted(with_members | {name for name, kept in self._kept.items() if kept.committed})

    def kept(self, group_id: str) -> dict[TopicPartition, OffsetAndMetadata]:
        """What a group has committed, whatever is pending."""
        return dict(self._offsets(group_id).committed)

    def forget_group(self, group_id: str) -> None:
        """Forget a group without members."""
        self._kept.pop(group_id, None)

    def commit_offsets(self, group: GroupMetadata | str, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        """OffsetCommit, of a member or of an admin."""
        if isinstance(group, str):
            if self.group(group).members():
                raise Refused(UNKNOWN_MEMBER, f"group={group} has members")
            self._offsets(group).committed.update(offsets)
            return
        self._check_member(group)
        if self.group(group.group_id).state == "CompletingRebalance":
            raise Refused(REBALANCE_IN_PROGRESS, "a rebalance is on")
        self._offsets(group.group_id).committed.update(offsets)

    def fetch_offsets(
        self, group_id: str, tps: Collection[TopicPartition], *, stable: bool
    ) -> dict[TopicPartition, OffsetAndMetadata | None]:
        """OffsetFetch; with ``stable`` as of KIP-447."""
        kept = self._offsets(group_id)
        if stable and any(tp in pending for pending in kept.pending.values() for tp in tps):
            raise Refused(UNSTABLE_OFFSETS, "a transaction is pending on the offsets")
        return {tp: kept.committed.get(tp) for tp in tps}

    def _offsets(self, group_id: str) -> _Kept:
        return self._kept.setdefault(group_id, _Kept())

    def _check_member(self, group: GroupMetadata) -> None:
        known = self.group(group.group_id)
        try:
            known.check(group)
        except CommitError as error:
            unknown = group.member_id not in known.members()
            raise Refused(UNKNOWN_MEMBER if unknown else ILLEGAL_GENERATION, str(error)) from error

    # ---- transactions -----------------------------------------------------------------------------------

    def new_producer(self) -> tuple[int, int]:
        """InitProducerId of an idempotent producer: its id and epoch."""
        self._producers += 1
        return self._producers, 0

    def init_producer(self, name: str, timeout: float) -> tuple[int, int]:
        """InitProducerId of a transactional one: ends what is open, and then gives the next epoch."""
        mine = self._transactions.get(name)
        if mine is None:
            self._producers += 1
            mine = self._transactions[name] = Transactions(name, self._producers)
            self._by_producer[mine.producer] = mine
        if mine.state == "ongoing":
            mine.epoch += 1  # fences whoever opened it
            self._end(mine, commit=False)
        if mine.state.startswith("prepare"):
            raise Refused(CONCURRENT_TRANSACTIONS, f"transactional id {name} is ending a transaction")
        mine.epoch += 1
        mine.state, mine.timeout = "empty", timeout
        return mine.producer, mine.epoch

    def add_to_transaction(
        self, name: str, epoch: int, tps: Collection[TopicPartition] = (), group_id: str | None = None
    ) -> None:
        """AddPartitionsToTxn and AddOffsetsToTxn."""
        mine = self._current(name, epoch)
        for tp in tps:
            self.partition(tp)
        if mine.state != "ongoing":
            mine.state, mine.began = "ongoing", self._loop.time()
            mine.partitions, mine.groups = set(), set()
            self._tick_soon()
        mine.partitions.update(tps)
        if group_id is not None:
            mine.groups.add(group_id)

    def add_offsets(
        self, name: str, epoch: int, group: GroupMetadata, offsets: Mapping[TopicPartition, OffsetAndMetadata]
    ) -> None:
        """TxnOffsetCommit v3: a member's, checked; without generation and member nobody is."""
        mine = self._transactions[name]
        if group.generation >= 0 or group.member_id:
            self._check_member(group)
        if epoch != mine.epoch:
            raise Refused(INVALID_EPOCH, f"epoch {epoch} is over, {mine.epoch} has begun")
        if self.verify and (mine.state != "ongoing" or group.group_id not in mine.groups):
            raise Refused(INVALID_TXN_STATE, "the offsets belong to no open transaction")
        self._offsets(group.group_id).pending.setdefault(mine.producer, {}).update(offsets)

    def end_transaction(self, name: str, epoch: int, *, commit: bool) -> None:
        """EndTxn: answered once it is decided."""
        mine = self._current(name, epoch)
        if mine.state == ("committed" if commit else "aborted"):
            return
        if mine.state != "ongoing":
            raise Refused(INVALID_TXN_STATE, f"transactional id {name} is {mine.state}")
        self._end(mine, commit=commit)

    def open_transactions(self) -> list[str]:
        """Transactional ids with a transaction that has not ended everywhere."""
        return sorted(n for n, mine in self._transactions.items() if mine.state == "ongoing" or mine.markers)

    def _current(self, name: str, epoch: int) -> Transactions:
        mine = self._transactions[name]
        if epoch != mine.epoch:
            raise Refused(INVALID_EPOCH, f"epoch {epoch} is over, {mine.epoch} has begun")
        if mine.state.startswith("prepare"):
            raise Refused(CONCURRENT_TRANSACTIONS, f"transactional id {name} is ending a transaction")
        return mine

    def _end(self, mine: Transactions, *, commit: bool) -> None:
        mine.state = "prepare-commit" if commit else "prepare-abort"
        targets: list[TopicPartition | str] = [*sorted(mine.partitions), *sorted(mine.groups)]
        mine.markers = len(targets)
        if not targets:
            self._ended(mine)
        for target in targets:
            if self._marker_delay is None:
                self._mark(mine, target, mine.epoch, commit)
            else:
                self._loop.call_later(self._marker_delay(), self._mark, mine, target, mine.epoch, commit)

    def _mark(self, mine: Transactions, target: TopicPartition | str, epoch: int, commit: bool) -> None:
        if isinstance(target, str):
            kept = self._offsets(target)
            pending = kept.pending.pop(mine.producer, {})
            if commit:
                kept.committed.update(pending)
        elif target in self._partitions:
            self._partitions[target].mark(mine.producer, epoch, commit=commit)
        mine.markers -= 1
        if not mine.markers:
            self._ended(mine)
        self.ring()

    def _ended(self, mine: Transactions) -> None:
        mine.state = "committed" if mine.state == "prepare-commit" else "aborted"

    def _tick_soon(self) -> None:
        if self._ticking is None:
            self._ticking = self._loop.call_later(TICK_SECONDS, self._tick)

    def _tick(self) -> None:
        """Abort what has been open for too long; its producer is fenced."""
        self._ticking = None
        for mine in self._transactions.values():
            if mine.state == "ongoing":
                if self._loop.time() - mine.began > mine.timeout:
                    mine.epoch += 1
                    self._end(mine, commit=False)
                else:
                    self._tick_soon()
