"""The plan as a Mermaid picture and as JSON. Next: `internal_topics`, what the plan needs on a broker."""

import json
from collections.abc import Mapping, Sequence

from streamlib.state.spec import StoreSpec
from streamlib.topology.nodes import Node, Sink, Source
from streamlib.topology.outline import FORMAT
from streamlib.topology.subtopologies import RepartitionTopic, Subtopology


def to_mermaid(nodes: Mapping[str, Node], subtopologies: Sequence[Subtopology]) -> str:
    """A flow chart: topics as slanted boxes, stores as cylinders, a frame for each sub-topology."""
    ids = {name: f"n{number}" for number, name in enumerate(nodes)}
    stores = [store for subtopology in subtopologies for store in subtopology.stores]
    store_ids = {name: f"s{number}" for number, name in enumerate(stores)}
    topics = [
        topic for subtopology in subtopologies for topic in (*subtopology.source_topics, *subtopology.sink_topics)
    ]
    topics += [node.subscription for node in nodes.values() if isinstance(node, Source) and node.pattern is not None]
    topic_ids = {name: f"t{number}" for number, name in enumerate(dict.fromkeys(topics))}
    lines = ["flowchart TD"]
    lines += [f'  {topic_ids[topic]}[/"{topic}"/]' for topic in topic_ids]
    for subtopology in subtopologies:
        kind = "global table" if subtopology.is_global else "sub-topology"
        lines.append(f'  subgraph p{subtopology.number}["{kind} {subtopology.number}"]')
        lines += [f'    {ids[name]}["{name}"]' for name in subtopology.nodes]
        lines += [f'    {store_ids[store]}[("{store}")]' for store in subtopology.stores]
        lines.append("  end")
    for node in nodes.values():
        me = ids[node.name]
        lines += [f"  {ids[parent]} --> {me}" for parent in node.parents]
        lines += [f"  {me} --- {store_ids[store]}" for store in node.stores]
        if isinstance(node, Source):
            read = node.topics if node.pattern is None else (node.subscription,)
            lines += [f"  {topic_ids[topic]} --> {me}" for topic in read]
        elif isinstance(node, Sink) and node.topic is not None:
            lines.append(f"  {me} --> {topic_ids[node.topic]}")
    return "\n".join(lines) + "\n"


def to_json(
    nodes: Mapping[str, Node],
    stores: Mapping[str, StoreSpec],
    subtopologies: Sequence[Subtopology],
    repartition_topics: Mapping[str, RepartitionTopic],
) -> str:
    """The plan's structure without its functions, for tools and for comparing two versions of an application."""
    return json.dumps(
        {
            "format": FORMAT,
            "nodes": [_node(node) for node in nodes.values()],
            "stores": [_store(spec) for spec in stores.values()],
            "subtopologies": [
                {
                    "number": subtopology.number,
                    "nodes": subtopology.nodes,
                    "source_topics": subtopology.source_topics,
                    "sink_topics": subtopology.sink_topics,
                    "stores": subtopology.stores,
                    "is_global": subtopology.is_global,
                }
                for subtopology in subtopologies
            ],
            "repartition_topics": [
                {"name": topic.name, "partitions": topic.partitions} for topic in repartition_topics.values()
            ],
        }
    )


def _node(node: Node) -> dict[str, object]:
    entry: dict[str, object] = {"name": node.name, "kind": type(node).__name__, "parents": node.parents}
    if node.stores:
        entry["stores"] = node.stores
    if isinstance(node, Source):
        entry["topics"] = node.topics
        if node.pattern is not None:
            entry["pattern"] = node.subscription
    if isinstance(node, Sink):
        entry["topic"] = node.topic
    if isinstance(node, Source | Sink):
        entry |= {"key_serde": node.key_serde.name, "value_serde": node.value_serde.name}
    return entry


def _store(spec: StoreSpec) -> dict[str, object]:
    return {
        "name": spec.name,
        "kind": spec.kind,
        "key_serde": spec.key_serde.name,
        "value_serde": spec.value_serde.name,
        "persistent": spec.persistent,
        "caching": spec.caching,
        "logging": spec.logging,
        "retention_ms": spec.retention_ms,
        "source_topic": spec.source_topic,
        "window_size_ms": spec.window_size_ms,
        "timestamped": spec.timestamped,
        "retain_duplicates": spec.retain_duplicates,
    }
