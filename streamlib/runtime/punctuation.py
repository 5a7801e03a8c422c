"""The schedules of a task: what its processors want to be called for when stream time or the wall clock passes.

A schedule that is due fires once and then waits for the next multiple of its interval that lies ahead; what was missed
in between is skipped. Several that are due fire in the order of the times they were due.

Source: PunctuationQueue, PunctuationSchedule. Next: `task`, which says what time it is; `operators/processor`, which
calls the user's punctuator.
"""

from collections.abc import Callable
from functools import partial

from streamlib.clock import Clock
from streamlib.runtime.time_heap import TimeHeap
from streamlib.topology.processor_api import PunctuationType


class Schedule:
    """One schedule; implements `topology.processor_api.Cancellable`.

    Attributes:
        due: When it fires next, in ms.
        cancelled: Whether it has ended.
    """

    def __init__(self, due: int, interval_ms: int | None, fire: Callable[[int], object]) -> None:
        self.due = due
        self.cancelled = False
        self.fire = fire
        self._interval_ms = interval_ms

    def cancel(self) -> None:
        """Never fire again."""
        self.cancelled = True

    def move_past(self, now: int) -> None:
        """Be due at the next interval that lies after ``now``, at which it is due; one without intervals ends."""
        if self._interval_ms is None:
            self.cancelled = True
            return
        self.due += self._interval_ms * ((now - self.due) // self._interval_ms + 1)


class Punctuations:
    """All schedules of one task; implements `operators.base.Timers`.

    Args:
        clock: For the first time of a wall-clock schedule.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heaps: dict[PunctuationType, TimeHeap[Schedule]] = {kind: TimeHeap() for kind in PunctuationType}
        self._groups: dict[tuple[int, PunctuationType], list[Callable[[int], bool]]] = {}

    def schedule(self, interval_ms: int, kind: PunctuationType, fire: Callable[[int], object]) -> Schedule:
        """Call ``fire`` at each interval: by stream time first with the first record, by the wall clock after one."""
        due = 0 if kind is PunctuationType.STREAM_TIME else self._clock.time_ms() + interval_ms
        schedule = Schedule(due, interval_ms, fire)
        self._heaps[kind].push(due, schedule)
        return schedule

    def schedule_at(self, at_ms: int, kind: PunctuationType, fire: Callable[[int], object]) -> Schedule:
        """Call ``fire`` once, as soon as it is that late."""
        schedule = Schedule(at_ms, None, fire)
        self._heaps[kind].push(at_ms, schedule)
        return schedule

    def schedule_together(self, interval_ms: int, kind: PunctuationType, fire: Callable[[int], bool]) -> None:
        """Call ``fire`` at each interval, with all others of that interval and in the order they were given."""
        group = self._groups.get((interval_ms, kind))
        if group is None:
            group = self._groups[interval_ms, kind] = []
            self.schedule(interval_ms, kind, partial(_fire_all, group))
        group.append(fire)

    def due(self, kind: PunctuationType) -> int | None:
        """When the next schedule of a kind fires, in ms; None when there is none."""
        return self._heaps[kind].first_time

    def fire(self, kind: PunctuationType, now: int) -> bool:
        """Fire what is due at ``now``; whether anything was, but for what has answered False: it has done nothing."""
        heap, fired = self._heaps[kind], False
        while (due := heap.first_time) is not None and due <= now:
            schedule = heap.pop()
            if schedule.cancelled:
                continue
            fired = schedule.fire(now) is not False or fired
            if not schedule.cancelled:
                schedule.move_past(now)
            if not schedule.cancelled:
                heap.push(schedule.due, schedule)
        return fired

    def rows_until_due(self, timestamps: list[int], first: int) -> int:
        """Up to which row records may be processed together: the first one that makes a stream-time schedule due.

        Args:
            timestamps: Of the records.
            first: The row to begin with.

        Returns:
            The row after the last one.
        """
        due = self.due(PunctuationType.STREAM_TIME)
        if due is None:
            return len(timestamps)
        return next((row + 1 for row in range(first, len(timestamps)) if timestamps[row] >= due), len(timestamps))

    def clear(self) -> None:
        """Forget all schedules."""
        for heap in self._heaps.values():
            heap.clear()
        self._groups.clear()


def _fire_all(group: list[Callable[[int], bool]], now: int) -> bool:
    done = [fire(now) for fire in group]
    return any(done)
