"""Brings new tasks to life in the background: committed positions, then state from the changelogs.

Runs beside the worker's loop and never inside a rebalance callback, so other tasks go on and heartbeats continue. The
end of a changelog is read uncommitted, once; the records are read committed up to it (KAFKA-10167). A store that has
kept its offset restores only what it lacks. An input that is a store's changelog, too, is read up to its committed
offset, where the task goes on: nothing when there is none.

Source: StoreChangelogReader. Next: `worker`, which takes the finished tasks.
"""

import asyncio
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from streamlib.clock import Clock
from streamlib.config import StreamsConfig
from streamlib.errors import (
    BrokerUnavailableError,
    DataLossError,
    MissingTopicError,
    OffsetOutOfRangeError,
    TaskCorruptedError,
)
from streamlib.offset_reset import offset_reset
from streamlib.record import FetchedBatch, TopicPartition
from streamlib.runtime.failpoints import reached
from streamlib.runtime.free_space import FreeSpace
from streamlib.runtime.offset_metadata import Position, decode_position
from streamlib.runtime.rarely import Rarely
from streamlib.runtime.starting_offsets import starting_offsets
from streamlib.runtime.task import Task
from streamlib.transport.base import Admin, Consumer, OffsetAndMetadata, Transport

log = logging.getLogger(__name__)

POLL_RECORDS = 10_000
APPLY_ROWS = 50_000
RETRY_SECONDS = 1.0
MISSES = 3  # right after a broker has started it may not know all topics yet

Positions = dict[TopicPartition, Position]


class RestoreListener(Protocol):
    """Hears how restoring goes; called once a batch at most."""

    def started(self, tp: TopicPartition, store: str, start: int, end: int) -> None:
        """A changelog is about to be read, from offset ``start`` up to ``end``, which is not read any more."""

    def progressed(self, tp: TopicPartition, records: int) -> None:
        """So many more records were applied."""

    def finished(self, tp: TopicPartition) -> None:
        """The store is complete."""


class LogRestoreListener:
    """Writes a log line when a changelog is started and finished."""

    def started(self, tp: TopicPartition, store: str, start: int, end: int) -> None:
        """Log the start."""
        log.info("restoring store %s from %s-%d: offsets %d to %d", store, tp.topic, tp.partition, start, end)

    def progressed(self, tp: TopicPartition, records: int) -> None:
        """Say nothing: a line for each batch helps nobody."""

    def finished(self, tp: TopicPartition) -> None:
        """Log the end."""
        log.info("restored from %s-%d", tp.topic, tp.partition)


@dataclass
class Changelog:
    """One changelog partition that is being read.

    Attributes:
        task: Whose it is.
        store: What it restores.
        next_offset: Up to where that was done.
        end: The records from there on are not the store's.
    """

    task: Task
    store: str
    next_offset: int
    end: int


class Restorer:
    """Restores the tasks it is given, all at once, until each is complete or the set changes.

    Attributes:
        reading: The changelogs that are being read.
        space: Nothing is read while there is too little of it.
    """

    def __init__(
        self,
        transport: Transport,
        admin: Admin,
        config: StreamsConfig,
        clock: Clock,
        listener: RestoreListener,
        space: FreeSpace,
    ) -> None:
        self.space = space
        self._transport = transport
        self._admin = admin
        self._config = config
        self._clock = clock
        self._listener = listener
        self._outage = Rarely(clock)
        self._reader: Consumer | None = None
        self._running: asyncio.Task[Any] | None = None
        self.reading: Mapping[TopicPartition, Changelog] = {}

    def position(self, tp: TopicPartition) -> int:
        """How far a changelog that is being read was read: behind its last record, or what takes no record's place."""
        read = None if self._reader is None else self._reader.position(tp)
        return max(self.reading[tp].next_offset, read or 0)

    def break_off(self) -> None:
        """Cancel `run`, so that whoever runs it begins anew with new connections; what the engines hold stays."""
        if self._running is not None:
            self._running.cancel()

    async def run(self, tasks: Collection[Task], group: Consumer, restored: list[tuple[Task, Positions]]) -> None:
        """Restore ``tasks``; adds each to ``restored`` as soon as it is complete. Cancel it to stop.

        While the broker is away it waits and tries again.

        Raises:
            MissingTopicError: An input or a changelog does not exist.
            TaskCorruptedError: Local state lies outside its changelog; ``task`` names it.
            OffsetOutOfRangeError: Committed input offsets lie outside the log, and the policy is to fail.
            ConfigError: An input has no committed offset, and needs one.
        """
        self._running = asyncio.current_task()
        left = list(tasks)
        misses = 0
        while left:
            try:
                positions, processed = await self._positions(left, group)
                if await self._restore(left, positions, processed, restored):
                    return
            except BrokerUnavailableError as error:
                if self._outage.now():
                    log.warning("restoring waits for the broker at %s: %s", self._transport.address, error)
            except MissingTopicError:
                misses += 1
                if misses == MISSES:
                    raise
            await self._clock.sleep(RETRY_SECONDS)

    async def _positions(self, tasks: Collection[Task], group: Consumer) -> tuple[Positions, dict[TopicPartition, int]]:
        """Where each input goes on, the committed offset or what the reset policy says; how far it was processed."""
        inputs = [tp for task in tasks for tp in task.queues]
        committed = await group.committed(inputs)
        first, end = await asyncio.gather(self._admin.beginning_offsets(inputs), self._admin.end_offsets(inputs))
        positions: Positions = {}
        processed: dict[TopicPartition, int] = {}
        anywhere = offset_reset(self._config.auto_offset_reset)
        resets = {
            tp: anywhere if queue.source.offset_reset is None else queue.source.offset_reset
            for task in tasks
            for tp, queue in task.queues.items()
            if committed[tp] is None
        }
        starts = await starting_offsets(resets, self._admin, self._clock.time_ms(), first, end)
        for task in tasks:
            for tp in task.queues:
                held = committed[tp]
                if held is None:
                    processed[tp] = first[tp]
                    positions[tp] = Position(starts[tp])
                else:
                    offset = self._inside_log(tp, held, first[tp], end[tp])
                    positions[tp] = decode_position(offset, held.metadata)
                    processed[tp] = offset
        return positions, processed

    def _inside_log(self, tp: TopicPartition, held: OffsetAndMetadata, first: int, end: int) -> int:
        """The committed offset, or what the policy says when the log no longer has it."""
        if first <= held.offset <= end:
            return held.offset
        lost = f"{first - held.offset} records are gone" if held.offset < first else "the topic was made anew"
        policy = self._config.on_data_loss
        if policy == "fail":
            msg = (
                f"the committed offset {held.offset} lies outside the log [{first}, {end}]: topic={tp.topic} "
                f"partition={tp.partition}: {lost}. Go on with on_data_loss=earliest or latest, or run streamlib reset."
            )
            raise DataLossError(msg)
        log.error("%s-%d: committed offset %d outside the log, %s", tp.topic, tp.partition, held.offset, lost)
        return first if policy == "earliest" else end

    async def _restore(
        self,
        tasks: list[Task],
        positions: Positions,
        processed: Mapping[TopicPartition, int],
        restored: list[tuple[Task, Positions]],
    ) -> bool:
        """Read all changelogs of ``tasks`` with one consumer; removes finished tasks from the list.

        Returns:
            False when a changelog was cut where it was being read: begin again with its new bounds.
        """
        waiting: dict[TopicPartition, Changelog] = {}
        for task in tasks:
            task.stores.discard()
        changelogs = await self._changelogs(tasks, processed)
        for tp, changelog in changelogs.items():
            if changelog.next_offset < changelog.end:
                waiting[tp] = changelog
                self._listener.started(tp, changelog.store, changelog.next_offset, changelog.end)
        await self._finish(tasks, waiting, positions, restored)
        return not waiting or await self._read(tasks, waiting, positions, restored)

    async def _read(
        self,
        tasks: list[Task],
        waiting: dict[TopicPartition, Changelog],
        positions: Positions,
        restored: list[tuple[Task, Positions]],
    ) -> bool:
        """Read the changelogs that stores lack something of; returns as `_restore`."""
        reader = self._transport.consumer()
        await reader.start()
        try:
            self._reader, self.reading = reader, waiting
            reader.assign({tp: changelog.next_offset for tp, changelog in waiting.items()})
            while waiting:
                await self.space.enough()
                for tp, batch in (await reader.poll(waiting, max_records=POLL_RECORDS, timeout_ms=100)).items():
                    await self._take(batch, waiting[tp])
                    self._listener.progressed(tp, len(batch))
                await self._complete(reader, waiting)
                await self._finish(tasks, waiting, positions, restored)
        except OffsetOutOfRangeError as error:
            log.warning("restoring begins again: %s", error)
            return False
        finally:
            self._reader, self.reading = None, {}
            await reader.close()
        return True

    async def _take(self, batch: FetchedBatch, changelog: Changelog) -> None:
        """Apply records of a changelog."""
        stores = changelog.task.stores
        changelog.next_offset = stores.restore_up_to(changelog.store, batch, changelog.end)
        reached("mid-restore")
        if stores.stores[changelog.store].pending_rows >= APPLY_ROWS:
            await self._apply(changelog)
        await self._clock.sleep(0)

    async def _changelogs(
        self, tasks: Collection[Task], processed: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, Changelog]:
        """Each changelog with where to begin and where to end."""
        tps = [tp for task in tasks for tp in task.stores.changelogs.values()]
        if not tps:
            return {}
        ends = await self._admin.end_offsets(tps)
        ends = {tp: processed.get(tp, end) for tp, end in ends.items()}
        firsts = await self._admin.beginning_offsets(tps)
        changelogs = {}
        for task in tasks:
            for store, tp in task.stores.changelogs.items():
                held = task.stores.offset(store)
                if held is not None and not firsts[tp] <= held <= ends[tp]:
                    msg = (
                        f"store {store} stands at changelog offset {held}, its changelog holds "
                        f"[{firsts[tp]}, {ends[tp]}]: task={task.task_id} topic={tp.topic} partition={tp.partition}. "
                        "The task's state is rebuilt from the changelog."
                    )
                    raise TaskCorruptedError(msg, task.task_id)
                changelogs[tp] = Changelog(task, store, firsts[tp] if held is None else held, ends[tp])
        return changelogs

    async def _complete(self, reader: Consumer, waiting: dict[TopicPartition, Changelog]) -> None:
        """Apply and take out the changelogs that were read to their end."""
        for tp in list(waiting):
            position = reader.position(tp)
            if position is not None and position >= waiting[tp].end:
                waiting[tp].next_offset = waiting[tp].end
                await self._apply(waiting[tp])
                self._listener.finished(tp)
                del waiting[tp]

    async def _apply(self, changelog: Changelog) -> None:
        for _ in changelog.task.stores.apply_restored(changelog.store, changelog.next_offset):
            await self._clock.sleep(0)

    async def _finish(
        self,
        tasks: list[Task],
        waiting: Mapping[TopicPartition, Changelog],
        positions: Positions,
        restored: list[tuple[Task, Positions]],
    ) -> None:
        """Hand over the tasks none of whose changelogs is still being read."""
        unfinished = {id(changelog.task) for changelog in waiting.values()}
        for task in [task for task in tasks if id(task) not in unfinished]:
            for _ in task.load():
                await self._clock.sleep(0)
            tasks.remove(task)
            restored.append((task, {tp: positions[tp] for tp in task.queues}))


async def cancelled(running: "asyncio.Task[Any] | None") -> None:
    """Cancel a background task and wait until it has gone; what it has failed with is of no interest any more."""
    if running is None:
        return
    if not running.done():
        running.cancel()
        await asyncio.wait([running])
    if running.done() and not running.cancelled():
        running.exception()
