"""`CogroupedKStream` by windows: several grouped streams in one aggregate. Next: `grouped`, without windows."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar, Unpack

from streamlib.dsl.cogrouping import PREFIX, Aggregator, Cogrouping
from streamlib.dsl.late import LateTo
from streamlib.dsl.options import Materialized, StoreOptions
from streamlib.dsl.session_windowed import session_store
from streamlib.dsl.table import KTable
from streamlib.error_policies import OnError
from streamlib.record import Windowed
from streamlib.serdes.base import Serde
from streamlib.serdes.windowed import session_windowed, time_windowed_ms
from streamlib.topology.nodes import Node, WindowAggregate
from streamlib.topology.session_nodes import SessionAggregate
from streamlib.topology.windows import FixedWindows, SessionWindows

K = TypeVar("K")
VR = TypeVar("VR")


class TimeWindowedCogroupedKStream(Generic[K, VR]):
    """The same by key and by tumbling, hopping, sliding or unlimited windows.

    Each stream's aggregation keeps its own stream time: whether a record is late depends on its own stream. With
    ``late_to`` an aggregation also passes on the late records of all streams, as `TimeWindowedKStream` does: to one
    topic, each written as its stream is; or to a function that is called once for each stream.
    """

    def __init__(self, cogrouping: Cogrouping, windows: FixedWindows, *, idle_ms: int | None = None) -> None:
        self._cogrouping = cogrouping
        self._windows = windows
        self._idle_ms = idle_ms

    def aggregate(
        self,
        initializer: Callable[[], VR],
        *,
        name: str | None = None,
        value_serde: Serde[VR] | None = None,
        late_to: "LateTo[K, Any] | None" = None,
        on_error: OnError | None = None,
        **materialized: Unpack[Materialized],
    ) -> KTable[Windowed[K], VR]:
        """An aggregate for each key and window, beginning with ``initializer()``; always passed on when it changes.

        Source: TimeWindowedCogroupedKStream.aggregate.
        """
        options, flow, windows = StoreOptions(**materialized), self._cogrouping.first.flow, self._windows
        serde = flow.new_value_serde(value_serde, name or "aggregate")
        spec = self._cogrouping.first.store(options, PREFIX, serde, windows)

        def node(node_name: str, aggregator: Aggregator) -> Node:
            return WindowAggregate(
                name=node_name,
                windows=windows,
                kind="aggregate",
                store=spec.name,
                initializer=initializer,
                aggregator=aggregator,
                on_error=on_error,
                idle_ms=self._idle_ms,
            )

        table = self._cogrouping.aggregate(name, spec, node, late_to)
        key_serde = time_windowed_ms(table.key_serde, windows.size_ms)
        return KTable(table.after(table.step, key_serde=key_serde), options.store_name)


class SessionWindowedCogroupedKStream(Generic[K, VR]):
    """The same by key and by sessions, which span the records of all streams; with ``late_to`` as there."""

    def __init__(self, cogrouping: Cogrouping, windows: SessionWindows, *, idle_ms: int | None = None) -> None:
        self._cogrouping = cogrouping
        self._windows = windows
        self._idle_ms = idle_ms

    def aggregate(
        self,
        initializer: Callable[[], VR],
        merger: Callable[[K, VR, VR], VR],
        *,
        name: str | None = None,
        value_serde: Serde[VR] | None = None,
        late_to: "LateTo[K, Any] | None" = None,
        on_error: OnError | None = None,
        **materialized: Unpack[Materialized],
    ) -> KTable[Windowed[K], VR]:
        """An aggregate for each key and session, beginning with ``initializer()``; always passed on when it changes.

        Sessions that become one are merged first, as in `SessionWindowedKStream.aggregate`.
        Source: SessionWindowedCogroupedKStream.aggregate.
        """
        options, flow, windows = StoreOptions(**materialized), self._cogrouping.first.flow, self._windows
        serde = flow.new_value_serde(value_serde, name or "aggregate")
        plain = flow.graph.store(options, PREFIX, flow.key_serde, serde, windowed=True)
        spec = session_store(flow.graph, plain, options, windows)

        def node(node_name: str, aggregator: Aggregator) -> Node:
            return SessionAggregate(
                name=node_name,
                windows=windows,
                kind="aggregate",
                store=spec.name,
                initializer=initializer,
                aggregator=aggregator,
                on_error=on_error,
                merger=merger,
                idle_ms=self._idle_ms,
            )

        table = self._cogrouping.aggregate(name, spec, node, late_to)
        return KTable(table.after(table.step, key_serde=session_windowed(table.key_serde)), options.store_name)
