"""Sources that read all topics whose names match a pattern: which topics these are, once the broker's are known.

Source: InternalTopologyBuilder.addSubscribedTopicsFromMetadata.
Next: `runtime/topic_patterns`, which looks for new ones.
"""

import re
from collections.abc import Collection
from dataclasses import replace

from streamlib.errors import TopologyError
from streamlib.topology.nodes import Source
from streamlib.topology.subtopologies import copartition_groups
from streamlib.topology.topology import Topology


def patterns_of(topology: Topology) -> list[re.Pattern[str]]:
    """The patterns that are read."""
    sources = (node for node in topology.nodes.values() if isinstance(node, Source))
    return [source.pattern for source in sources if source.pattern is not None]


def resolved(topology: Topology, existing: Collection[str], application_id: str) -> Topology:
    """The plan with the topics that its patterns match, in the order of their names.

    The application's own changelog and repartition topics match no pattern.

    Args:
        topology: The plan; topics that were found before are forgotten.
        existing: All topics of the broker.
        application_id: The first part of internal topics' names.

    Raises:
        TopologyError: A topic matches two patterns.
    """
    if not patterns_of(topology):
        return topology
    own = {topology.physical_topic(name, application_id) for name in topology.repartition_topics}
    own |= {f"{application_id}-{name}-changelog" for name, spec in topology.stores.items() if spec.source_topic is None}
    candidates = sorted(set(existing) - own)
    nodes = dict(topology.nodes)
    readers: dict[str, Source] = {}
    problems = []
    for name, node in topology.nodes.items():
        if not isinstance(node, Source) or node.pattern is None:
            continue
        topics = tuple(filter(node.pattern.fullmatch, candidates))
        for topic in topics:
            first = readers.setdefault(topic, node)
            if first is not node:
                problems.append(
                    f'"{topic}" matches two patterns, "{first.subscription}" of "{first.name}" and '
                    f'"{node.subscription}" of "{name}": make them narrower'
                )
        nodes[name] = replace(node, topics=topics)
    if problems:
        raise TopologyError(problems)
    subtopologies = tuple(
        replace(
            part,
            source_topics=tuple(
                dict.fromkeys(
                    topic for name in part.nodes if isinstance(node := nodes[name], Source) for topic in node.topics
                )
            ),
        )
        for part in topology.subtopologies
    )
    groups = copartition_groups(nodes.values(), topology.copartitioned)
    return replace(topology, nodes=nodes, subtopologies=subtopologies, copartition_groups=groups)
