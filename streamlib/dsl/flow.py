"""Where a stream or table stands in the graph, and how streams are repartitioned. Next: `stream`."""

import re
from dataclasses import dataclass, replace

from streamlib.dsl.graph import Graph, Step, TableStep
from streamlib.dsl.options import StoreOptions
from streamlib.serdes.base import AnySerde
from streamlib.topology.naming import Names
from streamlib.topology.nodes import Node, Partitioner, RepartitionFilter, Sink, Source, TableSource
from streamlib.topology.subtopologies import RepartitionTopic

_NAMES_NODES_TOO = re.compile(r"KSTREAM.*-[0-9]{10}")


@dataclass(frozen=True)
class Flow:
    """A stream or table as the DSL sees it.

    Attributes:
        graph: Of the builder that made it.
        step: What feeds the next operation.
        key_serde: Of its keys, as far as is known.
        value_serde: Of its values, likewise.
        sources: Names of the sources it comes from, for joins, which need equal partition counts.
        rekeyed: Whether keys may have changed since the last repartitioning.
    """

    graph: Graph
    step: Step
    key_serde: AnySerde
    value_serde: AnySerde
    sources: frozenset[str]
    rekeyed: bool = False

    def then(
        self,
        node: Node,
        *,
        key_serde: AnySerde | None = None,
        value_serde: AnySerde | None = None,
        rekeyed: bool | None = None,
    ) -> "Flow":
        """The flow after one more node."""
        step = Step([node])
        self.graph.add(step, self.step)
        return self.after(step, key_serde=key_serde, value_serde=value_serde, rekeyed=rekeyed)

    def after(
        self,
        step: Step,
        *,
        key_serde: AnySerde | None = None,
        value_serde: AnySerde | None = None,
        rekeyed: bool | None = None,
    ) -> "Flow":
        """The flow after a step that is in the graph already."""
        return replace(
            self,
            step=step,
            key_serde=key_serde or self.key_serde,
            value_serde=value_serde or self.value_serde,
            rekeyed=self.rekeyed if rekeyed is None else rekeyed,
        )

    def rekeyed_by(self, node: Node, key_serde: AnySerde | None, value_serde: AnySerde | None) -> "Flow":
        """The flow after a node that makes new keys and values."""
        return self.then(
            node,
            key_serde=self.new_key_serde(key_serde, node.name),
            value_serde=self.new_value_serde(value_serde, node.name),
            rekeyed=True,
        )

    def merged_with(self, other: "Flow", step: Step) -> "Flow":
        """The flow after a step that both flows feed; serdes are this flow's, unless the builder has defaults."""
        if self.graph.is_foreign(other.graph, step.output):
            return self.after(step)
        self.graph.add(step, self.step, other.step)
        merged = replace(self, sources=self.sources | other.sources, rekeyed=self.rekeyed or other.rekeyed)
        return merged.after(
            step,
            key_serde=self.new_key_serde(None, step.output),
            value_serde=self.new_value_serde(None, step.output),
        )

    def with_serdes(self, key_serde: AnySerde | None, value_serde: AnySerde | None, where: str) -> "Flow":
        """The flow with the serdes the user gave; nothing is added to the graph."""
        return replace(
            self,
            key_serde=self.graph.serde(key_serde, self.key_serde, where),
            value_serde=self.graph.serde(value_serde, self.value_serde, where),
        )

    def new_key_serde(self, given: AnySerde | None, where: str) -> AnySerde:
        """The serde of keys that the node named ``where`` makes."""
        return self.graph.new_key_serde(given, self.key_serde, f'"{where}"')

    def new_value_serde(self, given: AnySerde | None, where: str) -> AnySerde:
        """The serde of values that the node named ``where`` makes."""
        return self.graph.new_value_serde(given, self.value_serde, f'"{where}"')

    def behind(self, repartition: Step) -> "Flow":
        """The flow that reads the repartition topic of a step."""
        source = repartition.nodes[-1]
        assert isinstance(source, Source)
        return Flow(self.graph, repartition, source.key_serde, source.value_serde, frozenset({source.name}))


def repartition_step(
    flow: Flow, prefix: str, partitions: int | None = None, partitioner: Partitioner | None = None
) -> Step:
    """Null-key filter, sink, topic and source for repartitioning a stream; not yet in the graph.

    Takes three numbers for names. The nodes are named after the topic if the user named it.

    Args:
        flow: The stream; its serdes are those of the topic.
        prefix: Name of the topic without ``-repartition``.
        partitions: Fixes the number of partitions; None takes that of the topics above.
        partitioner: Chooses partitions; None does so by key.

    Source: KStreamImpl.createRepartitionedSource.
    """
    step = topic_step(flow.graph.names, prefix, flow.key_serde, flow.value_serde, partitioner)
    assert step.repartition_topic is not None
    step.repartition_topic = replace(step.repartition_topic, partitions=partitions)
    return step


def topic_step(
    names: Names, prefix: str, key_serde: AnySerde, value_serde: AnySerde, partitioner: Partitioner | None = None
) -> Step:
    """The same, with names from another counter."""
    topic = prefix if prefix.endswith("-repartition") else f"{prefix}-repartition"
    generated = (names.node("KSTREAM-SINK-"), names.node("KSTREAM-FILTER-"), names.node("KSTREAM-SOURCE-"))
    named = (f"{topic}-sink", f"{topic}-filter", f"{topic}-source")
    sink, null_key_filter, source = generated if _NAMES_NODES_TOO.fullmatch(prefix) else named
    return Step(
        [
            RepartitionFilter(name=null_key_filter),
            replace(repartition_sink(sink, null_key_filter, topic, key_serde, value_serde), partitioner=partitioner),
            Source(name=source, topics=(topic,), key_serde=key_serde, value_serde=value_serde),
        ],
        source_kind="repartition",
        repartition_topic=RepartitionTopic(topic),
        mergeable=True,
    )


def repartitioned(flow: Flow, name: str | None, partitions: int | None, partitioner: Partitioner | None) -> Flow:
    """The flow behind a repartition topic that the user asked for; a number for its name is taken if it has none."""
    if name is not None:
        flow.graph.check_name(name, "the name")
    if partitions is not None and partitions < 1:
        flow.graph.problems.append(f"repartition needs at least 1 partition, got {partitions}")
    prefix = flow.graph.names.node("KSTREAM-REPARTITION-") if name is None else name
    step = repartition_step(flow, prefix, partitions, partitioner)
    step.mergeable = False
    flow.graph.add(step, flow.step)
    return flow.behind(step)


def as_table(flow: Flow, name: str | None, options: StoreOptions) -> Flow:
    """The flow as a table, repartitioned first if keys may have changed."""
    node = TableSource(name=flow.graph.name(name, "KSTREAM-TOTABLE-"))
    spec = flow.graph.store(options, "KSTREAM-TOTABLE-", flow.key_serde, flow.value_serde)
    if flow.rekeyed:
        repartition = repartition_step(flow, node.name)
        flow.graph.add(repartition, flow.step)
        flow = flow.behind(repartition)
    step = TableStep([node], spec=spec)
    if options.store_name is not None:
        step.materialize()
    flow.graph.add(step, flow.step)
    return flow.after(step)


def repartition_sink(name: str, parent: str, topic: str, key_serde: AnySerde, value_serde: AnySerde) -> Sink:
    """A sink that partitions by all bytes of the key, also where the key is windowed (only user topics differ)."""
    whole_key = replace(key_serde, partition_bytes=None)
    return Sink(name=name, parents=(parent,), topic=topic, key_serde=whole_key, value_serde=value_serde)
