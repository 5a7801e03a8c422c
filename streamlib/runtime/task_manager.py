"""The tasks of a worker: made, restored, run and closed as the group gives partitions and takes them.

Nothing here polls, processes or commits. The worker's loop calls it with the lock held, never from inside a rebalance
callback, since the group waits for those.

Source: TaskManager. Next: `task`; `restore`, which completes new tasks.
"""

import asyncio
import gc
import logging
from collections import Counter
from collections.abc import Callable, Collection, Mapping

from streamlib.clock import Clock
from streamlib.config import StreamsConfig
from streamlib.errors import DiskFullError, StateCorruptedError, TaskCorruptedError
from streamlib.record import TopicPartition
from streamlib.runtime.assignment import Assignment
from streamlib.runtime.assignment_codec import TaskData
from streamlib.runtime.fencing import Fencing
from streamlib.runtime.partitions import TaskId
from streamlib.runtime.restore import Positions, Restorer, cancelled
from streamlib.runtime.standby import Standbys
from streamlib.runtime.task import Task
from streamlib.runtime.task_factory import TaskFactory
from streamlib.runtime.task_state import TaskState
from streamlib.runtime.task_stores import TaskStores, set_damaged_aside
from streamlib.transport.base import Consumer, GroupMetadata

log = logging.getLogger(__name__)

ASKS = 2
FENCE_SECONDS = 0.1  # restoring from a copy takes no more, and a worker that has left and come back need not be fenced
REBUILDS = 2  # of damaged state in an hour: more say that the disk is to blame
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
        restorer: Completes them.
        space: Room for their state.
        no_room: What a full disk has refused, until a task is complete again.
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
        self.restorer = restorer
        self.space = restorer.space
        self.no_room = ""
        self._clock = clock
        self._arrived = arrived
        self._inputs: Mapping[TaskId, frozenset[TopicPartition]] = {}
        self._warm_ups: frozenset[TaskId] = frozenset()
        self._asked: Counter[TaskId] = Counter()  # how often each of them was ready to run
        self._asking = False  # since the last assignment
        self._probe_at: float | None = None
        self._rebuilt_at: list[float] = []
        self._processes: frozenset[str] = frozenset()  # of the group, at the last decision
        self._lost: frozenset[str] = frozenset()  # those that have gone since, while tasks came that may be theirs
        self._assigned_at = 0.0
        self._ending: asyncio.Task[None] | None = None
        self._unmade: dict[TaskId, TaskStores | None] = {}  # tasks that came, with their stores if those are open
        self._restoring: asyncio.Task[None] | None = None
        self._restored: list[tuple[Task, Positions]] = []  # by that: what a task writes when it starts needs the lock
        self.read(factory)

    def connect(self, consumer: Consumer, standbys: Standbys, fencing: Fencing | None) -> None:
        """Give it what it works with.

        Args:
            consumer: The group member, whose positions it moves.
            standbys: The copies of other workers' tasks.
            fencing: Ends transactions of lost workers; None where there are none.
        """
        self._fencing = fencing
        self._consumer = consumer
        self.standbys = standbys
        self._stored = standbys.stored

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
        """Partitions to poll: those of running tasks that have not too much of them; none without room for state."""
        if self.space.low:
            return []
        return [
            tp
            for task in self.running()
            for tp, queue in task.queues.items()
            if queue.buffered < BUFFERED_RECORDS and tp.topic in self._reads
        ]

    def step_over(self) -> None:
        """Let inputs whose records are all processed go on behind the markers of transactions that come after them.

        Else they would show as a lag for ever. Source: KAFKA-6607.
        """
        for task in self.running():
            for tp, queue in task.queues.items():
                if not queue.buffered and (position := self._consumer.position(tp)) is not None:
                    queue.step_over(position)

    def seek_back(self, tps: Collection[TopicPartition]) -> None:
        """A poll that crossed a rebalance is forgotten: read its records again."""
        for task in self.running():
            for tp in task.queues.keys() & tps:
                self._consumer.seek(tp, task.queues[tp].fetch_offset)

    def statistics(self) -> Mapping[str, str]:
        """State of each task."""
        states = dict.fromkeys(self._unmade, TaskState.CREATED) | {
            each: task.state for each, task in self.tasks.items()
        }
        return {str(task_id): state.value for task_id, state in sorted(states.items())}

    def report(self) -> list[TaskData]:
        """What the group's leader is told: every task that runs here or has state here."""
        told: dict[TaskId, TaskData] = {}
        for task_id, offsets in self._stored.offsets().items():
            told[task_id] = TaskData(*task_id, "stored", offsets)
        for task_id, copy in self.standbys.tasks.items():
            told[task_id] = TaskData(*task_id, "warm_up" if task_id in self._warm_ups else "standby", copy.stores.held)
        for task_id, stores in self._unmade.items():
            if stores is not None:
                told[task_id] = TaskData(*task_id, "restoring", stores.held)
        for task_id, task in self.tasks.items():
            complete = task.state in (TaskState.RUNNING, TaskState.SUSPENDED)
            told[task_id] = TaskData(*task_id, "running" if complete else "restoring", task.stores.held)
        return list(told.values())

    # ---- they come and go -------------------------------------------------------------------------------

    def suspend(self) -> None:
        """Stand still until the group has decided."""
        for task in self.running():
            task.transition(TaskState.SUSPENDED)

    async def take(self, assigned: Assignment) -> None:
        """Close the tasks that went, go on with those that stayed; `advance` makes those that came."""
        await self.stop_restoring()
        if self.group is not None and not _follows(self.group, assigned.group):
            # Others may have gone on with its tasks since their last commit: the group had expelled this worker, or
            # shared the tasks out once without this worker having heard of it.
            self.drop_work()
        self.group = assigned.group
        self._inputs = assigned.tasks
        self._lost = (self._lost | self._processes) - assigned.processes if self._fencing is not None else frozenset()
        self._processes = assigned.processes
        self._assigned_at = self._clock.monotonic()
        self._warm_ups = assigned.warm_ups
        self._asked = Counter({task_id: self._asked[task_id] for task_id in assigned.warm_ups})
        self._asking = False
        wait_s = self._config.probing_rebalance_interval_ms / 1000
        self._probe_at = self._clock.monotonic() + wait_s if assigned.probe else None
        handed_over: dict[TaskId, TaskStores] = {}
        gone = [each for each, task in self.tasks.items() if task.queues.keys() != assigned.tasks.get(each)]
        for task_id in gone:
            task = self.tasks.pop(task_id)
            if task_id in assigned.copies:
                handed_over[task_id] = task.give_up()
            else:
                self._stored.keep(task_id, task.stores)
                task.close()
        unmade, self._unmade = self._unmade, {}
        for task_id, stores in unmade.items():
            if stores is not None and task_id in assigned.copies:
                handed_over[task_id] = stores
            elif stores is not None and task_id not in assigned.tasks:
                stores.close()
        self.standbys.keep(self.factory, assigned.copies, handed_over, self._cache_bytes)
        for task_id in sorted(assigned.tasks.keys() - self.tasks.keys()):
            self._unmade[task_id] = unmade.get(task_id) or await self.standbys.release(task_id)
        if gone:  # with their caches, and in reference cycles; a full collection may not come by itself for hours
            del task
            gc.collect()
        for task in self.having(TaskState.SUSPENDED):
            task.transition(TaskState.RUNNING)
            for tp, queue in task.queues.items():
                self._consumer.seek(tp, queue.fetch_offset)
        log.info("assigned tasks: %s", ", ".join(str(task_id) for task_id in sorted(assigned.tasks)) or "none")

    @property
    def making(self) -> bool:
        """Whether there are tasks that came, and whose stores are not open yet."""
        return bool(self._unmade)

    async def advance(self) -> None:
        """Take the tasks that came a step further: make them, restore them in the background, start them.

        Raises:
            MissingTopicError, OffsetOutOfRangeError: What stopped restoring. Where state proved wrong, its task is made
                anew instead.
        """
        await self._make()
        if not self.making:  # they are restored together
            self._restore()
        self._stored.clean_up(self.tasks.keys() | self._unmade.keys() | self.standbys.tasks.keys())

    def rebalance_due(self) -> bool:
        """Whether to ask the group for another decision, because tasks may move now; true once for each reason.

        The tasks that are to run here are complete, or it is time to look again. A task that did not move although it
        was complete, since a commit had written more meanwhile, is asked for once more.
        """
        now = self._clock.monotonic()
        if self._probe_at is not None and now >= self._probe_at:
            self._probe_at = None
            return True
        copies = [self.standbys.tasks.get(task_id) for task_id in self._warm_ups]
        acceptable = self._config.acceptable_recovery_lag
        if not copies or any(copy is None or copy.lag is None or copy.lag > acceptable for copy in copies):
            return False
        if self._asking or all(self._asked[task_id] >= ASKS for task_id in self._warm_ups):
            return False
        self._asked.update(self._warm_ups)
        self._asking = True
        return True

    def drop_work(self) -> None:
        """Back to the last commit: the tasks must be restored."""
        for task in self.tasks.values():
            task.drop_work()

    def mend(self, error: DiskFullError | StateCorruptedError) -> None:
        """Have tasks made anew: after a full disk all, of what is there; or the one whose state has proved damaged.

        Uncommitted work must be dropped before. What damaged state held is rebuilt from its changelogs.

        Raises:
            StateCorruptedError: The same, if it is no task's or this happens too often.
        """
        if isinstance(error, StateCorruptedError):
            self._set_aside(error)
            return
        self.no_room = str(error)
        for task_id, task in self.tasks.items():
            if task.state is not TaskState.CLOSED:
                self._stored.keep(task_id, task.stores)
            task.close()
            self._unmade[task_id] = None
        self.tasks.clear()

    async def stop_restoring(self) -> None:
        """Return when nothing is being restored any more; tasks that have not started are restored again."""
        await cancelled(self._restoring)
        self._restored.clear()

    async def close(self, cancel_seconds: float) -> None:
        """Close the tasks; uncommitted work is dropped.

        Args:
            cancel_seconds: For what user code does when its calls are cancelled.
        """
        await self.stop_restoring()
        await cancelled(self._ending)
        for task in self.tasks.values():
            task.close()
        await asyncio.gather(*(task.calls.gone(cancel_seconds) for task in self.tasks.values()))
        self.tasks.clear()
        for stores in filter(None, self._unmade.values()):
            stores.close()
        self._unmade.clear()

    @property
    def _cache_bytes(self) -> int:
        """Of each task."""
        return self._config.statestore_cache_max_bytes // max(1, len(self._inputs))

    def _create(self, task_id: TaskId, stores: TaskStores | None = None) -> None:
        task = self.factory.create(task_id, self._cache_bytes, self._inputs[task_id], stores)
        task.calls.wake = self._arrived
        self.tasks[task_id] = task

    async def _make(self) -> None:
        """Make some: opening stores takes time, and the tasks that stayed go on in between."""
        deadline = self._clock.monotonic() + self._config.loop_budget_ms / 1000
        for task_id in sorted(self._unmade, key=lambda each: (self._unmade[each] is None, each)):  # copies first
            self._create(task_id, self._unmade[task_id])
            del self._unmade[task_id]
            await self._clock.sleep(0)
            if self._clock.monotonic() >= deadline:
                return

    def _restore(self) -> None:
        """Start the tasks that were restored; begin to restore those that need it."""
        self._start()
        self._check_restoring()
        waiting = self.having(TaskState.CREATED, TaskState.RESTORING)
        self._fence(needed=bool(waiting))
        if not waiting or self._restoring is not None:
            return
        for task in waiting:
            task.transition(TaskState.RESTORING)
        self._restoring = asyncio.ensure_future(self.restorer.run(waiting, self._consumer, self._restored))

    def _fence(self, *, needed: bool) -> None:
        """End the transactions of lost workers if restoring seems to wait for one."""
        if not needed:
            self._lost = frozenset()
        if self._lost and self._fencing is not None and self._clock.monotonic() - self._assigned_at >= FENCE_SECONDS:
            self._ending = asyncio.ensure_future(self._fencing.end_transactions(self._lost))
            self._lost = frozenset()

    def _set_aside(self, error: StateCorruptedError) -> None:
        path_of = self.factory.directory.task_path
        candidates = self.tasks.keys() | self._unmade.keys()
        task_id = next((each for each in candidates if path_of(str(each)) == error.path), None)
        now = self._clock.monotonic()
        self._rebuilt_at = [at for at in self._rebuilt_at if at > now - 3600]
        if task_id is None or len(self._rebuilt_at) >= REBUILDS:
            raise error
        self._rebuilt_at.append(now)
        if (task := self.tasks.pop(task_id, None)) is not None:
            task.close()
        elif (stores := self._unmade[task_id]) is not None:
            stores.close()
        set_damaged_aside(path_of(str(task_id)), error)
        self._unmade[task_id] = None

    def _start(self) -> None:
        """Read the inputs of tasks that are complete."""
        while self._restored:
            task, positions = self._restored.pop(0)
            self.no_room = ""
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


def _follows(before: GroupMetadata, after: GroupMetadata) -> bool:
    """Whether nobody can have had the tasks between two assignments."""
    return (after.member_id, after.generation) == (before.member_id, before.generation + 1)
