"""Copies of tasks that run elsewhere, kept up to date from their changelogs, so that they can take over in no time.

One consumer reads all their changelogs, read committed, beside the worker's loop; what it reads goes into a copy's
engine together with the offset. When a copy is to run, its open stores are handed to the new task, which reads only
what is left; when a task stops running here and a copy is to stay, its stores are handed over the other way.

A changelog that is also an input of its task is followed only as far as the group has committed that input.

Source: StandbyTask, StoreChangelogReader, KIP-441. Next: `restore`, which completes the task.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from streamlib.clock import Clock
from streamlib.config import StreamsConfig
from streamlib.errors import (
    BrokerUnavailableError,
    DiskFullError,
    MissingTopicError,
    OffsetOutOfRangeError,
    StateCorruptedError,
)
from streamlib.metrics import Metrics
from streamlib.record import FetchedBatch, TopicPartition
from streamlib.runtime.free_space import FreeSpace
from streamlib.runtime.partitions import TaskId
from streamlib.runtime.rarely import Rarely
from streamlib.runtime.stored_tasks import StoredTasks
from streamlib.runtime.task_factory import TaskFactory
from streamlib.runtime.task_stores import TaskStores, let_go
from streamlib.transport.base import Admin, Consumer, Transport

log = logging.getLogger(__name__)

POLL_RECORDS = 10_000
POLL_MS = 200
RETRY_SECONDS = 1.0
LIMIT_SECONDS = 1.0  # between two looks at what the group has committed
LAG_GAUGE = "standby_lag_records"


@dataclass
class StandbyTask:
    """A copy of a task.

    Attributes:
        task_id: Which task.
        stores: Its stores, open.
        next_offsets: Where it goes on in each changelog; empty until that is known.
        lag: How many changelog records it lacks; None until that is known.
    """

    task_id: TaskId
    stores: TaskStores
    next_offsets: dict[TopicPartition, int] = field(default_factory=dict)
    lag: int | None = None


class Standbys:
    """The copies that a worker keeps.

    Args:
        transport: Makes the consumer.
        admin: Knows the bounds of changelogs, and what the group has committed.
        config: Settings.
        clock: Time.
        metrics: Gets the lag of each copy.
        stored: Hears what is left on disk of a copy that is not kept any more.
        space: Nothing is read while there is too little of it.

    Attributes:
        tasks: The copies that are open.
        stored: As given.
    """

    def __init__(
        self,
        transport: Transport,
        admin: Admin,
        config: StreamsConfig,
        clock: Clock,
        metrics: Metrics,
        stored: StoredTasks,
        space: FreeSpace,
    ) -> None:
        self.tasks: dict[TaskId, StandbyTask] = {}
        self.stored = stored
        self._space = space
        self._transport = transport
        self._admin = admin
        self._config = config
        self._clock = clock
        self._metrics = metrics
        self._factory: TaskFactory | None = None
        self._wanted: frozenset[TaskId] = frozenset()
        self._cache_bytes = 0
        self._changed = asyncio.Event()
        self._lock = asyncio.Lock()  # held while a copy's stores are written
        self._reader: Consumer | None = None
        self._of: dict[TopicPartition, tuple[StandbyTask, str]] = {}  # each changelog's copy and store
        self._limits: dict[TopicPartition, int] = {}
        self._limits_at = 0.0
        self._outage = Rarely(clock)

    def keep(
        self,
        factory: TaskFactory,
        wanted: frozenset[TaskId],
        handed_over: Mapping[TaskId, TaskStores],
        cache_bytes: int,
    ) -> None:
        """Keep copies of these tasks from now on; returns at once, they are opened and closed by `follow`.

        Args:
            factory: Opens stores.
            wanted: All tasks to keep a copy of.
            handed_over: Open stores of some of them, which hold nothing but what is committed.
            cache_bytes: Memory for rows that the stores of each keep for reading, once it runs.
        """
        self._factory, self._wanted, self._cache_bytes = factory, wanted, cache_bytes
        for task_id, stores in handed_over.items():
            self.tasks[task_id] = StandbyTask(task_id, stores)
        self._changed.set()

    async def release(self, task_id: TaskId) -> TaskStores | None:
        """Give away the open stores of a copy, of which nothing is left here; None when there is no copy."""
        async with self._lock:
            copy = self.tasks.pop(task_id, None)
        if copy is None:
            return None
        self._changed.set()
        self._metrics.gauge(LAG_GAUGE, 0, task=str(task_id))
        return copy.stores

    async def follow(self) -> None:
        """Keep the copies up to date until cancelled."""
        while True:
            try:
                if self._changed.is_set():
                    await self._change()
                if not self._of:
                    await self._changed.wait()
                    continue
                if self._space.low:  # copies that are not wanted any more are closed all the same
                    await self._clock.sleep(RETRY_SECONDS)
                else:
                    await self._read()
            except OffsetOutOfRangeError as error:
                log.warning("copies of tasks look where their changelogs begin: %s", error)
                self._changed.set()
            except DiskFullError as error:
                if self._outage.now():
                    log.error("copies of tasks stand still: %s", error)
                let_go(error)
                await self._reopen()
                await self._clock.sleep(RETRY_SECONDS)
            except (BrokerUnavailableError, MissingTopicError) as error:
                if self._outage.now():
                    log.warning("copies of tasks stand still: %s", error)
                await self._clock.sleep(RETRY_SECONDS)

    async def close(self) -> None:
        """Stop reading and close the stores; `follow` must have ended."""
        await self._stop_reading()
        for copy in self.tasks.values():
            copy.stores.close()
        self.tasks.clear()

    # ---- which copies there are -------------------------------------------------------------------------

    async def _change(self) -> None:
        """Close what is not wanted, open what is, and read the changelogs of all from where they are."""
        self._changed.clear()
        try:
            for task_id in self.tasks.keys() - self._wanted:
                stores = await self.release(task_id)
                if stores is not None:
                    self.stored.keep(task_id, stores)
                    stores.close()
            self._open()
            self._of = {
                tp: (copy, store) for copy in self.tasks.values() for store, tp in copy.stores.changelogs.items()
            }
            await self._stop_reading()
            if not self._of:
                return
            positions = await self._positions()
            self._reader = self._transport.consumer()
            await self._reader.start()
            self._reader.assign(positions)
        except BaseException:
            self._changed.set()
            raise

    def _open(self) -> None:
        assert self._factory is not None
        for task_id in sorted(self._wanted - self.tasks.keys()):
            self.tasks[task_id] = StandbyTask(task_id, self._factory.open_stores(task_id, self._cache_bytes))

    def _begin_anew(self, copy: StandbyTask) -> None:
        del self.tasks[copy.task_id]
        copy.stores.destroy()
        self._changed.set()

    async def _stop_reading(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            await reader.close()

    async def _positions(self) -> dict[TopicPartition, int]:
        """Where each changelog goes on; a copy that lies outside one of its changelogs begins anew."""
        firsts = await self._admin.beginning_offsets(self._of)
        ends = await self._admin.end_offsets(self._of)
        positions: dict[TopicPartition, int] = {}
        for tp, (copy, store) in self._of.items():
            if self.tasks.get(copy.task_id) is not copy:  # it was given away, or begins anew
                continue
            held = copy.stores.offset(store)
            if held is not None and not firsts[tp] <= held <= ends[tp]:
                log.error(
                    "the copy of task %s stands at offset %d of %s-%d, which holds [%d, %d]: it begins anew",
                    *(copy.task_id, held, *tp, firsts[tp], ends[tp]),
                )
                self._begin_anew(copy)
                continue
            copy.next_offsets[tp] = positions[tp] = firsts[tp] if held is None else held
        return positions

    async def _reopen(self) -> None:
        """Close all copies: an engine that has found the disk full takes nothing any more."""
        async with self._lock:
            for copy in self.tasks.values():
                copy.stores.close()
            self.tasks.clear()
        self._changed.set()

    # ---- reading ----------------------------------------------------------------------------------------

    async def _read(self) -> None:
        assert self._reader is not None
        await self._look_at_limits()
        wanted = [
            tp
            for copy in self.tasks.values()
            for tp, offset in copy.next_offsets.items()
            if tp not in self._limits or offset < self._limits[tp]
        ]
        polled = await self._reader.poll(wanted, max_records=POLL_RECORDS, timeout_ms=POLL_MS)
        began = self._clock.monotonic()
        for tp, batch in polled.items():
            async with self._lock:
                await self._apply(tp, batch)
        self._measure()
        if polled:
            await self._clock.sleep(self._clock.monotonic() - began)  # tasks that run have half the time at least

    async def _apply(self, tp: TopicPartition, batch: FetchedBatch) -> None:
        copy, store = self._of[tp]
        if self.tasks.get(copy.task_id) is not copy:  # it was given away during the poll
            return
        offset = copy.stores.restore_up_to(store, batch, self._limits.get(tp, batch.next_offset))
        try:
            for _ in copy.stores.apply_restored(store, offset):
                await self._clock.sleep(0)
        except StateCorruptedError as error:
            log.error("the copy of task %s begins anew: %s", copy.task_id, error)
            let_go(error)
            self._begin_anew(copy)
            return
        copy.next_offsets[tp] = offset
        if offset < batch.next_offset and self._reader is not None:
            self._reader.seek(tp, offset)

    async def _look_at_limits(self) -> None:
        limited = {tp for copy in self.tasks.values() for tp in copy.stores.source_changelogs}
        if not limited:
            self._limits = {}
        elif self._limits.keys() != limited or self._clock.monotonic() - self._limits_at >= LIMIT_SECONDS:
            committed = await self._admin.group_offsets(self._config.application_id)
            self._limits = {tp: committed[tp].offset if tp in committed else 0 for tp in limited}
            self._limits_at = self._clock.monotonic()

    def _measure(self) -> None:
        assert self._reader is not None
        for copy in self.tasks.values():
            lags = [self._lag(tp, offset) for tp, offset in copy.next_offsets.items()]
            if lags and None not in lags:
                copy.lag = sum(lag for lag in lags if lag is not None)
                self._metrics.gauge(LAG_GAUGE, copy.lag, task=str(copy.task_id))

    def _lag(self, tp: TopicPartition, offset: int) -> int | None:
        assert self._reader is not None
        return max(0, self._limits[tp] - offset) if tp in self._limits else self._reader.lag(tp)
