"""The reading side of an embedded broker. Next: `runtime/task`, which takes the columns."""

from collections.abc import Collection, Mapping

from streamlib.clock import Clock
from streamlib.errors import BrokerLockedError, CommitError
from streamlib.record import FetchedBatch, TopicPartition
from streamlib.transport.base import GroupOptions, IsolationLevel, OffsetAndMetadata
from streamlib.transport.embedded.broker import RECHECK_SECONDS, Broker, Store
from streamlib.transport.embedded.log import Read
from streamlib.transport.embedded.membership import Membership

_LOCK_PATIENCE_SECONDS = 0.5


class EmbeddedConsumer:
    """Reads partitions of an embedded broker; see `Consumer` for what each method promises.

    What was fetched but not returned stays in a buffer for each partition, so that a poll that does not want it loses
    nothing and a small poll does not read the same slice twice.

    Args:
        broker: Where to read.
        clock: This process's time.
        isolation: Whether to read open transactions.
        group: Which group to join, if any.
        client_id: What member ids begin with; no other consumer of the broker has it.
    """

    def __init__(
        self, broker: Broker, clock: Clock, isolation: IsolationLevel, group: GroupOptions | None, client_id: str
    ) -> None:
        self._broker = broker
        self._clock = clock
        self._committed_only = isolation == "read_committed"
        self._group = group
        self._client_id = client_id
        self._memberships = 0
        self._membership: Membership | None = None
        self._owned: frozenset[TopicPartition] = frozenset()
        self._held = False
        self._positions: dict[TopicPartition, int] = {}
        self._buffers: dict[TopicPartition, FetchedBatch] = {}
        self._bounds: dict[TopicPartition, int] = {}
        self._turn = 0

    async def start(self) -> None:
        """Begin to join the group, if there is one."""
        if self._group is None:
            return
        await self._lock(self._group.group_id)
        self._membership = Membership(self._broker, self._clock, self._group, self, self._new_member_id)
        self._membership.start()

    async def close(self) -> None:
        """Leave the group."""
        membership, self._membership = self._membership, None
        if membership is not None:
            await membership.leave()
            if self._broker.lock is not None:
                self._broker.lock.release()

    async def vanish(self) -> None:
        """Stop as a killed process does: the group is not told."""
        membership, self._membership = self._membership, None
        if membership is not None:
            await membership.vanish()

    def own(self, partitions: Collection[TopicPartition]) -> None:
        """The group's decision: these partitions, at positions the worker will name."""
        self._owned = frozenset(partitions)
        self._held = False
        self._positions.clear()
        self._buffers.clear()
        self._bounds.clear()

    def hold(self) -> None:
        """The partitions are about to go: return no more records."""
        self._held = True

    def subscribe(self, topics: frozenset[str]) -> None:
        """As a member: read these topics from now on; the group rebalances."""
        if self._membership is None:
            raise _groupless()
        self._membership.subscribe(topics)

    def rejoin(self) -> None:
        """As a member: have the group decide again soon."""
        if self._membership is None:
            raise _groupless()
        self._membership.rejoin()

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read exactly these partitions, from these offsets."""
        self.own(positions)
        self._positions.update(positions)
        self._broker.written.ring()

    def seek(self, tp: TopicPartition, offset: int) -> None:
        """Read ``tp`` from ``offset`` on, if it is assigned."""
        if tp in self._owned:
            self._positions[tp] = offset
            self._buffers.pop(tp, None)
            self._broker.written.ring()

    def position(self, tp: TopicPartition) -> int | None:
        """The next offset to be returned."""
        return self._positions.get(tp)

    def lag(self, tp: TopicPartition) -> int | None:
        """How many offsets lie between the position and where reading ended last time."""
        position, bound = self._positions.get(tp), self._bounds.get(tp)
        return None if position is None or bound is None else max(0, bound - position)

    async def poll(
        self, wanted: Collection[TopicPartition], *, max_records: int, timeout_ms: int
    ) -> dict[TopicPartition, FetchedBatch]:
        """Columns of some of the wanted partitions; partitions take turns to be first."""
        deadline = self._clock.monotonic() + timeout_ms / 1000
        # Others on the loop get their turn even if records are always there.
        await self._clock.sleep(0)
        while True:
            seen = self._broker.written.rung
            if self._membership is not None:
                self._membership.polled()
                if self._membership.failure is not None:
                    raise self._membership.failure
            polled = await self._poll_once(wanted, max_records)
            remaining = deadline - self._clock.monotonic()
            if polled or remaining <= 0:
                return polled
            await self._broker.written.wait(seen, self._clock, min(remaining, RECHECK_SECONDS))

    async def committed(self, tps: Collection[TopicPartition]) -> dict[TopicPartition, OffsetAndMetadata | None]:
        """The group's offsets, once no transaction may change them any more."""
        if self._group is None:
            raise _groupless()
        group_id = self._group.group_id
        while True:
            seen = self._broker.written.rung
            found = await self._broker.read(lambda store: _stable_offsets(store, group_id, tps))
            if found is not None:
                return {tp: found.get(tp) for tp in tps}
            await self._abort_overdue()
            await self._broker.written.wait(seen, self._clock, RECHECK_SECONDS)

    async def commit(self, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        """Commit offsets as this member."""
        if self._membership is None:
            raise _groupless()
        metadata = self._membership.metadata()
        group = self._broker.group(metadata.group_id)

        def job(store: Store) -> None:
            group.check(metadata)
            store.offsets.commit(metadata.group_id, offsets)

        await self._broker.write(job)

    async def _poll_once(
        self, wanted: Collection[TopicPartition], max_records: int
    ) -> dict[TopicPartition, FetchedBatch]:
        # Sorted, because the order of a set changes from one process to the next, and a seeded run must not.
        ready = [] if self._held else sorted(tp for tp in wanted if tp in self._positions)
        if not ready:
            return {}
        self._turn = (self._turn + 1) % len(ready)
        ready = ready[self._turn :] + ready[: self._turn]
        await self._fetch({tp: self._positions[tp] for tp in ready if tp not in self._buffers}, max_records)
        polled: dict[TopicPartition, FetchedBatch] = {}
        for tp in ready:
            if max_records > 0 and tp in self._buffers and not self._held:
                polled[tp] = self._take(tp, max_records)
                max_records -= len(polled[tp])
        return polled

    async def _fetch(self, positions: dict[TopicPartition, int], max_records: int) -> None:
        if not positions:
            return
        committed = self._committed_only
        now_ms = self._broker.clock.time_ms()

        def job(store: Store) -> tuple[Read, bool]:
            read = store.log.read(positions, max_records, committed=committed)
            return read, committed and store.transactions.overdue(now_ms)

        read, overdue = await self._broker.read(job)
        self._bounds.update(read.bounds)
        for tp, batch in read.batches.items():
            # A seek or a rebalance while the database was read makes this batch one that nobody asked for.
            if self._positions.get(tp) == positions[tp] and tp not in self._buffers:
                if len(batch):
                    self._buffers[tp] = batch
                else:
                    self._positions[tp] = batch.next_offset
        if overdue:
            await self._broker.abort_overdue()

    def _take(self, tp: TopicPartition, max_records: int) -> FetchedBatch:
        batch = self._buffers.pop(tp)
        if len(batch) > max_records:
            self._buffers[tp] = _rows(batch, max_records, len(batch), batch.next_offset)
            batch = _rows(batch, 0, max_records, batch.offsets[max_records - 1] + 1)
        self._positions[tp] = batch.next_offset
        return batch

    async def _lock(self, group_id: str) -> None:
        """Take the directory for this process, within the moment that a look at its holder or its end may take."""
        lock = self._broker.lock
        if lock is None:
            return
        deadline = self._clock.monotonic() + _LOCK_PATIENCE_SECONDS
        while True:
            try:
                lock.acquire(group_id)
            except BrokerLockedError:
                if self._clock.monotonic() >= deadline:
                    raise
                await self._clock.sleep(_LOCK_PATIENCE_SECONDS / 10)
            else:
                return

    def _new_member_id(self) -> str:
        self._memberships += 1
        return f"{self._client_id}-{self._memberships}"

    async def _abort_overdue(self) -> None:
        now_ms = self._broker.clock.time_ms()
        if await self._broker.read(lambda store: store.transactions.overdue(now_ms)):
            await self._broker.abort_overdue()


def _groupless() -> CommitError:
    return CommitError("this consumer is in no group: make it with GroupOptions and start it")


def _stable_offsets(
    store: Store, group_id: str, tps: Collection[TopicPartition]
) -> dict[TopicPartition, OffsetAndMetadata] | None:
    return None if store.offsets.pending(group_id, tps) else store.offsets.committed(group_id)


def _rows(batch: FetchedBatch, start: int, stop: int, next_offset: int) -> FetchedBatch:
    return FetchedBatch(
        batch.keys[start:stop],
        batch.values[start:stop],
        batch.timestamps[start:stop],
        batch.offsets[start:stop],
        None if batch.headers is None else batch.headers[start:stop],
        next_offset,
    )
