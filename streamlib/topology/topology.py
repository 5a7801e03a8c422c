"""The plan as a whole: immutable, printable, the only thing `dsl` hands to `runtime`. Next: `runtime/lowering`."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from streamlib.state.spec import StoreSpec
from streamlib.topology.nodes import Node


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
    """

    name: str | None
    nodes: Mapping[str, Node]
    stores: Mapping[str, StoreSpec]
    subtopologies: tuple[Subtopology, ...]
    repartition_topics: Mapping[str, RepartitionTopic] = field(default_factory=dict)
    copartition_groups: tuple[frozenset[str], ...] = ()

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
