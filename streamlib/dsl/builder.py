"""`StreamsBuilder`: where a topology begins and is built. Next: `stream`, for what can be done with records."""

import re
import warnings
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, TypeVar, Unpack, overload

from streamlib.dsl.flow import Flow
from streamlib.dsl.graph import Defaults, Graph, Step, TableStep
from streamlib.dsl.layout import lay_out
from streamlib.dsl.optimization import Optimization, chosen_rules
from streamlib.dsl.options import Consumed, ConsumedMaterialized, GivenReset, SourceOptions, source_and_store
from streamlib.dsl.stream import KStream
from streamlib.dsl.table import GlobalKTable, KTable
from streamlib.errors import TopologyError
from streamlib.offset_reset import OffsetReset, offset_reset
from streamlib.serdes.base import AnySerde, Serde
from streamlib.serdes.primitives import BYTES
from streamlib.state.spec import StoreSpec
from streamlib.topology import validate
from streamlib.topology.naming import UnstableNameWarning
from streamlib.topology.nodes import Source, TableSource
from streamlib.topology.processor_api import ProcessorSupplier, gives_one_object, one_object
from streamlib.topology.processor_nodes import ProcessorNode
from streamlib.topology.topology import Topology

K = TypeVar("K")
V = TypeVar("V")
Topics = str | Iterable[str] | re.Pattern[str]


class StreamsBuilder:
    """Makes a topology out of streams and tables.

    Args:
        name: The default application id: names the consumer group, the internal topics and the state.
        default_key_serde: For topics that are read without a serde, and for keys that an operation has changed
            without naming one. None: topics are read as raw bytes, changed keys are written like those before.
        default_value_serde: The same for values.
        in_memory: Whether stores live in memory where an operation says nothing else, instead of RocksDB.

    Mistakes do not raise where they are made, but all together in `build`.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        default_key_serde: AnySerde | None = None,
        default_value_serde: AnySerde | None = None,
        in_memory: bool = False,
    ) -> None:
        self._name = name
        self._graph = Graph(Defaults(default_key_serde, default_value_serde, in_memory), KStream)
        if name is not None:
            self._graph.check_name(name, "the builder's name")

    @overload
    def stream(
        self, topics: Topics, key_serde: Serde[K], value_serde: Serde[V], **consumed: Unpack[Consumed]
    ) -> KStream[K, V]: ...
    @overload
    def stream(self, topics: Topics, key_serde: Serde[K], **consumed: Unpack[Consumed]) -> KStream[K, Any]: ...
    @overload
    def stream(self, topics: Topics, *, value_serde: Serde[V], **consumed: Unpack[Consumed]) -> KStream[Any, V]: ...
    @overload
    def stream(self, topics: Topics, **consumed: Unpack[Consumed]) -> KStream[Any, Any]: ...
    def stream(
        self,
        topics: Topics,
        key_serde: AnySerde | None = None,
        value_serde: AnySerde | None = None,
        **consumed: Unpack[Consumed],
    ) -> KStream[Any, Any]:
        """The records of one or several topics; there is no order between topics and partitions.

        Args:
            topics: Names of topics that exist; or a compiled pattern, for all topics whose whole names match it, also
                those that are made while the application runs. Streams of the same topics are read once.
            key_serde: How keys are read.
            value_serde: How values are read.
            consumed: See `Consumed`.
        """
        options = SourceOptions(**consumed)
        if isinstance(topics, re.Pattern):
            source = replace(self._source((), options, "", key_serde, value_serde), pattern=topics)
        else:
            names = (topics,) if isinstance(topics, str) else tuple(topics)
            if not names:
                self._graph.problems.append("a stream needs at least one topic")
            source = self._source(names, options, "", key_serde, value_serde)
        step = Step([source], source_kind="stream")
        self._graph.add(step)
        return KStream(self._flow(step, source))

    @overload
    def table(
        self, topic: str, key_serde: Serde[K], value_serde: Serde[V], **options: Unpack[ConsumedMaterialized]
    ) -> KTable[K, V]: ...
    @overload
    def table(self, topic: str, key_serde: Serde[K], **options: Unpack[ConsumedMaterialized]) -> KTable[K, Any]: ...
    @overload
    def table(
        self, topic: str, *, value_serde: Serde[V], **options: Unpack[ConsumedMaterialized]
    ) -> KTable[Any, V]: ...
    @overload
    def table(self, topic: str, **options: Unpack[ConsumedMaterialized]) -> KTable[Any, Any]: ...
    def table(
        self,
        topic: str,
        key_serde: AnySerde | None = None,
        value_serde: AnySerde | None = None,
        **options: Unpack[ConsumedMaterialized],
    ) -> KTable[Any, Any]:
        """The latest value for each key of a topic; records without a key are dropped and counted.

        Args:
            topic: Name of a topic that exists; should be compacted.
            key_serde: How keys are read and stored.
            value_serde: How values are read and stored.
            options: See `Consumed` and `Materialized`.

        State: A store if it is named, or once an operation needs the table's rows.
        """
        consumed, materialized = source_and_store(options)
        key_serde, value_serde = self._serdes(key_serde, value_serde, topic)
        spec = self._graph.store(materialized, f"{topic}-", key_serde, value_serde)
        source = self._source((topic,), consumed, "-source", key_serde, value_serde)
        node = TableSource(name=self._graph.name(consumed.name, "KTABLE-SOURCE-"), parents=(source.name,))
        step = TableStep([source, node], source_kind="table", spec=spec)
        if materialized.store_name is not None:
            step.materialize()
        self._graph.add(step)
        return KTable(self._flow(step, source), materialized.store_name)

    @overload
    def global_table(
        self, topic: str, key_serde: Serde[K], value_serde: Serde[V], **options: Unpack[ConsumedMaterialized]
    ) -> GlobalKTable[K, V]: ...
    @overload
    def global_table(
        self, topic: str, key_serde: Serde[K], **options: Unpack[ConsumedMaterialized]
    ) -> GlobalKTable[K, Any]: ...
    @overload
    def global_table(
        self, topic: str, *, value_serde: Serde[V], **options: Unpack[ConsumedMaterialized]
    ) -> GlobalKTable[Any, V]: ...
    @overload
    def global_table(self, topic: str, **options: Unpack[ConsumedMaterialized]) -> GlobalKTable[Any, Any]: ...
    def global_table(
        self,
        topic: str,
        key_serde: AnySerde | None = None,
        value_serde: AnySerde | None = None,
        **options: Unpack[ConsumedMaterialized],
    ) -> GlobalKTable[Any, Any]:
        """The latest value for each key of all partitions of a topic, held whole by every worker.

        Args:
            topic: Name of a topic that exists; should be compacted. It is the store's changelog too.
            key_serde: How keys are read and stored.
            value_serde: How values are read and stored.
            options: See `Consumed` and `Materialized`.
        """
        consumed, materialized = source_and_store(options)
        key_serde, value_serde = self._serdes(key_serde, value_serde, topic)
        spec = self._graph.store(materialized, f"{topic}-", key_serde, value_serde)
        if materialized.versioned is not None:
            self._graph.problems.append(f'the global table of "{topic}" cannot be versioned: leave out versioned=')
        if materialized.ttl is not None:
            self._graph.problems.append(f'rows of the global table of "{topic}" cannot expire: leave out ttl=')
        spec = replace(spec, source_topic=topic, logging=False, caching=False)
        source = self._source((topic,), consumed, "-source", key_serde, value_serde)
        node = TableSource(name=self._graph.name(consumed.name, "KTABLE-SOURCE-"), parents=(source.name,))
        step = TableStep([source, node], source_kind="global table", spec=spec)
        step.materialize()
        self._graph.add(step)
        return GlobalKTable(self._graph, spec.name, materialized.store_name)

    def add_state_store(self, spec: StoreSpec) -> None:
        """Add a store, made with `Stores`, that processors will use by name; one that nothing uses is a mistake."""
        self._graph.check_name(spec.name, "the store name")
        self._graph.add(Step(stores=[spec]))

    def add_global_store(
        self,
        spec: StoreSpec,
        topic: str,
        supplier: ProcessorSupplier[Any, Any, Any, Any],
        *,
        key_serde: AnySerde | None = None,
        value_serde: AnySerde | None = None,
        name: str | None = None,
    ) -> None:
        """Add a store that a processor fills from all partitions of a topic, in every worker; all processors read it.

        The processor writes the store and forwards nothing. It takes the topic's records again in a worker that has
        lost its state, so what it writes must follow from the records alone.

        Args:
            spec: The store, made with `Stores`; it has no changelog.
            topic: Name of a topic that exists, and is read for nothing else.
            supplier: Gives the processor.
            key_serde: How keys are read, if not as the store's are.
            value_serde: How values are read, likewise.
            name: Of the processor's node.

        Source: StreamsBuilder.addGlobalStore.
        """
        self._graph.check_name(spec.name, "the store name")
        options = SourceOptions(name=name)
        key_serde, value_serde = key_serde or spec.key_serde, value_serde or spec.value_serde
        source = self._source((topic,), options, "-source", key_serde, value_serde)
        processor = self._graph.name(name, "KTABLE-SOURCE-")
        if gives_one_object(supplier):
            self._graph.problems.append(one_object(processor))
        node = ProcessorNode(name=processor, parents=(source.name,), stores=(spec.name,), supplier=supplier)
        stores = [replace(spec, source_topic=topic, logging=False, caching=False)]
        self._graph.add(Step([source, node], stores=stores, source_kind="global table"))

    def build(self, *, require_names: bool = False, optimization: Optimization = "none") -> Topology:
        """The finished topology; the builder may go on and build a larger one.

        Args:
            require_names: Whether stores and repartition topics with generated names are a mistake.
            optimization: How to save internal topics and stores: ``"all"``, ``"none"``, or some of
                ``reuse.ktable.source.topics`` (the topic a table is read from is its changelog, and must be compacted;
                rows come back with the times of its records, whatever a timestamp extractor makes of them),
                ``merge.repartition.topics`` (one topic behind each change of keys) and ``single.store.self.join``.
                Switching one on or off changes internal topics: `streamlib topology diff` says which.

        Raises:
            TopologyError: The topology has mistakes; all of them are in ``problems``.

        Warns:
            UnstableNameWarning: Some stores or repartition topics have generated names (unless ``require_names``).
        """
        problems = list(self._graph.problems)
        plan, found = lay_out(self._graph, self._name, chosen_rules(optimization, problems))
        problems += [*found, *validate.problems(plan)]
        if unstable := validate.unstable_names(plan):
            moving = (
                f"generated names move when the topology is edited, and their data is lost: {', '.join(unstable)}. "
                "Give the operations that make them store= and name="
            )
            if require_names:
                problems.append(moving)
            else:
                warnings.warn(moving, UnstableNameWarning, stacklevel=2)
        if problems:
            raise TopologyError(problems)
        return plan.topology()

    def _source(
        self,
        topics: tuple[str, ...],
        consumed: SourceOptions,
        suffix: str,
        key_serde: AnySerde | None,
        value_serde: AnySerde | None,
    ) -> Source:
        for topic in topics:
            self._graph.check_name(topic, "the topic name")
        key_serde, value_serde = self._serdes(key_serde, value_serde, ", ".join(map(str, topics)))
        return Source(
            name=self._graph.name(consumed.name, "KSTREAM-SOURCE-", suffix),
            topics=topics,
            key_serde=key_serde,
            value_serde=value_serde,
            timestamp_extractor=consumed.timestamp_extractor,
            offset_reset=self._offset_reset(consumed.offset_reset, ", ".join(map(str, topics)) or "a pattern"),
            on_error=consumed.on_error,
        )

    def _offset_reset(self, given: GivenReset | None, topic: str) -> OffsetReset | None:
        try:
            return None if given is None else offset_reset(given)
        except ValueError as error:
            self._graph.problems.append(f'the offset_reset of "{topic}" {error}')
            return None

    def _serdes(
        self, key_serde: AnySerde | None, value_serde: AnySerde | None, topic: str
    ) -> tuple[AnySerde, AnySerde]:
        where = f'"{topic}"'
        return (
            self._graph.new_key_serde(key_serde, BYTES, where),
            self._graph.new_value_serde(value_serde, BYTES, where),
        )

    def _flow(self, step: Step, source: Source) -> Flow:
        return Flow(self._graph, step, source.key_serde, source.value_serde, frozenset({source.name}))
