"""A consumer that talks to the simulated broker: one fetch at a time, which the broker answers when there is news.

Next: `membership`, its place in a group; `broker`.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

from streamlib.errors import (
    BrokerUnavailableError,
    CommitError,
    MissingTopicError,
    OffsetOutOfRangeError,
    TransportError,
)
from streamlib.record import FetchedBatch, TopicPartition
from streamlib.transport.base import GroupOptions, IsolationLevel, OffsetAndMetadata
from tests.simulation.broker import Broker
from tests.simulation.membership import Membership
from tests.simulation.network import Network
from tests.simulation.partition import OFFSET_OUT_OF_RANGE, UNSTABLE_OFFSETS, Refused

T = TypeVar("T")

FETCH_SECONDS = 0.1
FETCH_RECORDS = 500
RETRY_SECONDS = 0.05
COMMIT_SECONDS = 10.0
STABLE_SECONDS = 20.0


class SimulatedConsumer:
    """Implements `transport.base.Consumer`.

    Args:
        network: Leads to the broker.
        group: The group to join, if any.
        isolation: What it may see.

    Attributes:
        stable: Whether committed offsets are waited for while a transaction is pending on them; tests take it out.
    """

    def __init__(self, network: Network, group: GroupOptions | None, isolation: IsolationLevel) -> None:
        self.stable = True
        self.membership: Membership | None = None
        self._network = network
        self._group = group
        self._committed_only = isolation == "read_committed"
        self._assigned: set[TopicPartition] = set()
        self._held = False
        self._positions: dict[TopicPartition, int] = {}
        self._buffers: dict[TopicPartition, FetchedBatch] = {}
        self._bounds: dict[TopicPartition, int] = {}
        self._errors: dict[TopicPartition, Refused] = {}
        self._fetching: asyncio.Task[None] | None = None
        self._turn = 0
        self._changed: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Begin to join."""
        if self._group is not None:
            self.membership = Membership(self._network, self._group, self)
            await self._network.call("metadata", lambda b: b.counts(None))
            self.membership.start()

    async def close(self) -> None:
        """Leave."""
        membership, self.membership = self.membership, None
        if membership is not None:
            await membership.leave()
        fetching, self._fetching = self._fetching, None
        if fetching is not None:
            fetching.cancel()
            await asyncio.wait([fetching])

    def own(self, tps: Collection[TopicPartition]) -> None:
        """These and no others, at positions that are not known yet."""
        self._assigned = set(tps)
        self._held = False
        for kept in (self._positions, self._buffers, self._bounds, self._errors):
            kept.clear()
        self.wake()

    def hold(self) -> None:
        """Return nothing until the group has decided."""
        self._held = True

    def subscribe(self, topics: frozenset[str]) -> None:
        """Read other topics."""
        self._member().subscribe(topics)

    def rejoin(self) -> None:
        """Have the group decide again."""
        self._member().rejoin()

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read these."""
        self.own(positions)
        self._positions.update(positions)

    def seek(self, tp: TopicPartition, offset: int) -> None:
        """Read on from there."""
        if tp in self._assigned:
            self._positions[tp] = offset
            self._buffers.pop(tp, None)
            self._errors.pop(tp, None)
            self._bounds.pop(tp, None)
            self.wake()

    def position(self, tp: TopicPartition) -> int | None:
        """The next offset to be returned."""
        return self._positions.get(tp)

    def lag(self, tp: TopicPartition) -> int | None:
        """What is left."""
        position, bound = self._positions.get(tp), self._bounds.get(tp)
        return None if position is None or bound is None else max(0, bound - position)

    async def poll(
        self, wanted: Collection[TopicPartition], *, max_records: int, timeout_ms: int
    ) -> dict[TopicPartition, FetchedBatch]:
        """Records, from the partitions in turn."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_ms / 1000
        await asyncio.sleep(0)
        while True:
            if self.membership is not None:
                self.membership.check()
            ready = [] if self._held else sorted(tp for tp in wanted if tp in self._positions)
            if ready:
                self._turn = (self._turn + 1) % len(ready)
                polled = self._take(ready[self._turn :] + ready[: self._turn], max_records)
                if polled:
                    return polled
                if self._fetching is None:
                    self._fetching = asyncio.ensure_future(self._fetch(ready))
            left = deadline - loop.time()
            if left <= 0:
                return {}
            await self._wait(left)

    async def committed(self, tps: Collection[TopicPartition]) -> dict[TopicPartition, OffsetAndMetadata | None]:
        """The group's offsets."""
        if self._group is None:
            raise TransportError("this consumer has no group")
        group_id, stable = self._group.group_id, self.stable
        asked = sorted(tps)
        return await self._until(
            "offset-fetch", lambda b: b.fetch_offsets(group_id, asked, stable=stable), STABLE_SECONDS
        )

    async def commit(self, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        """Commit as the member that the listener was told of."""
        group = self._member().told
        if group is None:
            raise CommitError("not a member of the group yet")
        await self._until("offset-commit", lambda b: b.commit_offsets(group, offsets), COMMIT_SECONDS)

    async def _until(self, kind: str, job: Callable[[Broker], T], seconds: float) -> T:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while True:
            try:
                return await self._network.call(kind, job)
            except BrokerUnavailableError:
                if loop.time() >= deadline:
                    raise
            except Refused as refusal:
                if refusal.code != UNSTABLE_OFFSETS:
                    raise CommitError(str(refusal)) from refusal
                if loop.time() >= deadline:
                    raise BrokerUnavailableError(str(refusal)) from refusal
            await asyncio.sleep(RETRY_SECONDS)

    # ---- fetching ---------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Something has changed that a poll may wait for."""
        changed, self._changed = self._changed, None
        if changed is not None and not changed.done():
            changed.set_result(None)

    async def _wait(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        if self._changed is None:
            self._changed = loop.create_future()
        await asyncio.wait([self._changed], timeout=seconds)

    async def _fetch(self, ready: Sequence[TopicPartition]) -> None:
        try:
            positions = {tp: self._positions[tp] for tp in ready if tp not in self._buffers}
            committed = self._committed_only
            known = {tp: self._bounds.get(tp) for tp in positions}

            def job(broker: Broker) -> object:
                found = broker.fetch(positions, FETCH_RECORDS, committed=committed)
                news = any(
                    isinstance(batch, Refused) or len(batch) or batch.next_offset > positions[tp] or bound != known[tp]
                    for tp, (batch, bound) in found.items()
                )
                return found if news else None

            found = await self._network.call("fetch", job, wait=FETCH_SECONDS)
            for tp, (batch, bound) in (found or {}).items():  # type: ignore[attr-defined]
                self._got(tp, positions[tp], batch, bound)
        except BrokerUnavailableError:
            await asyncio.sleep(RETRY_SECONDS)
        finally:
            self._fetching = None
            self.wake()

    def _got(self, tp: TopicPartition, asked: int, batch: FetchedBatch | Refused, bound: int) -> None:
        if self._positions.get(tp) != asked or tp in self._buffers:
            return
        if isinstance(batch, Refused):
            self._errors[tp] = batch
            return
        self._bounds[tp] = bound
        if len(batch):
            self._buffers[tp] = batch
        else:
            self._positions[tp] = batch.next_offset

    def _take(self, ready: Sequence[TopicPartition], max_records: int) -> dict[TopicPartition, FetchedBatch]:
        polled: dict[TopicPartition, FetchedBatch] = {}
        for tp in ready:
            if (error := self._errors.pop(tp, None)) is not None:
                text = f"topic={tp.topic} partition={tp.partition}: {error}"
                raise (OffsetOutOfRangeError if error.code == OFFSET_OUT_OF_RANGE else MissingTopicError)(text)
            if max_records > 0 and tp in self._buffers:
                batch = self._buffers.pop(tp)
                if len(batch) > max_records:
                    self._buffers[tp] = _rows(batch, max_records, len(batch), batch.next_offset)
                    batch = _rows(batch, 0, max_records, batch.offsets[max_records - 1] + 1)
                polled[tp] = batch
                self._positions[tp] = batch.next_offset
                max_records -= len(batch)
        return polled

    def _member(self) -> "Membership":
        if self.membership is None:
            raise TransportError("this consumer is in no group")
        return self.membership


def _rows(batch: FetchedBatch, start: int, stop: int, next_offset: int) -> FetchedBatch:
    return FetchedBatch(
        batch.keys[start:stop],
        batch.values[start:stop],
        batch.timestamps[start:stop],
        batch.offsets[start:stop],
        None if batch.headers is None else batch.headers[start:stop],
        next_offset,
    )
