"""How a worker is, at one moment: for whoever decides whether to restart it, or to send it requests.

Next: `web/server`, which tells it over HTTP; `KafkaStreams.health`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from streamlib.runtime.loop_watch import LoopWatch
from streamlib.runtime.task_state import TaskState
from streamlib.runtime.watchdog import Step, Watchdog, Watched

INCOMPLETE = (TaskState.CREATED.value, TaskState.RESTORING.value)


@dataclass(frozen=True)
class StalledPartition:
    """An input that does not get on although records of it wait.

    Attributes:
        task: Whose input it is, e.g. ``0_3``.
        topic, partition: Which.
        offset: The next record to process.
        stalled_seconds: For how long.
        step: What was done about it last: ``refetch``, ``rejoin`` or ``exit``.
    """

    task: str
    topic: str
    partition: int
    offset: int
    stalled_seconds: float
    step: str


@dataclass(frozen=True)
class Health:
    """A worker at one moment.

    Attributes:
        alive: Whether to let it run. False when it has failed, or stands still and joining the group again has not
            helped: then start a new one. A worker that waits for its broker is alive.
        ready: Whether it processes: it has joined its group, its tasks are restored, the broker answers and no input
            has stalled.
        problems: Why it is not alive or not ready, a sentence each.
        tasks: The state of each task, by id.
        stalled: Inputs that do not get on.
        loop_lag_seconds: How late the event loop is.
        loop_lag_max_seconds: How late it was at most, within the last minute or two.
        loop_held_by: What last held it for more than a second.
    """

    alive: bool
    ready: bool
    problems: tuple[str, ...] = ()
    tasks: Mapping[str, str] | None = None
    stalled: tuple[StalledPartition, ...] = ()
    loop_lag_seconds: float = 0.0
    loop_lag_max_seconds: float = 0.0
    loop_held_by: str | None = None


class Vitals:
    """Where the health of a worker is looked up.

    Args:
        worker: The worker.
        watchdog: Knows what has stalled.
        loop: Knows how late the event loop is.
    """

    def __init__(self, worker: Watched, watchdog: Watchdog, loop: LoopWatch) -> None:
        self._worker = worker
        self._watchdog = watchdog
        self._loop = loop

    def health(self, failure: BaseException | None = None, *, stopping: bool = False) -> Health:
        """How the worker is now.

        Args:
            failure: What it has ended with.
            stopping: Whether it was asked to end.
        """
        stalled = tuple(
            StalledPartition(
                str(progress.task_id),
                tp.topic,
                tp.partition,
                progress.place[1],
                progress.total_seconds,
                progress.step.name.lower(),
            )
            for tp, progress in sorted(self._watchdog.stalled.items())
        )
        stuck = max((self._watchdog.group.step, *(each.step for each in self._watchdog.stalled.values())))
        problems = self._problems(stalled)
        if failure is not None:
            problems.insert(0, f"the worker has failed: {failure}")
        if stopping:
            problems.append("the worker stops")
        return Health(
            alive=failure is None and stuck < Step.REJOIN,
            ready=not problems,
            problems=tuple(problems),
            tasks=self._worker.manager.statistics(),
            stalled=stalled,
            loop_lag_seconds=self._loop.lag_seconds,
            loop_lag_max_seconds=self._loop.max_lag_seconds,
            loop_held_by=self._loop.held_by,
        )

    def _problems(self, stalled: tuple[StalledPartition, ...]) -> list[str]:
        manager = self._worker.manager
        problems = [
            f"task={each.task} topic={each.topic} partition={each.partition} offset={each.offset}: records wait, and "
            f"none was processed for {each.stalled_seconds:.0f} s"
            for each in stalled
        ]
        if self._worker.waits_for_broker:
            problems.append("no broker answers")
        if manager.space.low:
            problems.append(f"{manager.space.told()}: nothing is read until there is more")
        problems += [f"a permission is missing: {told}" for told in self._worker.permissions.missing()]
        if manager.group is None or self._worker.rebalancing:
            problems.append("the group has not decided yet who does what")
        if manager.no_room:
            problems.append(manager.no_room)
        restoring = [task for task, state in manager.statistics().items() if state in INCOMPLETE]
        if restoring:
            problems.append(f"tasks are being restored: {', '.join(restoring)}")
        return problems
