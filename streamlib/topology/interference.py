"""Whether a batch may go through the operators as a whole, or only one record at a time.

Operators hand on whole batches, so the second operator of a task sees row 2 of a batch only after the first has seen
all rows. That changes a result only where two ways through the plan meet again: in a store, in a node, in a topic.
Next: `runtime/lowering`, which asks once for each source.
"""

from streamlib.topology.nodes import (
    Branch,
    Filter,
    FlatMap,
    FlatMapValues,
    ForEach,
    MapRows,
    MapValues,
    Node,
    PassThrough,
    Peek,
    RepartitionFilter,
    SelectKey,
    Sink,
    StreamGlobalTableJoin,
    StreamTableJoin,
    TableToStream,
)
from streamlib.topology.topology import Topology

FUSED = (
    Branch,
    Filter,
    FlatMap,
    FlatMapValues,
    ForEach,
    MapRows,
    MapValues,
    PassThrough,
    Peek,
    RepartitionFilter,
    SelectKey,
    TableToStream,
)
"""Node types without state or I/O: runs of them become one loop, which keeps the order of single records."""

READERS = (StreamTableJoin, StreamGlobalTableJoin)
"""Node types that only read their stores."""


def region(topology: Topology, name: str) -> tuple[list[str], list[str]]:
    """The fused nodes below a node, and the exits: the nodes that follow them; both in depth-first order, once each.

    A region begins at the output of a node that is not fused (a source, a stateful operator).
    """
    fused: dict[str, None] = {}
    exits: dict[str, None] = {}

    def visit(parent: str) -> None:
        for child in topology.children(parent):
            if not isinstance(child, FUSED):
                exits[child.name] = None
            elif child.name not in fused:
                fused[child.name] = None
                visit(child.name)

    visit(name)
    return list(fused), list(exits)


def needs_record_order(topology: Topology, source_name: str) -> bool:
    """Whether whole batches from this source could give other results than single records.

    They could when, among the nodes the source reaches, (1) a node is fed by two regions, so that rows of one batch
    arrive in two runs; (2) a store is written by one operator and touched by another; (3) two sinks write to one
    topic, or might, because a sink names its topic for each record. Nodes that meet again inside one fused region do
    not count. The answer errs towards True.
    """
    operators: dict[str, Node] = {}
    fed: set[str] = set()
    pending = [source_name]
    while pending:
        start = pending.pop()
        fused, exits = region(topology, start)
        if not fed.isdisjoint(fused) or not fed.isdisjoint(exits):
            return True
        fed.update(fused, exits)
        operators.update((name, topology.nodes[name]) for name in exits)
        pending.extend(exits)
    return _share_a_store(list(operators.values())) or _share_a_topic(list(operators.values()))


def _share_a_store(operators: list[Node]) -> bool:
    touched: dict[str, list[Node]] = {}
    for node in operators:
        for store in node.stores:
            touched.setdefault(store, []).append(node)
    return any(len(nodes) > 1 and not all(isinstance(node, READERS) for node in nodes) for nodes in touched.values())


def _share_a_topic(operators: list[Node]) -> bool:
    sinks = [node for node in operators if isinstance(node, Sink)]
    topics = {sink.topic for sink in sinks}
    return len(sinks) > 1 and (len(topics) < len(sinks) or None in topics)
