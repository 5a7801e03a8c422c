"""Notices that the worker does not get on although there is something to do; mends that, or ends the worker.

An input has stalled when records of it are known to wait, and for `stall_timeout_ms` none was read or processed. Then
it is fetched anew; after the same time once more the worker joins its group again; after the third time the worker
stops with an error, and whoever runs it starts it again. So it is with restoring, when for that time and a transaction
timeout nothing was read of any changelog. A worker to which the group gives no decision for that time and a rebalance
timeout goes through the last two steps.

    progress ──T──► REFETCH ──T──► REJOIN ──T──► EXIT        any progress leads back to the beginning

Before each step the broker is asked something: while it does not answer, this is an outage and no stall. Time in which
the event loop was held or the process stood still does not count, nor does time in which an input waits for what has a
limit of its own: another input of its task, asynchronous calls, a broker that is away, a disk without room.

Next: `loop_watch`, which measures how long the loop is held; `health`, which tells all this to others.
"""

import logging
from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from streamlib.clock import Clock
from streamlib.config import StreamsConfig
from streamlib.errors import BrokerUnavailableError, MissingTopicError, StalledError
from streamlib.metrics import Metrics
from streamlib.record import TopicPartition
from streamlib.runtime.partitions import TaskId
from streamlib.runtime.permissions import Permissions
from streamlib.runtime.task import Task
from streamlib.runtime.task_manager import TaskManager
from streamlib.runtime.task_state import TaskState
from streamlib.transport.base import Admin, Consumer

log = logging.getLogger(__name__)

LOOKS = 4  # at least, within `stall_timeout_ms`
LOOK_SECONDS = 1.0  # at most


class Step(IntEnum):
    """What was done about a stall so far."""

    NONE = 0
    REFETCH = 1
    REJOIN = 2
    EXIT = 3


@dataclass
class Progress:
    """How one input gets on.

    Attributes:
        task_id: Whose input it is.
        place: Up to where it was read, and processed.
        furthest: The furthest it was ever processed.
        seconds: Without progress, since the last step.
        total_seconds: Without progress.
        step: The last step that was taken.
    """

    task_id: TaskId
    place: tuple[int, int]
    furthest: int
    seconds: float = 0.0
    total_seconds: float = 0.0
    step: Step = Step.NONE

    def moved(self, place: tuple[int, int]) -> bool:
        """Take note of where it is now; whether that is somewhere else."""
        if place == self.place:
            return False
        self.place = place
        self.seconds = self.total_seconds = 0.0
        if place[1] > self.furthest:  # else it does again what it had done, and may stop at the same place
            self.furthest = place[1]
            self.step = Step.NONE
        return True

    def wait(self, seconds: float) -> None:
        """It has not moved for so long, and should have."""
        self.seconds += seconds
        self.total_seconds += seconds

    def excuse(self, *, done: bool) -> None:
        """It need not move now; ``done`` if there is nothing left to do."""
        self.seconds = self.total_seconds = 0.0
        if done:
            self.step = Step.NONE


class Watched(Protocol):
    """What a worker tells of itself."""

    @property
    def manager(self) -> TaskManager:
        """Has its tasks."""

    @property
    def permissions(self) -> Permissions:
        """Those it has found missing."""

    @property
    def waits_for_broker(self) -> bool:
        """Whether its last call found no broker."""

    @property
    def rebalancing(self) -> bool:
        """Whether the group has yet to decide who does what."""


class Watchdog:
    """Watches the inputs and changelogs of a worker's tasks, and its place in the group.

    Args:
        worker: The worker.
        consumer: Its member of the group.
        admin: Asks whether a broker answers.
        config: Settings.
        clock: Time.
        metrics: Where stalls are counted.

    Attributes:
        partitions: How the inputs get on.
        changelogs: Likewise those that are being restored.
        group: Likewise the worker's place in the group.
    """

    def __init__(
        self,
        worker: Watched,
        consumer: Consumer,
        admin: Admin,
        config: StreamsConfig,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self.partitions: dict[TopicPartition, Progress] = {}
        self.changelogs: dict[TopicPartition, Progress] = {}
        self.group = Progress(TaskId(-1, -1), (0, 0), 0)
        self._worker = worker
        self._consumer = consumer
        self._admin = admin
        self._config = config
        self._clock = clock
        self._metrics = metrics
        self._timeout = config.stall_timeout_ms / 1000
        self._group_timeout = self._timeout + config.rebalance_timeout_ms / 1000
        # Committed records behind those of an open transaction are not to be had before that has ended.
        self._restore_timeout = self._timeout + config.transaction_timeout_ms / 1000

    async def follow(self) -> None:
        """Look now and then, without end.

        Raises:
            StalledError: Nothing has helped.
        """
        pause = min(LOOK_SECONDS, self._timeout / LOOKS)
        while True:
            before = self._clock.monotonic()
            await self._clock.sleep(pause)
            await self.look(min(2 * pause, self._clock.monotonic() - before))

    async def look(self, passed: float) -> None:
        """Take note of progress, and act where there was none for too long.

        Args:
            passed: Seconds since the last look that count.

        Raises:
            StalledError: Nothing has helped.
        """
        self._note(passed)
        if not (self._due() or self._restoring_due() or self._group_is_due()):
            return
        if not await self._broker_answers(self._due() + self._restoring_due()):
            for progress in (*self.partitions.values(), *self.changelogs.values(), self.group):
                progress.excuse(done=False)
            return
        self._note(0.0)  # something may have happened while it was asked
        if self._group_is_due():
            self._act_on_group()
            return
        if restoring := self._restoring_due():
            self._act_on_restoring(restoring)
        if due := self._due():
            self._act(due)

    @property
    def stalled(self) -> dict[TopicPartition, Progress]:
        """Inputs and changelogs for which something had to be done, and that have made no progress since."""
        watched = (*self.changelogs.items(), *self.partitions.items())
        return {tp: progress for tp, progress in watched if progress.step}

    # ---- looking ----------------------------------------------------------------------------------------

    def _note(self, passed: float) -> None:
        worker, manager = self._worker, self._worker.manager
        undecided = worker.rebalancing or manager.group is None
        if undecided and not worker.waits_for_broker:
            self.group.wait(passed)
        else:
            self.group.excuse(done=not undecided)
        counts = not undecided and not worker.waits_for_broker
        wanted = set(manager.wanted())
        held = {tp: task for task in manager.tasks.values() for tp in task.queues}
        for tp in self.partitions.keys() - held.keys():
            self._tell(tp, 0.0)
            del self.partitions[tp]
        for tp, task in held.items():
            self._note_partition(task, tp, passed if counts else None, wanted=tp in wanted)
        self._note_restoring(passed if counts else None)

    def _note_partition(self, task: Task, tp: TopicPartition, passed: float | None, *, wanted: bool) -> None:
        """Take note of one input.

        Args:
            task: Whose it is.
            tp: The input.
            passed: Seconds that count; None when nothing is to be expected.
            wanted: Whether it is polled.
        """
        queue, position = task.queues[tp], self._consumer.position(tp)
        place = (-1 if position is None else position, queue.next_offset)
        progress = self.partitions.get(tp)
        if progress is None or progress.task_id != task.task_id:
            progress = self.partitions[tp] = Progress(task.task_id, place, place[1])
        step, seconds = progress.step, progress.total_seconds
        if progress.moved(place):
            if step:
                log.info("%s goes on after %.0f s", _where(progress, tp), seconds)
        elif passed is None or task.state is not TaskState.RUNNING or self._has_to_wait(task, tp):
            progress.excuse(done=False)
        elif queue.buffered or (wanted and self._consumer.lag(tp) != 0):
            progress.wait(passed)
        else:
            progress.excuse(done=True)
        if step:
            self._tell(tp, progress.total_seconds if progress.step else 0.0)

    def _note_restoring(self, passed: float | None) -> None:
        """Take note of the changelogs that are being restored; whichever gets on excuses the others.

        Args:
            passed: Seconds that count; None when nothing is to be expected.
        """
        manager = self._worker.manager
        restorer, restored = manager.restorer, manager.having(TaskState.CREATED, TaskState.RESTORING)
        unfinished = {task.task_id for task in restored}
        for tp in [tp for tp, each in self.changelogs.items() if each.task_id not in unfinished]:
            self._tell(tp, 0.0)
            del self.changelogs[tp]  # kept until then, so that whoever begins anew does not begin with the first step
        moved = False
        for tp, changelog in restorer.reading.items():
            offset = restorer.position(tp)
            progress = self.changelogs.get(tp)
            if progress is None:
                progress = self.changelogs[tp] = Progress(changelog.task.task_id, (-1, -1), -1)
            seconds = progress.total_seconds if progress.step else None
            if progress.moved((offset, offset)):
                moved = True
                if seconds is not None:
                    log.info("%s goes on after %.0f s", _where(progress, tp), seconds)
        without_room = manager.space.low or manager.no_room
        for tp, progress in self.changelogs.items():
            if moved or passed is None or without_room or tp not in restorer.reading:
                progress.excuse(done=False)
            else:
                progress.wait(passed)
            if progress.step:
                self._tell(tp, progress.total_seconds)

    def _restoring_due(self) -> list[TopicPartition]:
        return [tp for tp, progress in self.changelogs.items() if progress.seconds >= self._restore_timeout]

    def _has_to_wait(self, task: Task, tp: TopicPartition) -> bool:
        """Whether something with a limit of its own keeps an input from moving."""
        if task.calls.progress.rows or task.calls.holding:
            return True
        if not task.queues[tp].buffered:
            return False
        empty = [other for other, queue in task.queues.items() if not queue.buffered]
        if any(self._consumer.lag(other) != 0 for other in empty):
            return True  # until records of that one come, and it is watched itself
        return bool(empty) and self._config.max_task_idle_ms >= self._config.stall_timeout_ms

    def _due(self) -> list[TopicPartition]:
        return [tp for tp, progress in self.partitions.items() if progress.seconds >= self._timeout]

    def _group_is_due(self) -> bool:
        return self.group.seconds >= self._group_timeout

    async def _broker_answers(self, tps: Collection[TopicPartition]) -> bool:
        try:
            if tps:
                await self._admin.end_offsets(tps)
            else:
                await self._admin.describe_group(self._config.application_id)
        except (BrokerUnavailableError, MissingTopicError) as error:  # who watches topics tells what that one was for
            log.info("no progress, and no answer from the broker: %s", error)
            return False
        return True

    # ---- acting -----------------------------------------------------------------------------------------

    def _act(self, due: Collection[TopicPartition]) -> None:
        rejoins = False
        for tp in due:
            progress = self.partitions[tp]
            self._take_step(progress, _where(progress, tp), self._what_waits(tp))
            self._tell(tp, progress.total_seconds)
            position = self._consumer.position(tp)
            if progress.step is Step.REFETCH and position is not None:
                self._consumer.seek(tp, position)
            rejoins = rejoins or progress.step is not Step.REFETCH
        if rejoins:
            self._consumer.rejoin()

    def _act_on_restoring(self, due: Collection[TopicPartition]) -> None:
        manager = self._worker.manager
        steps = set()
        for tp in due:
            progress, changelog = self.changelogs[tp], manager.restorer.reading[tp]
            lacking = changelog.end - progress.place[1]
            what = f"up to {lacking} records are missing in store {changelog.store}, which is being restored"
            self._take_step(progress, _where(progress, tp), what)
            self._tell(tp, progress.total_seconds)
            steps.add(progress.step)
        if Step.REFETCH in steps:
            manager.restorer.break_off()
        if Step.REJOIN in steps:
            self._consumer.rejoin()

    def _act_on_group(self) -> None:
        self.group.step = max(self.group.step, Step.REFETCH)  # there is nothing to fetch
        what = "the group has not decided, although its coordinator answers"
        self._take_step(self.group, f"group={self._config.application_id}", what)
        self._consumer.rejoin()

    def _take_step(self, progress: Progress, where: str, what: str) -> None:
        progress.step = Step(progress.step + 1)
        progress.seconds = 0.0
        self._metrics.count("watchdog_steps_total", step=progress.step.name.lower())
        stalled = f"{where}: no progress for {progress.total_seconds:.0f} s: {what}"
        if progress.step is Step.EXIT:
            msg = (
                f"{stalled}, and joining the group again did not help. Start the worker again; if it stops at the same "
                "place, look for it in the broker's log. stall_timeout_ms says how long it is waited for."
            )
            raise StalledError(msg)
        log.warning("%s: %s", stalled, "fetching anew" if progress.step is Step.REFETCH else "joining the group again")

    def _what_waits(self, tp: TopicPartition) -> str:
        buffered = self._worker.manager.owner(tp).queues[tp].buffered
        if buffered:
            return f"{buffered} records were read and are not processed"
        lag = self._consumer.lag(tp)
        return "the broker tells nothing of it" if lag is None else f"{lag} records wait at the broker"

    def _tell(self, tp: TopicPartition, seconds: float) -> None:
        self._metrics.gauge("partition_stalled_seconds", seconds, topic=tp.topic, partition=str(tp.partition))


def _where(progress: Progress, tp: TopicPartition) -> str:
    return f"task={progress.task_id} topic={tp.topic} partition={tp.partition} offset={progress.place[1]}"
