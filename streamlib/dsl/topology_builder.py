"""`TopologyBuilder`: a topology written node by node, for programs that are all processors.

Source: Topology. Next: `topology/validate`, which checks it; `topology/processor_nodes`, what it is made of.
"""

import re
from dataclasses import replace
from typing import Any, Self

from streamlib.dsl.options import GivenReset
from streamlib.error_policies import OnError
from streamlib.errors import TopologyError
from streamlib.offset_reset import offset_reset as checked_reset
from streamlib.serdes.base import AnySerde
from streamlib.serdes.primitives import BYTES
from streamlib.state.spec import StoreSpec
from streamlib.topology import validate
from streamlib.topology.naming import what_is_wrong
from streamlib.topology.nodes import Node, Partitioner, Sink, Source, TimestampExtractor
from streamlib.topology.plan import Plan
from streamlib.topology.processor_api import ProcessorSupplier, gives_one_object, one_object, stores_of
from streamlib.topology.processor_nodes import ProcessorNode
from streamlib.topology.topic_names import TopicNameExtractor, takes_context
from streamlib.topology.topology import Topology

AnySupplier = ProcessorSupplier[Any, Any, Any, Any]


class TopologyBuilder:
    """Makes a topology out of sources, processors, sinks and stores, all of them named.

    Mistakes do not raise where they are made, but all together in `build`. Each method gives the builder itself.

    Args:
        name: The default application id.
        default_key_serde: Of the keys of sources and sinks that are given none; raw bytes by default.
        default_value_serde: The same for values.
    """

    def __init__(
        self, name: str | None = None, *, default_key_serde: AnySerde = BYTES, default_value_serde: AnySerde = BYTES
    ) -> None:
        self._plan = Plan(name=name)
        self._problems: list[str] = []
        self._default_key_serde = default_key_serde
        self._default_value_serde = default_value_serde
        if name is not None:
            self._check_name(name, "the builder's name")

    def add_source(
        self,
        name: str,
        *topics: str | re.Pattern[str],
        key_serde: AnySerde | None = None,
        value_serde: AnySerde | None = None,
        timestamp_extractor: TimestampExtractor | None = None,
        offset_reset: GivenReset | None = None,
        on_error: OnError | None = None,
    ) -> Self:
        """Add a node that reads topics, each of which no other source reads.

        Args:
            name: Of the node.
            topics: Names of topics that exist; or one compiled pattern, for all topics whose whole names match it.
            key_serde: How keys are read.
            value_serde: How values are read.
            timestamp_extractor: ``(key, value, record timestamp, highest timestamp so far)`` to the event time in ms.
            offset_reset: Where to start without a committed offset; see `Consumed`.
            on_error: What happens to a record whose bytes the serde refuses; see `Consumed`.
        """
        patterns = [topic for topic in topics if isinstance(topic, re.Pattern)]
        if not topics:
            self._problems.append(f'the source "{name}" needs at least one topic')
        if patterns and len(topics) > 1:
            self._problems.append(f'the source "{name}" has a pattern, and cannot read other topics: add another one')
        names = tuple(topic for topic in topics if not isinstance(topic, re.Pattern))
        for topic in names:
            self._check_name(topic, "the topic name")
        reset = None
        try:
            reset = None if offset_reset is None else checked_reset(offset_reset)
        except ValueError as error:
            self._problems.append(f'the offset_reset of "{name}" {error}')
        self._add(
            Source(
                name=name,
                topics=names,
                pattern=patterns[0] if patterns else None,
                offset_reset=reset,
                key_serde=key_serde or self._default_key_serde,
                value_serde=value_serde or self._default_value_serde,
                timestamp_extractor=timestamp_extractor,
                on_error=on_error,
            )
        )
        self._plan.source_kinds[name] = "stream"
        return self

    def add_processor(self, name: str, supplier: AnySupplier, *parents: str, on_error: OnError | None = None) -> Self:
        """Add a node with a `Processor`, fed by others that were added before; and the stores its supplier brings.

        ``on_error`` says what happens to a record for which it raises, as in `KStream.process`.
        """
        if gives_one_object(supplier):
            self._problems.append(one_object(name))
        node = ProcessorNode(name=name, parents=parents, supplier=supplier, on_error=on_error)
        self._add(node)
        for spec in stores_of(supplier):
            self.add_state_store(spec, name)
        return self

    def add_sink(
        self,
        name: str,
        topic: str | TopicNameExtractor[Any, Any],
        *parents: str,
        key_serde: AnySerde | None = None,
        value_serde: AnySerde | None = None,
        partitioner: Partitioner | None = None,
        on_error: OnError | None = None,
    ) -> Self:
        """Add a node that writes to a topic, or to the one that a function names for each record.

        That is called as in `KStream.to`; ``on_error`` is as there, too.
        """
        sink = Sink(
            name=name,
            parents=parents,
            topic=None,
            key_serde=key_serde or self._default_key_serde,
            value_serde=value_serde or self._default_value_serde,
            partitioner=partitioner,
            on_error=on_error,
        )
        if callable(topic):
            try:
                self._add(replace(sink, topic_fn=topic, with_context=takes_context(topic)))
            except TypeError as error:
                self._problems.append(f'"{name}" cannot ask for topics: {error}')
        else:
            self._check_name(topic, "the topic name")
            self._add(replace(sink, topic=topic))
        return self

    def add_state_store(self, spec: StoreSpec, *processors: str) -> Self:
        """Add a store, made with `Stores`, and connect it with processors; the same one may be added again."""
        if not any(spec is held for held in self._plan.stores):
            self._check_name(spec.name, "the store name")
            self._plan.stores.append(spec)
        for processor in processors:
            self.connect_processor_and_state_stores(processor, spec.name)
        return self

    def connect_processor_and_state_stores(self, processor: str, *stores: str) -> Self:
        """Let a processor use stores. Processors that share one run in the same tasks."""
        for place, node in enumerate(self._plan.nodes):
            if node.name == processor and isinstance(node, ProcessorNode):
                self._plan.nodes[place] = replace(node, stores=tuple(dict.fromkeys([*node.stores, *stores])))
                return self
        listed = ", ".join(f'"{store}"' for store in stores)
        self._problems.append(f'{listed} cannot be connected with "{processor}", which is no processor added before')
        return self

    def add_global_store(
        self,
        spec: StoreSpec,
        source: str,
        topic: str,
        processor: str,
        supplier: AnySupplier,
        *,
        key_serde: AnySerde | None = None,
        value_serde: AnySerde | None = None,
    ) -> Self:
        """Add a store that a processor fills from all partitions of a topic, in every worker; all processors read it.

        Args:
            spec: The store; it has no changelog.
            source: Name for the node that reads the topic.
            topic: Read for nothing else.
            processor: Name for the node that fills the store, and forwards nothing.
            supplier: Gives that processor.
            key_serde: How keys are read, if not as the store's are.
            value_serde: How values are read, likewise.
        """
        self._store_of_topic(spec, source, topic, processor, supplier)
        self._with_serdes(source, key_serde or spec.key_serde, value_serde or spec.value_serde)
        self._plan.source_kinds[source] = "global table"
        return self

    def add_read_only_state_store(
        self, spec: StoreSpec, source: str, topic: str, processor: str, supplier: AnySupplier
    ) -> Self:
        """Add a store that a processor fills from a topic, which is its changelog, too; other processors only read it.

        A task takes its partition of the topic. After a loss the store is restored from the topic's records as they
        are, so the processor must put each key and value as it comes. Arguments as in `add_global_store`; the topic
        is read with the serdes of the store. Source: KIP-813.
        """
        self._store_of_topic(spec, source, topic, processor, supplier)
        self._with_serdes(source, spec.key_serde, spec.value_serde)
        return self

    def build(self) -> Topology:
        """The finished topology; the builder may go on and build a larger one.

        Raises:
            TopologyError: The topology has mistakes; all of them are in ``problems``.
        """
        if problems := [*self._problems, *validate.problems(self._plan)]:
            raise TopologyError(problems)
        return self._plan.topology()

    def _store_of_topic(self, spec: StoreSpec, source: str, topic: str, processor: str, supplier: AnySupplier) -> None:
        self.add_source(source, topic)
        self.add_processor(processor, supplier, source)
        self.add_state_store(replace(spec, source_topic=topic, logging=False, caching=False), processor)

    def _with_serdes(self, source: str, key_serde: AnySerde, value_serde: AnySerde) -> None:
        for place, node in enumerate(self._plan.nodes):
            if isinstance(node, Source) and node.name == source:
                self._plan.nodes[place] = replace(node, key_serde=key_serde, value_serde=value_serde)

    def _add(self, node: Node) -> None:
        self._check_name(node.name, "the name")
        if not isinstance(node, Source) and not node.parents:
            self._problems.append(f'"{node.name}" needs a parent: name the nodes that feed it')
        feeding = {each.name for each in self._plan.nodes if not isinstance(each, Sink)}
        for parent in node.parents:
            if parent not in feeding:
                self._problems.append(f'"{node.name}" is to be fed by "{parent}", which is no node added before')
        known = tuple(parent for parent in dict.fromkeys(node.parents) if parent in feeding)
        self._plan.nodes.append(replace(node, parents=known))

    def _check_name(self, name: str, what: str) -> None:
        if (wrong := what_is_wrong(name)) is not None:
            self._problems.append(f"{what} {name!r} cannot be used: {wrong}")
