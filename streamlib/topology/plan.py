"""A plan while it is made: nodes in the order they were written, not yet checked. Next: `validate`, which checks it."""

from dataclasses import dataclass, field
from typing import Literal

from streamlib.state.spec import StoreSpec
from streamlib.topology.nodes import Node
from streamlib.topology.subtopologies import RepartitionTopic, copartition_groups, subtopologies
from streamlib.topology.topology import Topology

SourceKind = Literal["stream", "table", "global table", "repartition"]


@dataclass
class Plan:
    """What becomes a `Topology`.

    Attributes:
        name: The default application id.
        nodes: In the order that numbers sub-topologies and in which siblings get a record. Names may still clash.
        stores: Likewise.
        repartition_topics: Likewise.
        source_kinds: What each source is read as, by the source's name.
        copartitioned: Sets of source names whose topics must have equal partition counts.
    """

    name: str | None = None
    nodes: list[Node] = field(default_factory=list)
    stores: list[StoreSpec] = field(default_factory=list)
    repartition_topics: list[RepartitionTopic] = field(default_factory=list)
    source_kinds: dict[str, SourceKind] = field(default_factory=dict)
    copartitioned: list[frozenset[str]] = field(default_factory=list)

    def topology(self) -> Topology:
        """The finished plan; call it only when `validate.problems` has found none."""
        nodes = {node.name: node for node in self.nodes}
        global_sources = {name for name, kind in self.source_kinds.items() if kind == "global table"}
        return Topology(
            name=self.name,
            nodes=nodes,
            stores={spec.name: spec for spec in self.stores},
            subtopologies=subtopologies(nodes, global_sources),
            repartition_topics={topic.name: topic for topic in self.repartition_topics},
            copartition_groups=copartition_groups(self.nodes, self.copartitioned),
            copartitioned=tuple(self.copartitioned),
        )
