"""The plan as text, in the words and the layout of Java's ``Topology.describe()``.

Nodes come in Java's order: those with most nodes below them first, then by name. (Java's order inside a list of
successors also depends on its hash maps, so it is not always the same.) Next: `drawing`, the plan as a picture.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from streamlib.topology.nodes import Node, Sink, Source
from streamlib.topology.subtopologies import Subtopology


def describe(nodes: Mapping[str, Node], subtopologies: Sequence[Subtopology]) -> str:
    """The text for people, and for comparing two plans."""
    children: dict[str, list[str]] = defaultdict(list)
    for node in nodes.values():
        for parent in node.parents:
            children[parent].append(node.name)
    sizes = _sizes(nodes, children)

    def listed(names: Sequence[str]) -> str:
        return ", ".join(sorted(names, key=lambda name: (-sizes[name], name))) or "none"

    parts = []
    for subtopology in subtopologies:
        ordered = sorted(subtopology.nodes, key=lambda name: (-sizes[name], name))
        lines = [_node(nodes[name], listed(children[name]), listed(nodes[name].parents)) for name in ordered]
        head = " for global store (will not generate tasks)" if subtopology.is_global else ""
        tail = "" if subtopology.is_global else "\n"
        parts.append(f"  Sub-topology: {subtopology.number}{head}\n" + "".join(lines) + tail)
    return "Topologies:\n " + "".join(parts)


def _sizes(nodes: Mapping[str, Node], children: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """For each node, the number of nodes below it and itself; a node below on two ways counts twice."""
    sizes: dict[str, int] = {}
    for name in reversed(list(nodes)):  # parents come before their children
        sizes[name] = 1 + sum(sizes[child] for child in children.get(name, ()))
    return sizes


def _node(node: Node, successors: str, predecessors: str) -> str:
    if isinstance(node, Source):
        return f"    Source: {node.name} (topics: {node.subscription})\n      --> {successors}\n"
    if isinstance(node, Sink):
        if node.topic is not None:
            target = f"topic: {node.topic}"
        else:
            target = f"extractor class: {getattr(node.topic_fn, '__name__', node.topic_fn)}"
        return f"    Sink: {node.name} ({target})\n      <-- {predecessors}\n"
    stores = f"(stores: [{', '.join(_in_hash_order(node.stores))}])"
    return f"    Processor: {node.name} {stores}\n      --> {successors}\n      <-- {predecessors}\n"


def _in_hash_order(names: Sequence[str]) -> list[str]:
    """Names as a Java ``HashSet`` of the same insertions lists them."""
    buckets = 16
    while len(names) > buckets * 3 // 4:
        buckets *= 2

    def bucket(name: str) -> int:
        code = 0
        for character in name:  # store names are ASCII
            code = (31 * code + ord(character)) & 0xFFFFFFFF
        return (code ^ code >> 16) % buckets

    return sorted(names, key=bucket)
