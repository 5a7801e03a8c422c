"""`SessionWindowedKStream`: a stream grouped by key and session. Next: `table`, what an aggregation makes."""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Generic, TypeVar, Unpack

from streamlib.dsl.graph import Graph
from streamlib.dsl.grouping import Grouping, retention_of
from streamlib.dsl.late import LateTo
from streamlib.dsl.options import Materialized, StoreOptions
from streamlib.dsl.table import KTable
from streamlib.error_policies import OnError
from streamlib.record import Windowed
from streamlib.serdes.base import AnySerde, Serde
from streamlib.serdes.primitives import INT64
from streamlib.serdes.windowed import session_windowed
from streamlib.state.spec import StoreSpec
from streamlib.topology.session_nodes import SessionAggregate
from streamlib.topology.windows import EmitStrategy, SessionWindows

log = logging.getLogger(__name__)

K = TypeVar("K")
V = TypeVar("V")
VR = TypeVar("VR")


class SessionWindowedKStream(Generic[K, V]):
    """A stream grouped by key and by sessions; made by `KGroupedStream.windowed_by`.

    Each aggregation makes a session store and its changelog. A record joins the sessions of its key that lie within the
    inactivity gap to one: those are deleted, and the new one reaches from their first record to their last. Records for
    closed sessions are dropped and counted, and so are null keys; null values are not.

    With ``late_to`` an aggregation also passes on each record it drops as late, as `TimeWindowedKStream` does; the
    window it has missed is the session that it would have made or joined.
    """

    def __init__(
        self,
        grouping: Grouping,
        windows: SessionWindows,
        emit: EmitStrategy = EmitStrategy.ON_WINDOW_UPDATE,
        *,
        idle_ms: int | None = None,
    ) -> None:
        self._grouping = grouping
        self._windows = windows
        self._emit = emit
        self._idle_ms = idle_ms

    def emit_strategy(self, emit: EmitStrategy) -> "SessionWindowedKStream[K, V]":
        """The same, with aggregations that pass their results on at such times; use what is returned.

        With ``EmitStrategy.ON_WINDOW_CLOSE`` a session comes out once, when it takes no more records, with the headers
        of the record that closed it; there are no deletions then, and the store has no write cache. Results are read
        from the store, as for time windows. A store in memory forgets a session when its retention is over, and with
        the default retention that is before it is closed: nothing would come out, so give one in memory a longer
        ``retention`` (the same in Java; a warning is logged).

        Source: SessionWindowedKStream.emitStrategy (KIP-825).
        """
        if not isinstance(emit, EmitStrategy):
            msg = f"emit_strategy needs EmitStrategy.ON_WINDOW_UPDATE or ON_WINDOW_CLOSE, got {emit!r}"  # type: ignore[unreachable]
            self._grouping.flow.graph.problems.append(msg)
            return self
        return SessionWindowedKStream(self._grouping, self._windows, emit, idle_ms=self._idle_ms)

    def count(
        self,
        *,
        name: str | None = None,
        late_to: "LateTo[K, V] | None" = None,
        **materialized: Unpack[Materialized],
    ) -> KTable[Windowed[K], int]:
        """How many records each key has in each session.

        Source: SessionWindowedKStream.count.
        """
        options, graph = StoreOptions(**materialized), self._grouping.flow.graph
        self._grouping.take_count_number(options)
        spec = self._store(options, "KSTREAM-AGGREGATE-", INT64)
        node = SessionAggregate(
            name=graph.name(name, "KSTREAM-AGGREGATE-"),
            windows=self._windows,
            emit=self._emit,
            kind="count",
            store=spec.name,
        )
        return self._aggregate(node, spec, options, late_to)

    def reduce(
        self,
        reducer: Callable[[V, V], V],
        *,
        name: str | None = None,
        value_serde: Serde[V] | None = None,
        late_to: "LateTo[K, V] | None" = None,
        on_error: OnError | None = None,
        **materialized: Unpack[Materialized],
    ) -> KTable[Windowed[K], V]:
        """The values of each key and session combined: ``reducer(aggregate, value)``, beginning with the first value.

        Sessions that become one are combined by ``reducer(earlier aggregate, later aggregate)``.
        Source: SessionWindowedKStream.reduce.
        """
        options, flow = StoreOptions(**materialized), self._grouping.flow
        serde = flow.graph.serde(value_serde, flow.value_serde, f'"{name or "reduce"}"')
        spec = self._store(options, "KSTREAM-REDUCE-", serde)
        node = SessionAggregate(
            name=flow.graph.name(name, "KSTREAM-REDUCE-"),
            windows=self._windows,
            emit=self._emit,
            kind="reduce",
            store=spec.name,
            aggregator=reducer,
            on_error=on_error,
        )
        return self._aggregate(node, spec, options, late_to)

    def aggregate(
        self,
        initializer: Callable[[], VR],
        aggregator: Callable[[K, V, VR], VR],
        merger: Callable[[K, VR, VR], VR],
        *,
        name: str | None = None,
        value_serde: Serde[VR] | None = None,
        late_to: "LateTo[K, V] | None" = None,
        on_error: OnError | None = None,
        **materialized: Unpack[Materialized],
    ) -> KTable[Windowed[K], VR]:
        """An aggregate for each key and session: ``aggregator(key, value, aggregate)``.

        Before that the sessions a record joins are merged, earliest first, by ``merger(key, aggregate, session's
        aggregate)``; the first aggregate is made of ``initializer()``. Source: SessionWindowedKStream.aggregate.
        """
        options, flow = StoreOptions(**materialized), self._grouping.flow
        serde = flow.new_value_serde(value_serde, name or "aggregate")
        spec = self._store(options, "KSTREAM-AGGREGATE-", serde)
        node = SessionAggregate(
            name=flow.graph.name(name, "KSTREAM-AGGREGATE-"),
            windows=self._windows,
            emit=self._emit,
            kind="aggregate",
            store=spec.name,
            initializer=initializer,
            aggregator=aggregator,
            merger=merger,
            on_error=on_error,
        )
        return self._aggregate(node, spec, options, late_to)

    def _store(self, options: StoreOptions, prefix: str, value_serde: AnySerde) -> StoreSpec:
        flow = self._grouping.flow
        spec = flow.graph.store(options, prefix, flow.key_serde, value_serde, windowed=True)
        if self._emit is EmitStrategy.ON_WINDOW_CLOSE:
            spec = replace(spec, caching=False)
        spec = session_store(flow.graph, spec, options, self._windows)
        closes_late = spec.exact_expiry and spec.retention_ms <= self._windows.default_retention_ms
        if closes_late and self._emit is EmitStrategy.ON_WINDOW_CLOSE:
            log.warning(
                'The store "%s" is in memory and forgets sessions before they are closed, so none will ever come out: '
                "give it a retention longer than gap and grace, %d ms.",
                spec.name,
                spec.retention_ms,
            )
        return spec

    def _aggregate(
        self, node: SessionAggregate, spec: StoreSpec, options: StoreOptions, late_to: "LateTo[K, V] | None"
    ) -> KTable[Windowed[K], Any]:
        flow = self._grouping.aggregate(replace(node, idle_ms=self._idle_ms), spec, late_to)
        return KTable(flow.after(flow.step, key_serde=session_windowed(flow.key_serde)), options.store_name)


def session_store(graph: Graph, spec: StoreSpec, options: StoreOptions, windows: SessionWindows) -> StoreSpec:
    """A store as a session store, which keeps each session for the retention after its end."""
    least = windows.default_retention_ms
    retention_ms = retention_of(graph, spec, options, least, "sessions", f"gap and grace make {least} ms")
    own_expiry = not spec.persistent  # as in Java
    return replace(spec, kind="session", timestamped=False, retention_ms=retention_ms, exact_expiry=own_expiry)
