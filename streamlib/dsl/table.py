"""`KTable`, `GlobalKTable`, `KGroupedTable`: the latest value for each key, and aggregates over those.

Next: `topology/nodes`, what is left of a table in the plan.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, Unpack, overload

from streamlib.dsl.flow import Flow, repartition_sink
from streamlib.dsl.graph import Graph, Step, TableStep
from streamlib.dsl.options import Materialized, MaterializedValues, StoreOptions, values_and_store
from streamlib.dsl.processing import values_transformed
from streamlib.dsl.suppress import suppress
from streamlib.dsl.table_joins import TableJoins
from streamlib.error_policies import OnError
from streamlib.serdes.base import AnySerde, Serde
from streamlib.serdes.changed import changed
from streamlib.serdes.primitives import INT64
from streamlib.state.spec import StoreSpec
from streamlib.topology.nodes import Source, TableAggregate, TableFilter, TableGroupBy, TableMapValues, TableToStream
from streamlib.topology.processor_api import ValueTransformerWithKeySupplier
from streamlib.topology.subtopologies import RepartitionTopic
from streamlib.topology.suppressed import Suppressed

if TYPE_CHECKING:
    from streamlib.dsl.stream import KStream

K = TypeVar("K")
V = TypeVar("V")
KR = TypeVar("KR")
VR = TypeVar("VR")


class KTable(TableJoins[K, V]):
    """A table: updates by key, of which the last one counts; None deletes.

    Made by `StreamsBuilder.table`, `KStream.to_table`, aggregations and joins. Operations that take store options make
    a store only if it is named; without one their rows are computed from the tables above when somebody asks for them.
    """

    @property
    def queryable_store_name(self) -> str | None:
        """The name by which the table's store can be asked for; None when there is no store meant to be."""
        return self._store_name

    def filter(
        self,
        predicate: Callable[[K, V], object],
        *,
        name: str | None = None,
        on_error: OnError | None = None,
        **materialized: Unpack[Materialized],
    ) -> "KTable[K, V]":
        """The rows for which ``predicate(key, value)`` holds; a row that no longer passes is deleted.

        Source: KTable.filter.
        """
        return self._filter(predicate, False, name, on_error, StoreOptions(**materialized))

    def filter_not(
        self,
        predicate: Callable[[K, V], object],
        *,
        name: str | None = None,
        on_error: OnError | None = None,
        **materialized: Unpack[Materialized],
    ) -> "KTable[K, V]":
        """The rows for which ``predicate(key, value)`` does not hold.

        Source: KTable.filterNot.
        """
        return self._filter(predicate, True, name, on_error, StoreOptions(**materialized))

    @overload
    def map_values(
        self,
        mapper: Callable[[V], VR],
        *,
        with_key: Literal[False] = False,
        **options: Unpack[MaterializedValues[VR]],
    ) -> "KTable[K, VR]": ...
    @overload
    def map_values(
        self, mapper: Callable[[K, V], VR], *, with_key: Literal[True], **options: Unpack[MaterializedValues[VR]]
    ) -> "KTable[K, VR]": ...
    def map_values(
        self, mapper: Callable[..., Any], *, with_key: bool = False, **options: Unpack[MaterializedValues[Any]]
    ) -> "KTable[K, Any]":
        """The same keys with ``mapper(value)``, or ``mapper(key, value)``; never called for deletions.

        Source: KTable.mapValues.
        """
        values, store = values_and_store(options)
        serde = self._flow.new_value_serde(values.value_serde, values.name or "map_values")
        spec = self._named_store("KTABLE-MAPVALUES-", store, serde)
        node_name = self._flow.graph.name(values.name, "KTABLE-MAPVALUES-")
        node = TableMapValues(
            name=node_name,
            mapper=mapper,
            with_key=with_key,
            all_latest=store.asked_for and spec is None,
            on_error=values.on_error,
        )
        return self._then(node, spec, serde)

    def transform_values(
        self,
        supplier: ValueTransformerWithKeySupplier[K, V, VR],
        *stores: str,
        **options: Unpack[MaterializedValues[VR]],
    ) -> "KTable[K, VR]":
        """The same keys with the values that a `ValueTransformerWithKey` makes, which may look into stores.

        Args:
            supplier: Gives a new transformer for each task, and one more for each join that reads a table without a
                store; often the class itself.
            stores: Names of stores it uses beside those the supplier brings.
            options: See `MaterializedValues`. With a store of its own, old values are not transformed again.

        Source: KTable.transformValues (KIP-292).
        """
        values, store = values_and_store(options)
        serde = self._flow.new_value_serde(values.value_serde, values.name or "transform_values")
        spec = self._named_store("KTABLE-TRANSFORMVALUES-", store, serde)
        name = self._flow.graph.name(values.name, "KTABLE-TRANSFORMVALUES-")
        flow = values_transformed(self._flow, supplier, stores, (name, spec), serde, values.on_error)
        return KTable(flow, None if spec is None else spec.name)

    @overload
    def to_stream(self, *, name: str | None = None) -> "KStream[K, V]": ...
    @overload
    def to_stream(
        self, mapper: Callable[[K, V], KR], *, name: str | None = None, key_serde: Serde[KR] | None = None
    ) -> "KStream[KR, V]": ...
    def to_stream(
        self,
        mapper: Callable[[K, V], Any] | None = None,
        *,
        name: str | None = None,
        key_serde: AnySerde | None = None,
    ) -> "KStream[Any, V]":
        """The updates as records, deletions as records without a value; with a mapper, under new keys.

        Source: KTable.toStream.
        """
        node = TableToStream(name=self._flow.graph.name(name, "KTABLE-TOSTREAM-"))
        stream: KStream[K, V] = self._flow.graph.make_stream(self._flow.then(node))
        return stream if mapper is None else stream.select_key(mapper, key_serde=key_serde)

    def suppress(
        self, suppressed: Suppressed, *, name: str | None = None, close_after_idle: timedelta | None = None
    ) -> "KTable[K, V]":
        """The same table, whose updates wait until their window closes, or for a time; the last of each key comes out.

        Args:
            suppressed: ``Suppressed.until_window_closes(buffer)``, for one final result of each window, or
                ``Suppressed.until_time_limit(limit, buffer)``.
            name: Of the node and, with ``-store``, of the store of what waits.
            close_after_idle: After so long without updates windows close all the same, instead of what the windowed
                aggregation above was given, or else of the worker's ``close_windows_after_idle_ms``; zero for never. No
                less than those above, or updates may come after a final result. Counts until windows close only.

        Time: That of the updates; while none come, nothing comes out. What comes out keeps its timestamp and headers.

        State: What waits is in memory, and in a changelog topic from the next commit on. The table above gets a store
            if it has none, since old values are needed.

        Source: KTable.suppress (KIP-328).
        """
        return KTable(suppress(self._flow, suppressed, name, close_after_idle))

    def group_by(
        self,
        mapper: Callable[[K, V], tuple[KR, VR]],
        *,
        name: str | None = None,
        key_serde: Serde[KR] | None = None,
        value_serde: Serde[VR] | None = None,
        on_error: OnError | None = None,
    ) -> "KGroupedTable[KR, VR]":
        """The rows under the new keys and values that ``mapper(key, value)`` gives, to be aggregated.

        Args:
            mapper: Called for the old and for the new side of each update; a pair with a None in it is left out.
            name: Of the node and, with ``-repartition``, of the repartition topic.
            key_serde: Of the new keys.
            value_serde: Of the new values.
            on_error: What happens to a row for which ``mapper`` raises; see `NewValues`.

        State: The table above gets a store if it has none, since the old value of an update is needed.
        Source: KTable.groupBy.
        """
        node = TableGroupBy(name=self._flow.graph.name(name, "KTABLE-SELECT-"), mapper=mapper, on_error=on_error)
        flow = self._flow.then(
            node,
            key_serde=self._flow.new_key_serde(key_serde, node.name),
            value_serde=self._flow.new_value_serde(value_serde, node.name),
        )
        self._table.send_old_values(force=True)
        return KGroupedTable(flow, name)

    def _filter(
        self,
        predicate: Callable[[K, V], object],
        negate: bool,
        name: str | None,
        on_error: OnError | None,
        options: StoreOptions,
    ) -> "KTable[K, V]":
        spec = self._named_store("KTABLE-FILTER-", options, self._flow.value_serde)
        node_name = self._flow.graph.name(name, "KTABLE-FILTER-")
        # Old values, where they cost nothing, tell which deletions nobody below has to hear of.
        send_old = self._table.send_old_values(force=False)
        node = TableFilter(
            name=node_name,
            predicate=predicate,
            negate=negate,
            send_old=send_old,
            of_versions=self._table.is_versioned,
            all_latest=options.asked_for and spec is None,
            on_error=on_error,
        )
        return self._then(node, spec)

    def _named_store(self, prefix: str, options: StoreOptions, value_serde: AnySerde) -> StoreSpec | None:
        """The store of a derived table: only a named one is made, an unnamed one just takes its number."""
        if not options.asked_for:
            return None
        spec = self._flow.graph.store(options, prefix, self._flow.key_serde, value_serde)
        return spec if options.store_name is not None else None

    def _then(
        self, node: TableFilter | TableMapValues, spec: StoreSpec | None, value_serde: AnySerde | None = None
    ) -> "KTable[K, Any]":
        step = TableStep([node], spec=spec, above=self._table, unversioned=node.all_latest)
        step.materialize()
        self._flow.graph.add(step, self._table)
        return KTable(self._flow.after(step, value_serde=value_serde), None if spec is None else spec.name)


class GlobalKTable(Generic[K, V]):
    """A table that every worker holds whole; streams can be joined with it by any key of theirs."""

    def __init__(self, graph: Graph, store: str, store_name: str | None) -> None:
        self._graph = graph
        self._store = store
        self._store_name = store_name

    @property
    def queryable_store_name(self) -> str | None:
        """The name the user gave to the table's store; None when it has a generated one."""
        return self._store_name


class KGroupedTable(Generic[K, V]):
    """A table grouped by a new key; an aggregate takes old values out and new ones in.

    Its updates always go through a repartition topic, named after ``group_by(name=...)`` or else after the store.
    """

    def __init__(self, flow: Flow, name: str | None) -> None:
        self._flow = flow
        self._name = name
        self._repartition: Step | None = None

    def count(self, *, name: str | None = None, **materialized: Unpack[Materialized]) -> KTable[K, int]:
        """How many rows each key has; 0 once all are gone.

        Source: KGroupedTable.count.
        """
        node = TableAggregate(name="", kind="count", store="")
        return self._aggregate(node, "KTABLE-AGGREGATE-", name, INT64, StoreOptions(**materialized))

    def reduce(
        self,
        adder: Callable[[V, V], V],
        subtractor: Callable[[V, V], V],
        *,
        name: str | None = None,
        value_serde: Serde[V] | None = None,
        on_error: OnError | None = None,
        **materialized: Unpack[Materialized],
    ) -> KTable[K, V]:
        """The values of each key combined: ``adder(aggregate, value)``, ``subtractor(aggregate, old value)``.

        The first value of a key is its first aggregate. Source: KGroupedTable.reduce.
        """
        serde = self._flow.graph.serde(value_serde, self._flow.value_serde, f'"{name or "reduce"}"')
        node = TableAggregate(name="", kind="reduce", store="", adder=adder, subtractor=subtractor, on_error=on_error)
        return self._aggregate(node, "KTABLE-REDUCE-", name, serde, StoreOptions(**materialized))

    def aggregate(
        self,
        initializer: Callable[[], VR],
        adder: Callable[[K, V, VR], VR],
        subtractor: Callable[[K, V, VR], VR],
        *,
        name: str | None = None,
        value_serde: Serde[VR] | None = None,
        on_error: OnError | None = None,
        **materialized: Unpack[Materialized],
    ) -> KTable[K, VR]:
        """An aggregate for each key: ``adder`` and ``subtractor`` are called with (key, value, aggregate).

        The old value of an update is taken out before the new one is added. An aggregate of None deletes the row.
        Source: KGroupedTable.aggregate.
        """
        serde = self._flow.new_value_serde(value_serde, name or "aggregate")
        node = TableAggregate(
            name="",
            kind="aggregate",
            store="",
            initializer=initializer,
            adder=adder,
            subtractor=subtractor,
            on_error=on_error,
        )
        return self._aggregate(node, "KTABLE-AGGREGATE-", name, serde, StoreOptions(**materialized))

    def _aggregate(
        self, node: TableAggregate, prefix: str, name: str | None, value_serde: AnySerde, options: StoreOptions
    ) -> KTable[K, Any]:
        graph = self._flow.graph
        spec = graph.store(options, "KTABLE-AGGREGATE-", self._flow.key_serde, value_serde)
        sink, source = graph.name(name, "KSTREAM-SINK-", "-sink"), graph.name(name, "KSTREAM-SOURCE-", "-source")
        node = replace(node, name=graph.name(name, prefix))
        if self._repartition is None or self._name is None:
            self._repartition = self._repartition_step(sink, source, f"{self._name or spec.name}-repartition")
        graph.add(self._repartition, self._flow.step)
        step = TableStep([node], spec=spec)
        step.materialize()
        graph.add(step, self._repartition)
        flow = self._flow.behind(self._repartition).after(step, value_serde=value_serde)
        return KTable(flow, options.store_name)

    def _repartition_step(self, sink: str, source: str, topic: str) -> Step:
        key_serde, value_serde = self._flow.key_serde, changed(self._flow.value_serde)
        return Step(
            [
                repartition_sink(sink, self._flow.step.output, topic, key_serde, value_serde),
                Source(name=source, topics=(topic,), key_serde=key_serde, value_serde=value_serde),
            ],
            source_kind="repartition",
            repartition_topic=RepartitionTopic(topic),
        )
