"""Whether commits wait for asynchronous calls. Next: `runtime/commit`, which leaves such tasks out for a while."""

from streamlib.topology.async_nodes import AsyncCalls
from streamlib.topology.interference import FUSED
from streamlib.topology.nodes import Node, Source, StreamGlobalTableJoin, StreamTableJoin
from streamlib.topology.topology import Subtopology, Topology


def commits_wait_for_calls(topology: Topology, subtopology: Subtopology) -> bool:
    """Whether a commit must wait until no call is under way.

    It need not when a row on its way comes back if its source record is read again: then the offset stays uncommitted,
    and that is all. Below anything with state it might not come back, since the state has seen the record.
    """
    above: set[str] = set()
    waiting = [name for name in subtopology.nodes if isinstance(topology.nodes[name], AsyncCalls)]
    while waiting:
        for parent in topology.nodes[waiting.pop()].parents:
            if parent not in above:
                above.add(parent)
                waiting.append(parent)
    return not all(_comes_again(topology.nodes[name]) for name in above)


def _comes_again(node: Node) -> bool:
    """Whether a node gives a row again for the same record."""
    if isinstance(node, StreamTableJoin):
        return node.grace_ms is None
    return isinstance(node, (*FUSED, Source, AsyncCalls, StreamGlobalTableJoin))
