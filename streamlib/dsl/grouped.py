"""`KGroupedStream`, a stream grouped by key, and `CogroupedKStream`, several of them in one aggregate.

Next: `windowed`, `session_windowed` and `cogrouped`, the same by key and window; `table`, the result.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Generic, TypeVar, Unpack, overload

from streamlib.dsl.cogrouped import SessionWindowedCogroupedKStream, TimeWindowedCogroupedKStream
from streamlib.dsl.cogrouping import PREFIX, Aggregator, Cogrouping
from streamlib.dsl.flow import Flow
from streamlib.dsl.grouping import Grouping
from streamlib.dsl.idle import idle_ms
from streamlib.dsl.options import Materialized, StoreOptions
from streamlib.dsl.session_windowed import SessionWindowedKStream
from streamlib.dsl.table import KTable
from streamlib.dsl.windowed import TimeWindowedKStream
from streamlib.error_policies import OnError
from streamlib.serdes.base import Serde
from streamlib.topology.nodes import Node, StreamAggregate
from streamlib.topology.windows import FixedWindows, SessionWindows, TimeWindows

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
        on_error: OnError | None = None,
        **materialized: Unpack[Materialized],
    ) -> KTable[K, V]:
        """The values of each key combined: ``reducer(aggregate, value)``, beginning with the first value.

        A result of None deletes the row. Source: KGroupedStream.reduce.
        """
        options, flow = StoreOptions(**materialized), self._grouping.flow
        serde = flow.graph.serde(value_serde, flow.value_serde, f'"{name or "reduce"}"')
        spec = self._grouping.store(options, "KSTREAM-REDUCE-", serde)
        node_name = flow.graph.name(name, "KSTREAM-REDUCE-")
        node = StreamAggregate(name=node_name, kind="reduce", store=spec.name, aggregator=reducer, on_error=on_error)
        return KTable(self._grouping.aggregate(node, spec), options.store_name)

    def aggregate(
        self,
        initializer: Callable[[], VR],
        aggregator: Callable[[K, V, VR], VR],
        *,
        name: str | None = None,
        value_serde: Serde[VR] | None = None,
        on_error: OnError | None = None,
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
            on_error=on_error,
        )
        return KTable(self._grouping.aggregate(node, spec), options.store_name)

    @overload
    def windowed_by(
        self, windows: FixedWindows, *, close_after_idle: timedelta | None = None
    ) -> TimeWindowedKStream[K, V]: ...
    @overload
    def windowed_by(
        self, windows: SessionWindows, *, close_after_idle: timedelta | None = None
    ) -> SessionWindowedKStream[K, V]: ...
    def windowed_by(self, windows: FixedWindows | SessionWindows, *, close_after_idle: timedelta | None = None) -> Any:
        """The same records grouped by window as well.

        Args:
            windows: Time, sliding, unlimited or session windows.
            close_after_idle: After so long without records windows close all the same, instead of the worker's
                ``close_windows_after_idle_ms``; zero for never.
        """
        idle = idle_ms(self._grouping.flow.graph, close_after_idle, "windowed_by")
        if isinstance(windows, SessionWindows):
            return SessionWindowedKStream[K, V](self._grouping, windows, idle_ms=idle)
        return TimeWindowedKStream[K, V](self._grouping, fixed(windows, self._grouping), idle_ms=idle)

    def cogroup(self, aggregator: Callable[[K, V, VR], VR]) -> "CogroupedKStream[K, VR]":
        """This stream, to be aggregated together with others: its records by ``aggregator(key, value, aggregate)``.

        Source: KGroupedStream.cogroup.
        """
        return CogroupedKStream(Cogrouping(self._grouping, aggregator))


class CogroupedKStream(Generic[K, VR]):
    """Grouped streams with equal keys, each with an aggregator of its own; made by `KGroupedStream.cogroup`.

    One aggregation of all of them takes one store, and gives the same as outer joins of their aggregations would, at
    less cost. Each stream that may have changed its keys gets a repartition topic.
    """

    def __init__(self, cogrouping: Cogrouping) -> None:
        self._cogrouping = cogrouping

    def cogroup(self, grouped: KGroupedStream[K, V], aggregator: Callable[[K, V, VR], VR]) -> "CogroupedKStream[K, VR]":
        """This, with one more stream: its records go into the aggregate by ``aggregator(key, value, aggregate)``.

        Source: CogroupedKStream.cogroup.
        """
        self._cogrouping.add(grouped._grouping, aggregator)
        return self

    def aggregate(
        self,
        initializer: Callable[[], VR],
        *,
        name: str | None = None,
        value_serde: Serde[VR] | None = None,
        on_error: OnError | None = None,
        **materialized: Unpack[Materialized],
    ) -> KTable[K, VR]:
        """An aggregate for each key, beginning with ``initializer()``; a result of None deletes the row.

        Records without a key or a value are dropped and counted. Source: CogroupedKStream.aggregate.
        """
        options, flow = StoreOptions(**materialized), self._cogrouping.first.flow
        spec = self._cogrouping.first.store(options, PREFIX, flow.new_value_serde(value_serde, name or "aggregate"))

        def node(node_name: str, aggregator: Aggregator) -> Node:
            return StreamAggregate(
                name=node_name,
                kind="aggregate",
                store=spec.name,
                initializer=initializer,
                aggregator=aggregator,
                on_error=on_error,
            )

        return KTable(self._cogrouping.aggregate(name, spec, node), options.store_name)

    @overload
    def windowed_by(
        self, windows: FixedWindows, *, close_after_idle: timedelta | None = None
    ) -> TimeWindowedCogroupedKStream[K, VR]: ...
    @overload
    def windowed_by(
        self, windows: SessionWindows, *, close_after_idle: timedelta | None = None
    ) -> SessionWindowedCogroupedKStream[K, VR]: ...
    def windowed_by(self, windows: FixedWindows | SessionWindows, *, close_after_idle: timedelta | None = None) -> Any:
        """The same records grouped by window as well.

        Args:
            windows: Time, sliding, unlimited or session windows.
            close_after_idle: As in `KGroupedStream.windowed_by`, for each stream by itself.
        """
        cogrouping = self._cogrouping
        idle = idle_ms(cogrouping.first.flow.graph, close_after_idle, "windowed_by")
        if isinstance(windows, SessionWindows):
            return SessionWindowedCogroupedKStream[K, VR](cogrouping, windows, idle_ms=idle)
        return TimeWindowedCogroupedKStream[K, VR](cogrouping, fixed(windows, cogrouping.first), idle_ms=idle)


def fixed(windows: FixedWindows, grouping: Grouping) -> FixedWindows:
    """The windows that were given; something else is noted."""
    if isinstance(windows, FixedWindows):
        return windows
    msg = f"windowed_by needs windows, e.g. TimeWindows.of(timedelta(...)), got {windows!r}"  # type: ignore[unreachable]
    grouping.flow.graph.problems.append(msg)
    return TimeWindows(1, 1)
