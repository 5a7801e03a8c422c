"""Sub-topologies: the parts of a plan that share no topic but through a broker, numbered as in Java.

Next: `topology`, which holds them.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from streamlib.topology.nodes import Node, Sink, Source


@dataclass(frozen=True)
class RepartitionTopic:
    """An internal topic between two sub-topologies, named without the application id.

    Attributes:
        name: e.g. ``words-repartition``.
        partitions: What the user fixed, or None: as many as the topics that feed it.
    """

    name: str
    partitions: int | None = None


@dataclass(frozen=True)
class Subtopology:
    """Nodes that run in one task for each partition.

    Attributes:
        number: As Kafka Streams numbers it; the first part of task ids.
        nodes: Node names in insertion order.
        source_topics: Topics its sources read, internal ones without the application id.
        sink_topics: Topics its sinks write to (fixed names only).
        stores: Names of its stores.
        is_global: Holds a global table: read whole by every worker, has no tasks.
    """

    number: int
    nodes: tuple[str, ...]
    source_topics: tuple[str, ...]
    sink_topics: tuple[str, ...]
    stores: tuple[str, ...]
    is_global: bool = False


def subtopologies(nodes: Mapping[str, Node], global_sources: Collection[str]) -> tuple[Subtopology, ...]:
    """The plan cut into parts: nodes belong together when one feeds the other or when they share a store.

    Parts are numbered in the order of their first nodes; global tables get numbers too.

    Args:
        nodes: All nodes by name, in insertion order.
        global_sources: Names of the sources of global tables.
    """
    groups: dict[str, list[Node]] = {}
    roots = _roots(nodes)
    for name, node in nodes.items():
        groups.setdefault(roots[name], []).append(node)
    return tuple(_subtopology(number, group, global_sources) for number, group in enumerate(groups.values()))


def copartition_groups(nodes: Iterable[Node], copartitioned: Iterable[frozenset[str]]) -> tuple[frozenset[str], ...]:
    """Topics that must have equal partition counts; groups that share a topic are one group.

    Args:
        nodes: All nodes.
        copartitioned: Sets of the names of sources.
    """
    topics = {node.name: node.topics for node in nodes if isinstance(node, Source)}
    groups: list[frozenset[str]] = []
    for sources in copartitioned:
        merged = frozenset(topic for source in sources for topic in topics.get(source, ()))
        touching = [group for group in groups if group & merged]
        groups = [group for group in groups if not group & merged]
        groups.append(merged.union(*touching))
    return tuple(group for group in groups if len(group) > 1)


def _roots(nodes: Mapping[str, Node]) -> dict[str, str]:
    """For each node, one node that stands for its whole part."""
    above = {name: name for name in nodes}

    def root(name: str) -> str:
        while above[name] != name:
            above[name] = above[above[name]]
            name = above[name]
        return name

    first_user: dict[str, str] = {}
    for name, node in nodes.items():
        for neighbour in (*node.parents, *(first_user.setdefault(store, name) for store in node.stores)):
            above[root(name)] = root(neighbour)
    return {name: root(name) for name in nodes}


def _subtopology(number: int, group: list[Node], global_sources: Collection[str]) -> Subtopology:
    sources = [node for node in group if isinstance(node, Source)]
    sinks = [node for node in group if isinstance(node, Sink)]
    return Subtopology(
        number,
        nodes=tuple(node.name for node in group),
        source_topics=tuple(dict.fromkeys(topic for source in sources for topic in source.topics)),
        sink_topics=tuple(dict.fromkeys(sink.topic for sink in sinks if sink.topic is not None)),
        stores=tuple(dict.fromkeys(store for node in group for store in node.stores)),
        is_global=any(source.name in global_sources for source in sources),
    )
