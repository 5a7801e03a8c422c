"""The plan as a whole: immutable, printable, the only thing `dsl` hands to `runtime`. Next: `runtime/lowering`."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from streamlib.state.spec import StoreSpec
from streamlib.topology import describe, drawing
from streamlib.topology.nodes import Node
from streamlib.topology.subtopologies import RepartitionTopic, Subtopology

__all__ = ["RepartitionTopic", "Subtopology", "Topology"]


@dataclass(frozen=True)
class Topology:
    """A whole application's plan.

    Attributes:
        name: The default application id, None when the builder was not given one.
        nodes: By name, in insertion order.
        stores: By name.
        subtopologies: In order of their numbers.
        repartition_topics: By name without the application id.
        copartition_groups: Sets of source topics that must have equal partition counts.
        copartitioned: The same as sets of the names of sources.
    """

    name: str | None
    nodes: Mapping[str, Node]
    stores: Mapping[str, StoreSpec]
    subtopologies: tuple[Subtopology, ...]
    repartition_topics: Mapping[str, RepartitionTopic] = field(default_factory=dict)
    copartition_groups: tuple[frozenset[str], ...] = ()
    copartitioned: tuple[frozenset[str], ...] = ()

    def children(self, name: str) -> list[Node]:
        """The nodes fed by ``name``, in the order they were connected."""
        return [node for node in self.nodes.values() if name in node.parents]

    def physical_topic(self, topic: str, application_id: str) -> str:
        """The topic's name on the broker: internal topics carry the application id."""
        return f"{application_id}-{topic}" if topic in self.repartition_topics else topic

    def changelog_topic(self, store: str, application_id: str) -> str | None:
        """The store's changelog on the broker; None for a store without logging."""
        spec = self.stores[store]
        if spec.source_topic is not None:
            return spec.source_topic
        return f"{application_id}-{store}-changelog" if spec.logging else None

    def describe(self) -> str:
        """The plan as text, equal in structure to what Kafka Streams prints for the same topology."""
        return describe.describe(self.nodes, self.subtopologies)

    def to_mermaid(self) -> str:
        """The plan as a Mermaid flow chart."""
        return drawing.to_mermaid(self.nodes, self.subtopologies)

    def to_json(self) -> str:
        """The plan's structure as JSON, without its functions."""
        return drawing.to_json(self.nodes, self.stores, self.subtopologies, self.repartition_topics)
