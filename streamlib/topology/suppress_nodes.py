"""The node of a suppressed table. Next: `operators/suppress`, what it does."""

from dataclasses import dataclass

from streamlib.topology.nodes import Node


@dataclass(frozen=True, kw_only=True)
class TableSuppress(Node):
    """Holds updates of a table back and lets go the last one of each key; old values come with them.

    Attributes:
        buffer: The store of what waits.
        wait_ms: How far stream time must have passed an update's place in time.
        final: Its place is the end of its window, and deletions are left out; else it is its timestamp.
        records_max: How many keys may wait; None for any number.
        bytes_max: How much memory they may take; None for any amount.
        shut_down_when_full: Whether a full buffer is an error; else the first in time go early.
        idle_ms: As in `WindowAggregate`; counts only for final results.
    """

    buffer: str
    wait_ms: int
    final: bool = False
    records_max: int | None = None
    bytes_max: int | None = None
    shut_down_when_full: bool = False
    idle_ms: int | None = None
