"""`TimeWindowedKStream`: a stream grouped by key and window. Next: `table`, what an aggregation makes."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar, Unpack

from streamlib.dsl.grouping import Grouping
from streamlib.dsl.options import Materialized, StoreOptions
from streamlib.dsl.table import KTable
from streamlib.record import Windowed
from streamlib.serdes.base import Serde
from streamlib.serdes.windowed import time_windowed_ms
from streamlib.state.spec import StoreSpec
from streamlib.topology.nodes import WindowAggregate
from streamlib.topology.windows import TimeWindows

K = TypeVar("K")
V = TypeVar("V")
VR = TypeVar("VR")


class TimeWindowedKStream(Generic[K, V]):
    """A stream grouped by key and by tumbling or hopping windows; made by `KGroupedStream.windowed_by`.

    Each aggregation makes a window store and its changelog. A record goes into every window that contains its
    timestamp and is not closed yet; records for closed windows are dropped and counted. Null keys are dropped and
    counted, null values are not.
    """

    def __init__(self, grouping: Grouping, windows: TimeWindows) -> None:
        self._grouping = grouping
        self._windows = windows

    def count(self, *, name: str | None = None, **materialized: Unpack[Materialized]) -> KTable[Windowed[K], int]:
        """How many records each key has in each window.

        Source: TimeWindowedKStream.count.
        """
        options = StoreOptions(**materialized)
        spec = self._grouping.count_store(options, self._windows)
        node_name = self._grouping.flow.graph.name(name, "KSTREAM-AGGREGATE-")
        node = WindowAggregate(name=node_name, windows=self._windows, kind="count", store=spec.name)
        return self._aggregate(node, spec, options)

    def reduce(
        self,
        reducer: Callable[[V, V], V],
        *,
        name: str | None = None,
        value_serde: Serde[V] | None = None,
        **materialized: Unpack[Materialized],
    ) -> KTable[Windowed[K], V]:
        """The values of each key and window combined: ``reducer(aggregate, value)``, beginning with the first value.

        Source: TimeWindowedKStream.reduce.
        """
        options, flow = StoreOptions(**materialized), self._grouping.flow
        serde = flow.graph.serde(value_serde, flow.value_serde, f'"{name or "reduce"}"')
        spec = self._grouping.store(options, "KSTREAM-REDUCE-", serde, self._windows)
        node_name = flow.graph.name(name, "KSTREAM-REDUCE-")
        node = WindowAggregate(
            name=node_name, windows=self._windows, kind="reduce", store=spec.name, aggregator=reducer
        )
        return self._aggregate(node, spec, options)

    def aggregate(
        self,
        initializer: Callable[[], VR],
        aggregator: Callable[[K, V, VR], VR],
        *,
        name: str | None = None,
        value_serde: Serde[VR] | None = None,
        **materialized: Unpack[Materialized],
    ) -> KTable[Windowed[K], VR]:
        """An aggregate for each key and window: ``aggregator(key, value, aggregate)``.

        The first aggregate is made of ``initializer()``. Source: TimeWindowedKStream.aggregate.
        """
        options, flow = StoreOptions(**materialized), self._grouping.flow
        serde = flow.new_value_serde(value_serde, name or "aggregate")
        spec = self._grouping.store(options, "KSTREAM-AGGREGATE-", serde, self._windows)
        node = WindowAggregate(
            name=flow.graph.name(name, "KSTREAM-AGGREGATE-"),
            windows=self._windows,
            kind="aggregate",
            store=spec.name,
            initializer=initializer,
            aggregator=aggregator,
        )
        return self._aggregate(node, spec, options)

    def _aggregate(self, node: WindowAggregate, spec: StoreSpec, options: StoreOptions) -> KTable[Windowed[K], Any]:
        flow = self._grouping.aggregate(node, spec)
        key_serde = time_windowed_ms(flow.key_serde, self._windows.size_ms)
        return KTable(flow.after(flow.step, key_serde=key_serde), options.store_name)
