"""`KGroupedStream`: a stream grouped by key. Next: `windowed`, the same by key and window; `table`, the result."""

from collections.abc import Callable
from typing import Generic, TypeVar, Unpack

from streamlib.dsl.flow import Flow
from streamlib.dsl.grouping import Grouping
from streamlib.dsl.options import Materialized, StoreOptions
from streamlib.dsl.table import KTable
from streamlib.dsl.windowed import TimeWindowedKStream
from streamlib.serdes.base import Serde
from streamlib.topology.nodes import StreamAggregate
from streamlib.topology.windows import TimeWindows

K = TypeVar("K")
V = TypeVar("V")
VR = TypeVar("VR")


class KGroupedStream(Generic[K, V]):
    """A stream grouped by key; made by `KStream.group_by` and `KStream.group_by_key`.

    Each aggregation makes a store and its changelog, and a repartition topic if keys may have changed since the
    records were read. Records without a key or a value are dropped and counted.
    """

    def __init__(self, flow: Flow, name: str | None) -> None:
        self._grouping = Grouping(flow, name)

    def count(self, *, name: str | None = None, **materialized: Unpack[Materialized]) -> KTable[K, int]:
        """How many records each key has.

        Source: KGroupedStream.count.
        """
        options = StoreOptions(**materialized)
        spec = self._grouping.count_store(options)
        node_name = self._grouping.flow.graph.name(name, "KSTREAM-AGGREGATE-")
        node = StreamAggregate(name=node_name, kind="count", store=spec.name)
        return KTable(self._grouping.aggregate(node, spec), options.store_name)

    def reduce(
        self,
        reducer: Callable[[V, V], V],
        *,
        name: str | None = None,
        value_serde: Serde[V] | None = None,
        **materialized: Unpack[Materialized],
    ) -> KTable[K, V]:
        """The values of each key combined: ``reducer(aggregate, value)``, beginning with the first value.

        A result of None deletes the row. Source: KGroupedStream.reduce.
        """
        options, flow = StoreOptions(**materialized), self._grouping.flow
        serde = flow.graph.serde(value_serde, flow.value_serde, f'"{name or "reduce"}"')
        spec = self._grouping.store(options, "KSTREAM-REDUCE-", serde)
        node_name = flow.graph.name(name, "KSTREAM-REDUCE-")
        node = StreamAggregate(name=node_name, kind="reduce", store=spec.name, aggregator=reducer)
        return KTable(self._grouping.aggregate(node, spec), options.store_name)

    def aggregate(
        self,
        initializer: Callable[[], VR],
        aggregator: Callable[[K, V, VR], VR],
        *,
        name: str | None = None,
        value_serde: Serde[VR] | None = None,
        **materialized: Unpack[Materialized],
    ) -> KTable[K, VR]:
        """An aggregate for each key: ``aggregator(key, value, aggregate)``, beginning with ``initializer()``.

        A result of None deletes the row. Return a new object rather than changing the aggregate in place: the old one
        may still be needed. Source: KGroupedStream.aggregate.
        """
        options, flow = StoreOptions(**materialized), self._grouping.flow
        serde = flow.new_value_serde(value_serde, name or "aggregate")
        spec = self._grouping.store(options, "KSTREAM-AGGREGATE-", serde)
        node = StreamAggregate(
            name=flow.graph.name(name, "KSTREAM-AGGREGATE-"),
            kind="aggregate",
            store=spec.name,
            initializer=initializer,
            aggregator=aggregator,
        )
        return KTable(self._grouping.aggregate(node, spec), options.store_name)

    def windowed_by(self, windows: TimeWindows) -> TimeWindowedKStream[K, V]:
        """The same records grouped by window as well."""
        if not isinstance(windows, TimeWindows):
            msg = f"windowed_by needs TimeWindows.of(timedelta(...)), got {windows!r}"  # type: ignore[unreachable]
            self._grouping.flow.graph.problems.append(msg)
            windows = TimeWindows(1, 1)
        return TimeWindowedKStream(self._grouping, windows)
