"""Whether the records of two sources may come in turns, one batch for each, and not run by run.

Next: `operators/join_in_turns`, which puts them back in order.
"""

from streamlib.topology.async_nodes import AsyncCalls
from streamlib.topology.interference import asks_for_origins, needs_record_order, nodes_below, region
from streamlib.topology.nodes import Source, StreamTableJoin
from streamlib.topology.stream_join_nodes import JoinWindow, StreamStreamJoin
from streamlib.topology.topology import Topology

_SIDES = {True, False}
"""Left and right."""


def joined_in_turns(topology: Topology, sources: list[str]) -> tuple[StreamStreamJoin, StreamStreamJoin] | None:
    """The left and the right side of the stream-stream join in which all records of two sources meet; None elsewhere.

    There the records of both may come as one batch for each source, since nothing sees them before the join, and
    nothing after it asks where a record came from.
    """
    nodes = [topology.nodes[name] for name in sources]
    if len(nodes) != len(_SIDES) or any(not isinstance(node, Source) or len(node.topics) != 1 for node in nodes):
        return None
    exits = [name for source in sources for name in region(topology, source)[1]]
    windows = [topology.nodes[name] for name in exits]
    joins = {
        child.left: child
        for window in windows
        for child in topology.children(window.name)
        if isinstance(window, JoinWindow) and window.late is None and isinstance(child, StreamStreamJoin)
    }
    if len(windows) != len(_SIDES) or joins.keys() != _SIDES or joins[True].this_store != joins[False].other_store:
        return None
    if any(needs_record_order(topology, name) for name in sources):
        return None
    for node in nodes_below(topology, joins[True].name).values():
        waits = isinstance(node, AsyncCalls) or (isinstance(node, StreamTableJoin) and node.grace_ms is not None)
        if waits or asks_for_origins(node):
            return None
    return joins[True], joins[False]
