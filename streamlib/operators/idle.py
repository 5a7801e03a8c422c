"""Stream time goes on while no records come: windows close although nothing says that their time is over.

Once an operator has got no records for ``close_windows_after_idle_ms`` of wall-clock time, or for so long as the
operation says itself (``close_after_idle``), its stream time is that of
its last record plus all the time since then, and moves on with the wall clock until the next record comes. Records that
are then behind it are late like any others. The time is kept with the committed offsets, whenever something is
committed; after a restart the idle time begins anew.

All operators of a task are asked together, upstream ones first, so that none closes a window for which one above it
still takes records. Next: `emit`, `suppress` and `join_streams`, which hold something back.
"""

from collections.abc import Callable

from streamlib.operators.base import OperatorContext
from streamlib.topology.processor_api import PunctuationType

LOOKS_MS = 1_000
"""Least often so many milliseconds pass between two looks."""


class IdleTime:
    """The stream time of one operator.

    Args:
        node: Its name.
        context: The wall clock, and where the time is kept.
        advance: Called with a stream time that has passed without records; whether that has let anything go.
        idle_ms: After how much wall-clock time without records it is.
    """

    def __init__(self, node: str, context: OperatorContext, advance: Callable[[int], bool], idle_ms: int) -> None:
        self._name = f"{node}-time"
        self._context = context
        self._advance = advance
        self._idle_ms = idle_ms
        self._stream_time = -1
        self._seen_ms = 0

    def init(self) -> int:
        """Begin: gives the stream time of before the last commit, -1 for none."""
        self._stream_time = self._context.processor_metadata.get(self._name, -1)
        self._seen_ms = self._context.clock.time_ms()
        interval_ms = min(self._idle_ms, LOOKS_MS)
        self._context.timers.schedule_together(interval_ms, PunctuationType.WALL_CLOCK_TIME, self._look)
        return self._stream_time

    def seen(self, stream_time: int) -> None:
        """Records came, and made it as late as this."""
        self._stream_time = stream_time
        self._seen_ms = self._context.clock.time_ms()
        self._context.processor_metadata[self._name] = stream_time

    def _look(self, now_ms: int) -> bool:
        passed_ms = now_ms - self._seen_ms
        if self._stream_time < 0 or passed_ms < self._idle_ms or self._context.records_wait:
            return False
        stream_time = self._stream_time + passed_ms
        self._context.processor_metadata[self._name] = stream_time
        return self._advance(stream_time)


def idle_time(
    node: str, context: OperatorContext, advance: Callable[[int], bool], idle_ms: int | None
) -> IdleTime | None:
    """The time of an operator; None when its windows do not close while no records come.

    Args:
        node: Its name.
        context: The wall clock, and where the time is kept.
        advance: As in `IdleTime`.
        idle_ms: Of its own; None: as the worker says.
    """
    if idle_ms is None:
        idle_ms = context.close_windows_after_idle_ms
    return IdleTime(node, context, advance, idle_ms) if idle_ms > 0 else None
