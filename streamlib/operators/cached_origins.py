"""Where cached updates came from, so that what a flush sends down the plan still tells its topic and offset.

Only tables above an operator that asks for it keep this; a batch costs one look at it, and its updates nothing.
Source: LRUCacheEntry's ProcessorRecordContext. Next: `materialized`, which notes batches and flushes.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from itertools import groupby
from typing import Any, TypeAlias

from streamlib.operators.base import OperatorContext
from streamlib.record import ChangeBatch, TopicPartition
from streamlib.topology.interference import asks_for_origins, nodes_below
from streamlib.topology.topology import Topology

Origin: TypeAlias = tuple[TopicPartition | None, int | None]


def wants_origins(topology: Topology, store: str) -> bool:
    """Whether an operator below the nodes that own a store may ask where a record came from."""
    owners = [node.name for node in topology.nodes.values() if getattr(node, "store", None) == store]
    return any(asks_for_origins(below) for name in owners for below in nodes_below(topology, name).values())


class CachedOrigins:
    """The origins of the updates of one cache, by the turns that `state.cache.WriteCache` gives them.

    Args:
        context: Tells where the records being processed come from.

    Attributes:
        context: The same.
    """

    def __init__(self, context: OperatorContext) -> None:
        self.context = context
        self._noted = 0
        self._ends: list[int] = []  # the last turn of each batch
        self._batches: list[tuple[int, TopicPartition | None, list[int] | None]] = []

    def note(self, turn: int, offsets: list[int] | None) -> None:
        """A batch was cached whose last update has this turn.

        Args:
            turn: Of its last update.
            offsets: Of its records. Unknown where some of them made no update.
        """
        if turn == self._noted:
            return
        if offsets is not None and turn - self._noted != len(offsets):
            offsets = None
        self._noted = turn
        self._ends.append(turn)
        self._batches.append((turn, self.context.tp, offsets))

    def of(self, turns: list[int]) -> list[Origin]:
        """The origins of updates with these turns."""
        return [self._of(turn) for turn in turns]

    def forget(self, turn: int) -> None:
        """All updates up to a turn were flushed."""
        gone = bisect_right(self._ends, turn)
        del self._ends[:gone]
        del self._batches[:gone]

    def _of(self, turn: int) -> Origin:
        place = bisect_left(self._ends, turn)
        if place == len(self._ends):
            return None, None
        end, tp, offsets = self._batches[place]
        row = turn - end - 1  # counted from the last
        return (tp, None) if tp is None or offsets is None or -row > len(offsets) else (tp, offsets[row])


def forward_from(
    origins: list[Origin], changes: ChangeBatch, context: OperatorContext, forward: Callable[[ChangeBatch], None]
) -> None:
    """Send what a flush made down the plan, as if the records at hand were those that made it.

    Changes keep their order; those of one topic that follow each other go together.

    Args:
        origins: One for each change.
        changes: What goes down.
        context: Tells operators below where records come from.
        forward: The way down.
    """
    before = context.tp
    runs = groupby(range(len(origins)), lambda row: (origins[row][0], origins[row][1] is None))
    parts = [(tp, list(rows)) for (tp, _), rows in runs]
    try:
        for tp, rows in parts:
            part = changes if len(parts) == 1 else _part(changes, rows)
            part.offsets = [offset for row in rows if (offset := origins[row][1]) is not None] or None
            context.tp = tp
            forward(part)
    finally:
        context.tp = before


def _part(changes: ChangeBatch, rows: list[int]) -> ChangeBatch:
    def pick(column: list[Any]) -> list[Any]:
        return [column[row] for row in rows]

    part = ChangeBatch(pick(changes.keys), pick(changes.values), pick(changes.timestamps))
    part.headers = None if changes.headers is None else pick(changes.headers)
    part.olds = None if changes.olds is None else pick(changes.olds)
    part.store_keys = None if changes.store_keys is None else pick(changes.store_keys)
    return part
