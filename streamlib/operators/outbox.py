"""What a processor forwards, gathered into columns, so that its children get one batch for each batch it takes.

Rows keep the order in which they were forwarded, for each child. A row for one child alone begins another batch, unless
the ways below the children never meet. Next: `processor`, which fills it.
"""

from collections.abc import Callable

from streamlib.operators.base import Forward
from streamlib.record import FixedKeyRecord, Headers, Record, RecordBatch
from streamlib.topology.interference import nodes_below
from streamlib.topology.nodes import Sink
from streamlib.topology.topology import Topology

AnyRecord = Record[object, object] | FixedKeyRecord[object, object]


class Outbox:
    """Forwarded records on their way.

    Args:
        forward: Takes a batch to all children.
        forward_to: Makes what takes a batch to the child of that name alone.
        children: Names of the children.
        apart: The ways below the children never meet.
        eager: A node further down writes what this one reads: nothing may wait.
    """

    def __init__(
        self,
        forward: Forward,
        forward_to: Callable[[str], Forward],
        children: frozenset[str],
        *,
        apart: bool = False,
        eager: bool = False,
    ) -> None:
        self._forwards: dict[str | None, Forward] = {None: forward}
        self._forward_to = forward_to
        self._children = children
        self._apart = apart
        self._eager = eager
        self._runs: list[tuple[str | None, RecordBatch]] = []
        self._last: RecordBatch | None = None  # the run for all children that is being filled

    def add(self, record: AnyRecord, offset: int | None, to: str | None) -> None:
        """Take a record; it goes on with `send`, or at once if nothing may wait.

        Raises:
            ValueError: There is no such child, or the timestamp is negative.
        """
        if record.timestamp < 0:
            msg = f"a record's timestamp cannot be negative: {record.timestamp}"
            raise ValueError(msg)
        run = self._last if to is None and self._last is not None else self._run(to)
        run.keys.append(record.key)
        run.values.append(record.value)
        run.timestamps.append(record.timestamp)
        if run.offsets is not None:
            if offset is None:
                run.offsets = None
            else:
                run.offsets.append(offset)
        assert run.headers is not None
        run.headers.append(record.headers)
        if self._eager:
            self.send()

    def send(self) -> None:
        """Forward what was taken."""
        runs, self._runs, self._last = self._runs, [], None
        for to, run in runs:
            if not any(run.headers or ()):
                run.headers = None
            self._forwards[to](run)

    def clear(self) -> None:
        """Forget what was taken."""
        self._runs, self._last = [], None

    def _run(self, to: str | None) -> RecordBatch:
        """The run that a record for a child, or for all, belongs to."""
        if to is not None:
            if to not in self._forwards:
                self._forwards[to] = self._of_child(to)
            for target, run in reversed(self._runs):
                if target == to:
                    return run
                if target is None or not self._apart:
                    break
        headers: list[Headers] = []
        run = RecordBatch([], [], [], [], headers)
        self._runs.append((to, run))
        self._last = run if to is None else None
        return run

    def _of_child(self, name: str) -> Forward:
        if name not in self._children:
            known = ", ".join(f'"{child}"' for child in sorted(self._children)) or "none"
            msg = f'there is no child "{name}" to forward to; there are: {known}'
            raise ValueError(msg)
        return self._forward_to(name)


def never_meet(topology: Topology, name: str) -> bool:
    """Whether the children of a node lead to different nodes, stores and topics."""
    places: list[set[tuple[str, str | None]]] = []
    for child in topology.children(name):
        nodes = {child.name: child, **nodes_below(topology, child.name)}.values()
        own: set[tuple[str, str | None]] = {("node", node.name) for node in nodes}
        own |= {("store", store) for node in nodes for store in node.stores}
        own |= {("topic", node.topic) for node in nodes if isinstance(node, Sink)}
        places.append(own)
    everywhere = [place for own in places for place in own]
    names_topics_by_record = ("topic", None) in everywhere
    return len(everywhere) == len(set(everywhere)) and not names_topics_by_record
