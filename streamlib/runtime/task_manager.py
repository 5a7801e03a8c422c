"""The tasks of a worker: made, restored, run and closed as the group gives partitions and takes them.

Nothing here polls, processes or commits. The worker's loop calls it with the lock held, never from inside a rebalance
callback, since the group waits for those.

Source: TaskManager. Next: `task`; `restore`, which completes new tasks.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping

from streamlib.clock import Clock
from streamlib.config import StreamsConfig
from streamlib.errors import TaskCorruptedError
from streamlib.record import TopicPartition
from streamlib.runtime.assignment import Assignment
from streamlib.runtime.commit import apply
from streamlib.runtime.partitions import TaskId
from streamlib.runtime.restore import Positions, Restorer, cancelled
from streamlib.runtime.task import Task
from streamlib.runtime.task_factory import TaskFactory
from streamlib.runtime.task_state import TaskState
from streamlib.transport.base import Consumer, GroupMetadata

log = logging.getLogger(__name__)

BUFFERED_RECORDS = 20_000  # of one partition: beyond it the partition is not polled


class TaskManager:
    """Holds the tasks that the group gave this worker.

    Args:
        config: Settings.
        factory: Makes tasks.
        restorer: Completes them.
        clock: For giving the event loop its turn.
        arrived: Called when a task's asynchronous calls have results.

    Attributes:
        tasks: By id.
        group: The worker's place in the group when the tasks were assigned: what commits are made under. Taken with
            each assignment and never asked for later, when the group may have moved on; None before the first.
    """

    def __init__(
        self,
        config: StreamsConfig,
        factory: TaskFactory,
        restorer: Restorer,
        clock: Clock,
        arrived: Callable[[], None],
    ) -> None:
        self.tasks: dict[TaskId, Task] = {}
        self.group: GroupMetadata | None = None
        self._config = config
        self._restorer = restorer
        self._clock = clock
        self._arrived = arrived
        self._inputs: Mapping[TaskId, frozenset[TopicPartition]] = {}
        self._restoring: asyncio.Task[None] | None = None
        self.read(factory)

    def connect(self, consumer: Consumer) -> None:
        """Give it the group member, whose positions it moves."""
        self._consumer = consumer

    def read(self, factory: TaskFactory) -> None:
        """Make tasks of a changed plan from now on."""
        self.factory = factory
        self._reads = factory.subtopology_of_topic().keys()

    # ---- who does what ----------------------------------------------------------------------------------

    def running(self) -> list[Task]:
        """Tasks that process."""
        return self.having(TaskState.RUNNING)

    def having(self, *states: TaskState) -> list[Task]:
        """Tasks in one of these states."""
        return [task for task in self.tasks.values() if task.state in states]

    def owner(self, tp: TopicPartition) -> Task:
        """The task that reads ``tp``."""
        return next(task for task in self.tasks.values() if tp in task.queues)

    def wanted(self) -> list[TopicPartition]:
        """Partitions to poll: those of running tasks that have not too much of them."""
        return [
            tp
            for task in self.running()
            for tp, queue in task.queues.items()
            if queue.buffered < BUFFERED_RECORDS and tp.topic in self._reads
        ]

    def seek_back(self, tps: Collection[TopicPartition]) -> None:
        """A poll that crossed a rebalance is forgotten: read its records again."""
        for task in self.running():
            for tp in task.queues.keys() & tps:
                self._consumer.seek(tp, task.queues[tp].fetch_offset)

    def statistics(self) -> Mapping[str, str]:
        """State of each task."""
        return {str(task_id): task.state.value for task_id, task in sorted(self.tasks.items())}

    # ---- they come and go -------------------------------------------------------------------------------

    def suspend(self) -> None:
        """Stand still until the group has decided."""
        for task in self.running():
            task.transition(TaskState.SUSPENDED)

    async def take(self, assigned: Assignment) -> None:
        """Close the tasks that went, make those that came, go on with those that stayed with what they read."""
        await self.stop_restoring()
        if self.group is not None and self.group.member_id != assigned.group.member_id:
            # The group had expelled this worker: others may have gone on with its tasks since their last commit.
            self.drop_work()
        self.group = assigned.group
        self._inputs = assigned.tasks
        for task_id in [each for each, task in self.tasks.items() if task.queues.keys() != assigned.tasks.get(each)]:
            task = self.tasks.pop(task_id)
            if task.state is TaskState.SUSPENDED:
                await apply([task], self._clock)
            task.close()
        for task_id in sorted(assigned.tasks.keys() - self.tasks.keys()):
            self._create(task_id)
            await self._clock.sleep(0)
        for task in self.having(TaskState.SUSPENDED):
            task.transition(TaskState.RUNNING)
            for tp, queue in task.queues.items():
                self._consumer.seek(tp, queue.fetch_offset)
        log.info("assigned tasks: %s", ", ".join(str(task_id) for task_id in sorted(self.tasks)) or "none")

    def drop_work(self) -> None:
        """Back to the last commit: the tasks must be restored."""
        for task in self.tasks.values():
            task.drop_work()

    def restore(self) -> None:
        """Begin to restore, in the background, the tasks that need it, unless that is going on.

        Raises:
            MissingTopicError, OffsetOutOfRangeError: What stopped restoring. Where state proved wrong, its task is made
                anew instead.
        """
        self._check_restoring()
        waiting = self.having(TaskState.CREATED, TaskState.RESTORING)
        if not waiting or self._restoring is not None:
            return
        for task in waiting:
            task.transition(TaskState.RESTORING)
        self._restoring = asyncio.ensure_future(self._restorer.run(waiting, self._consumer, self._start))

    async def stop_restoring(self) -> None:
        """Return when nothing is being restored any more."""
        await cancelled(self._restoring)

    async def close(self, cancel_seconds: float) -> None:
        """Close the tasks; uncommitted work is dropped.

        Args:
            cancel_seconds: For what user code does when its calls are cancelled.
        """
        await self.stop_restoring()
        for task in self.tasks.values():
            task.close()
        await asyncio.gather(*(task.calls.gone(cancel_seconds) for task in self.tasks.values()))
        self.tasks.clear()

    def _create(self, task_id: TaskId) -> None:
        cache_bytes = self._config.statestore_cache_max_bytes // max(1, len(self._inputs))
        task = self.tasks[task_id] = self.factory.create(task_id, cache_bytes, self._inputs[task_id])
        task.calls.wake = self._arrived

    def _start(self, task: Task, positions: Positions) -> None:
        """A task is complete: read its inputs."""
        task.start(positions)
        task.transition(TaskState.RUNNING)
        for tp, position in positions.items():
            self._consumer.seek(tp, position.offset)

    def _check_restoring(self) -> None:
        if self._restoring is None or not self._restoring.done():
            return
        restoring, self._restoring = self._restoring, None
        if restoring.cancelled():
            return
        error = restoring.exception()
        if isinstance(error, TaskCorruptedError):
            log.error("%s", error)
            task_id = TaskId(*error.task_id)
            if task_id in self.tasks:
                self.tasks[task_id].destroy()
                self._create(task_id)
        elif error is not None:
            raise error
