"""Whether a batch may go through the operators as a whole, or only one record at a time.

Operators hand on whole batches, so the second operator of a task sees row 2 of a batch only after the first has seen
all rows. That changes a result only where two ways through the plan meet again: in a store, in a node, in a topic.
Next: `runtime/lowering`, which asks once for each source.
"""

from streamlib.topology.foreign_key_nodes import ForeignTableJoin, ResponseJoin, SubscriptionJoin
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
from streamlib.topology.processor_nodes import ProcessorNode, TableTransformValues
from streamlib.topology.suppress_nodes import TableSuppress
from streamlib.topology.table_join_nodes import TableJoin
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

READERS = (
    ForeignTableJoin,
    ResponseJoin,
    StreamGlobalTableJoin,
    StreamTableJoin,
    SubscriptionJoin,
    TableJoin,
)
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


def nodes_below(topology: Topology, name: str) -> dict[str, Node]:
    """All nodes that a node feeds, at any distance, by name."""
    found: dict[str, Node] = {}
    waiting = topology.children(name)
    while waiting:
        node = waiting.pop()
        if node.name not in found:
            found[node.name] = node
            waiting += topology.children(node.name)
    return found


def asks_for_origins(node: Node) -> bool:
    """Whether an operator may ask where a record came from."""
    if isinstance(node, Sink):
        return node.with_context
    return isinstance(node, ProcessorNode | TableTransformValues | TableSuppress)


def needs_record_order(topology: Topology, source_name: str) -> bool:
    """Whether whole batches from this source could give other results than single records.

    They could when, among the nodes the source reaches, (1) a node is fed by two regions, so that rows of one batch
    arrive in two runs; (2) a store is written by one operator and touched by another; (3) two sinks write to one
    topic, or might, because a sink names its topic for each record; (4) a processor, which may ask for the stream
    time, gets records that were held back, whose offsets do not tell it; (5) a processor has timers by key, which
    fire between two records. Nodes that meet again inside one fused region do not count. The answer errs towards True.
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
    found = list(operators.values())
    if _use_timers(topology, found):
        return True
    return _share_a_store(found) or _share_a_topic(found) or _holds_back_from_processors(topology, found)


def _use_timers(topology: Topology, operators: list[Node]) -> bool:
    used = (topology.stores.get(store) for node in operators for store in node.stores)
    return any(spec is not None and spec.key_timers for spec in used)


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


def _holds_back_from_processors(topology: Topology, operators: list[Node]) -> bool:
    holding = [
        node
        for node in operators
        if isinstance(node, TableSuppress) or (isinstance(node, StreamTableJoin) and node.grace_ms is not None)
    ]
    return any(
        isinstance(below, ProcessorNode | TableTransformValues)
        for node in holding
        for below in nodes_below(topology, node.name).values()
    )
